"""Going on with a run: for longer, from one of its checkpoints, with other settings, or with another LoRA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.conftest import make_project as make_project
from velatura import api, tensorfile
from velatura import run as runs
from velatura.api.training import going_on
from velatura.errors import AdapterError, RecipeError, RunError
from velatura.events import Event, Metric, Note, Progress, Resumed, Started
from velatura.run import Run
from velatura.training.validation import HeldOut

MakeProject = Callable[..., Path]
SHORT = ("train.steps=4", "checkpoints.every=2", "samples.count=0", "train.schedule=constant")


def trained(path: Path, **told: Any) -> list[Event]:
    """A training up to its judging."""
    events = []
    for event in api.train(path, **told):
        events.append(event)
        if isinstance(event, Progress) and event.stage == "judging":
            break
    return events


def newest(project: Path) -> Run:
    return runs.runs_of(project)[-1]


def weights(run: Run, step: int) -> dict[str, bytes]:
    saved, _ = tensorfile.read(next(one.state for one in run.checkpoints() if one.step == step))
    return {name: bytes(one.data) for name, one in saved.items() if not name.startswith("scale")}


def test_a_run_that_is_lengthened_is_one_that_was_told_so_at_first(make_project: MakeProject) -> None:
    project = make_project(*SHORT)
    trained(project)
    events = trained(newest(project).path, more=3)
    run = newest(project)
    assert [one.step for one in run.checkpoints()] == [2, 4, 6, 7]
    assert (run.recipe.train.steps, run.recipe.train.lengthened) == (7, [4])
    assert Resumed(4) in events and Started(run.path.name) in events
    trained(project, overrides=["train.steps=7"])
    other = newest(project)
    assert other.path != run.path
    assert weights(run, 7) == weights(other, 7)


def test_a_finished_run_that_is_lengthened_is_open_again(make_project: MakeProject) -> None:
    project = make_project(*SHORT)
    trained(project)
    run = newest(project)
    (run.path / "result.json").write_text("{}")
    trained(run.path, more=2)
    assert not run.finished and run.checkpoints()[-1].step == 6


def test_a_child_goes_on_from_a_checkpoint_exactly_and_records_its_parent(make_project: MakeProject) -> None:
    project = make_project(*SHORT)
    trained(project)
    parent = newest(project)
    events = trained(parent.path, start="step-000002", overrides=["samples.seed=9"])
    child = newest(project)
    assert child.path != parent.path and Resumed(2) in events
    assert weights(child, 4) == weights(parent, 4)
    record = child.provenance["parent"]
    assert (record["run"], record["step"], record["weights_only"]) == (parent.path.name, 2, False)
    grandchild = going_on.read(child.path, [], start="4", weights_only=True).recipe.train
    assert grandchild.init_from.endswith(f"{child.path.name}/checkpoints/step-000004/adapter.safetensors")
    trained(parent.path, start="2", overrides=["train.learning_rate=1e-3"])
    assert weights(newest(project), 4) != weights(parent, 4)


def test_a_child_that_was_stopped_goes_on_from_its_start_or_its_own_checkpoint(make_project: MakeProject) -> None:
    project = make_project(*SHORT)
    trained(project)
    parent = newest(project)
    for event in api.train(parent.path, start="2"):
        if isinstance(event, Progress) and event.stage == "training":
            break
    child = newest(project)
    assert child.checkpoints() == []
    assert Resumed(2) in trained(child.path)
    assert weights(child, 4) == weights(parent, 4)


def test_a_child_of_weights_alone_begins_at_step_0_with_them(make_project: MakeProject) -> None:
    project = make_project(*SHORT)
    trained(project)
    parent = newest(project)
    events = trained(
        parent.path, start="4", weights_only=True, overrides=["train.steps=1", "train.learning_rate=1e-12"]
    )
    child = newest(project)
    assert not any(isinstance(event, Resumed) for event in events)
    assert child.provenance["parent"]["weights_only"] is True
    one, other = (tensorfile.read(run.checkpoints()[-1].state)[0] for run in (parent, child))
    for name in one:
        if name.startswith("weight/"):
            before, after = tensorfile.as_float32(one[name]), tensorfile.as_float32(other[name])
            assert np.allclose(before, after, atol=1e-3), "the file is fp16"
            assert name.endswith(".down") or np.abs(after).max() > 1e-4


def test_what_changes_nothing_of_the_training_may_be_told_on_the_way(make_project: MakeProject) -> None:
    project = make_project(*SHORT)
    for event in api.train(project):
        if isinstance(event, Progress) and event.stage == "training" and event.done == 3:
            break
    run = newest(project)
    trained(run.path, overrides=["validation.strata=3", "checkpoints.keep_state=5"])
    assert run.recipe.validation.strata == 3 and run.recipe.checkpoints.keep_state == 5
    assert [one.step for one in run.checkpoints()] == [2, 4]


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"overrides": ["train.learning_rate=1"]}, "train.learning_rate decides what this run trains"),
        ({"overrides": ["dataset.flip=true"]}, r"dataset.flip decides .* --from step-N --set dataset.flip"),
        ({"new": True}, "gone on with as it is"),
        ({"weights_only": True}, "--from STEP"),
        ({"start": "9"}, "no checkpoint step-000009 .*; it has step-000002, step-000004"),
        ({"start": "2", "overrides": ["adapter.rank=5"]}, "does not fit another adapter.rank .*; add --weights-only"),
        ({"start": "2", "overrides": ["train.optimizer=lion"]}, "does not fit another train.optimizer"),
        ({"start": "2", "overrides": ["train.steps=2"]}, "2 steps are over at step-000002"),
    ],
)
def test_what_a_run_cannot_go_on_with_is_refused(told: dict[str, Any], sentence: str, make_run: Path) -> None:
    with pytest.raises((RecipeError, RunError), match=sentence):
        going_on.read(make_run, told.pop("overrides", []), **told)


def test_only_runs_are_gone_on_from(make_project: MakeProject) -> None:
    for told in ({"more": 5}, {"start": "2"}, {"weights_only": True}):
        with pytest.raises(RecipeError, match="only a run can be gone on from"):
            going_on.read(make_project(), [], **told)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def make_run(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    from tests import tiny

    project = tiny.project(tmp_path_factory.mktemp("runs") / "project", base, *SHORT)
    trained(project)
    return newest(project).path


def test_a_lora_of_another_rank_or_alpha_is_not_begun_with(make_project: MakeProject, make_run: Path) -> None:
    start = f"train.init_from={(make_run / 'checkpoints/step-000004/adapter.safetensors').as_posix()}"
    with pytest.raises(AdapterError, match=r"rank 3 at .*, the recipe 5.*set adapter.rank to 3"):
        trained(make_project(*SHORT), overrides=[start, "adapter.rank=5"])
    with pytest.raises(AdapterError, match=r"alpha 2 at .*set adapter.alpha to 2"):
        trained(make_project(*SHORT), overrides=[start, "adapter.alpha=3"])


def test_a_run_stops_by_itself_where_the_held_out_loss_does_not_fall(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([-0.01, -0.05, -0.04, -0.03, -0.02])
    monkeypatch.setattr(HeldOut, "measure", lambda _: {"held_out": next(losses)})
    project = make_project(*SHORT, "train.steps=9", "validation.every=1", "validation.patience=2")
    events = trained(project)
    run = newest(project)
    assert [one.step for one in run.checkpoints()] == [2, 4]
    assert any(isinstance(one, Note) and "has not fallen any more" in one.text for one in events)
    assert [one.values["held_out"] for one in events if isinstance(one, Metric) and "held_out" in one.values] == [
        -0.01, -0.05, -0.04, -0.03,
    ]  # fmt: skip
    again = trained(run.path)
    assert not any(isinstance(one, Progress) and one.stage == "training" for one in again), "it stays at its end"
    with pytest.raises(RunError, match=r"stopped by itself at step 4 .*; add --set validation.patience=0"):
        going_on.read(run.path, [], more=5)


def test_the_held_out_loss_is_measured_beside_the_base_and_is_its_own_at_first(make_project: MakeProject) -> None:
    told = ("train.learning_rate=1e-12", "train.steps=1", "checkpoints.every=1", "samples.count=0")
    still = trained(make_project(*told))
    (metric,) = [one for one in still if isinstance(one, Metric) and "held_out" in one.values]
    assert set(metric.values) >= {"held_out", "held_out_detail", "held_out_structure"}
    assert all(abs(value) < 1e-6 for value in metric.values.values())
