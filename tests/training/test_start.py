"""Starting a training: which run it goes on with, and what is refused before anything is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import tiny
from velatura import api, tensorfile
from velatura import run as runs
from velatura.errors import RecipeError, RunError, SettingsError, VelaturaError
from velatura.events import Checkpoint, Done, Event, Note, Progress, Resumed
from velatura.run import Run, lock

MakeProject = Callable[..., Path]
SHORT = ("train.steps=4", "checkpoints.every=2")


def judging(event: Event) -> bool:
    return isinstance(event, Progress) and event.stage == "judging"


def until_judged(events: Iterator[Event]) -> list[Event]:
    """Train, and stop where judging would begin."""
    seen = []
    for event in events:
        if judging(event):
            break
        seen.append(event)
    events.close()  # type: ignore[attr-defined]
    return seen


def until_first_checkpoint(project: Path, **told: object) -> Run:
    events = api.train(project, **told)  # type: ignore[arg-type]
    for event in events:
        if isinstance(event, Checkpoint):
            break
    events.close()  # type: ignore[attr-defined]
    return runs.runs_of(project)[-1]


def steps_done(events: list[Event]) -> list[int]:
    return [event.done for event in events if isinstance(event, Progress) and event.stage == "training"]


def test_a_recipe_goes_on_with_the_run_that_was_told_the_same(make_project: MakeProject) -> None:
    project = make_project(*SHORT)
    until_first_checkpoint(project)
    seen = until_judged(api.train(project / "recipe.toml"))
    assert Resumed(2) in seen
    assert steps_done(seen) == [3, 4]
    assert len(runs.runs_of(project)) == 1


def test_a_run_goes_on_by_its_folder_too(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(*SHORT)
    run = until_first_checkpoint(project)
    monkeypatch.chdir(project / "runs")
    assert steps_done(until_judged(api.train(Path(run.path.name)))) == [3, 4]
    assert len(runs.runs_of(project)) == 1


def test_sample_pictures_that_a_stopped_process_owed_are_painted(make_project: MakeProject) -> None:
    project = make_project(*SHORT)
    run = until_first_checkpoint(project)
    assert not (run.path / "samples" / "step-000002.png").exists()
    until_judged(api.train(project))
    assert sorted(path.name for path in (run.path / "samples").glob("*.png")) == [
        "contact.png",
        "step-000002.png",
        "step-000004.png",
    ]


@pytest.mark.parametrize(
    "told", [{"overrides": ["train.learning_rate=2e-2"]}, {"overrides": ["train.seed=5"]}, {"new": True}]
)
def test_other_settings_and_new_start_another_run(make_project: MakeProject, told: dict[str, object]) -> None:
    project = make_project(*SHORT)
    first = until_first_checkpoint(project)
    second = until_first_checkpoint(project, **told)
    assert first.path != second.path
    assert [run.path.name[:4] for run in runs.runs_of(project)] == ["0001", "0002"]
    for override in told.get("overrides", []):  # type: ignore[attr-defined]
        key, _, value = override.partition("=")
        assert str(getattr(second.recipe.train, key.removeprefix("train."))) in (value, str(float(value)))


def test_the_newest_run_that_fits_is_gone_on_with(make_project: MakeProject) -> None:
    project = make_project(*SHORT)
    until_first_checkpoint(project)
    until_first_checkpoint(project, overrides=["train.seed=5"])
    assert steps_done(until_judged(api.train(project))) == [3, 4]
    assert steps_done(until_judged(api.train(project, overrides=["train.seed=5"]))) == [3, 4]
    assert len(runs.runs_of(project)) == 2


def test_a_changed_caption_or_picture_starts_another_run(make_project: MakeProject) -> None:
    project = make_project(*SHORT)
    until_first_checkpoint(project)
    (project / "dataset" / "1.txt").write_text("another caption", encoding="utf-8")
    seen = until_judged(api.train(project))
    assert steps_done(seen) == [1, 2, 3, 4]
    tiny.picture(project / "dataset" / "99.png", (64, 64), 99)
    assert steps_done(until_judged(api.train(project))) == [1, 2, 3, 4]
    assert len(runs.runs_of(project)) == 3


def test_renaming_pictures_changes_nothing(make_project: MakeProject) -> None:
    project = make_project(*SHORT)
    until_first_checkpoint(project)
    for path in sorted((project / "dataset").iterdir()):
        path.rename(path.with_name(f"z{path.name}"))
    assert steps_done(until_judged(api.train(project))) == [3, 4]


def test_a_run_whose_pictures_have_changed_does_not_go_on(make_project: MakeProject) -> None:
    project = make_project(*SHORT)
    run = until_first_checkpoint(project)
    before = (run.path / "events.jsonl").read_bytes()
    (project / "dataset" / "1.txt").write_text("another caption", encoding="utf-8")
    with pytest.raises(RunError, match="changed"):
        until_judged(api.train(run.path))
    assert (run.path / "events.jsonl").read_bytes() == before


def test_a_run_whose_base_has_changed_does_not_go_on(make_project: MakeProject, base: Path, tmp_path: Path) -> None:
    own = shutil.copytree(base, tmp_path / "own-base")
    project = make_project(*SHORT, f"base.model={own}")
    run = until_first_checkpoint(project)
    path = own / "unet" / "diffusion_pytorch_model.safetensors"
    tensors, _ = tensorfile.read(path)
    name = "conv_out.bias"
    tensors[name] = tensorfile.raw(tensorfile.as_float32(tensors[name]) + 1)
    path.write_bytes(tensorfile.to_bytes(tensors))
    with pytest.raises(VelaturaError, match="base"):
        until_judged(api.train(run.path))
    assert steps_done(until_judged(api.train(project))) == [1, 2, 3, 4]
    assert len(runs.runs_of(project)) == 2


def test_a_run_is_not_given_other_settings(make_project: MakeProject) -> None:
    run = until_first_checkpoint(make_project(*SHORT))
    for told in ({"overrides": ["train.steps=9"]}, {"new": True}):
        with pytest.raises(RecipeError, match=r"has begun|as it is"):
            list(api.train(run.path, **told))  # type: ignore[arg-type]


def test_two_trainers_do_not_share_a_run(make_project: MakeProject) -> None:
    project = make_project(*SHORT)
    run = until_first_checkpoint(project)
    with lock(run), pytest.raises(RunError, match="another process"):
        until_judged(api.train(project))
    assert steps_done(until_judged(api.train(project))) == [3, 4]


def test_a_stopped_iteration_frees_the_run(make_project: MakeProject) -> None:
    run = until_first_checkpoint(make_project(*SHORT))
    assert not runs.locked(run)


def test_a_finished_run_says_so_and_changes_nothing(make_project: MakeProject) -> None:
    project = make_project("train.steps=2", "checkpoints.every=2")
    *_, done = api.train(project)
    assert isinstance(done, Done)
    run = runs.runs_of(project)[0]
    assert run.finished
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    again = list(api.train(project))
    assert any(isinstance(event, Note) and "finished" in event.text and "--new" in event.text for event in again)
    assert isinstance(again[-1], Done)
    assert steps_done(again) == []
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*")} == before
    assert steps_done(list(api.train(run.path))) == []


def test_a_run_killed_while_it_is_judged_is_judged_on_the_next_start(make_project: MakeProject) -> None:
    project = make_project("train.steps=2", "checkpoints.every=2")
    until_judged(api.train(project))
    run = runs.runs_of(project)[0]
    assert not run.finished
    again = list(api.train(project))
    assert steps_done(again) == []
    assert isinstance(again[-1], Done)
    assert run.finished


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("samples.sampler=Eulr", "Euler"),
        ("samples.scheduler=Karas", "Karras"),
        ("samples.prompts=['a boat <lora:x:1>']", "LoRA"),
        ("samples.prompts=['a boat <hypernet:x:1>']", "hypernet"),
        ("adapter.targets=['atention']", "attention"),
        ("adapter.targets=['denoiser.nothing.*']", "no layer"),
        ("train.text_learning_rate=1e-4", "no text encoder is trained"),
        ("base.clip_skip=3", "clip skip 3 is not possible"),
        ("base.model='nowhere'", "nowhere"),
        ("dataset.path='nowhere'", "nowhere"),
        ("train.stepz=3", "steps"),
        ("train.steps=0", "steps"),
    ],
)
def test_what_cannot_work_is_refused_at_once_and_leaves_no_run(
    make_project: MakeProject, setting: str, said: str
) -> None:
    project = make_project(*SHORT)
    with pytest.raises(VelaturaError) as refusal:
        list(api.train(project, overrides=[setting]))
    assert said in str(refusal.value)
    assert not (project / "runs").exists()


def test_a_resolution_that_latents_cannot_have_is_painted_at_the_nearest(make_project: MakeProject) -> None:
    project = make_project("train.steps=1", "dataset.resolution=80")
    seen = until_judged(api.train(project))
    assert steps_done(seen) == [1]


def test_the_run_writes_out_every_setting_and_where_it_comes_from(make_project: MakeProject) -> None:
    run = until_first_checkpoint(make_project(*SHORT))
    assert run.recipe.dataset.resolution == tiny.SIDE
    assert run.recipe.train.threads == 1
    made = run.provenance
    assert made["seed"] == 1
    assert made["base"] == "tiny-sd15"
    lines = [json.loads(line) for line in (run.path / "dataset.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted(line["name"] for line in lines) == [f"{number}.png" for number in range(7)]
    assert {line["split"] for line in lines} == {"train", "held out"}


def test_an_adapter_s_file_does_not_know_where_it_was_made(
    make_project: MakeProject, base: Path, tmp_path: Path
) -> None:
    """The same recipe, pictures and base elsewhere give the same bytes, and none of them is a path."""
    project = make_project(*SHORT)
    first = until_first_checkpoint(project).checkpoints()[-1].adapter.read_bytes()
    there = shutil.copytree(base, tmp_path / "deeper" / "still" / base.name)
    other = tiny.project(tmp_path / "elsewhere", there, *SHORT)
    second = until_first_checkpoint(other).checkpoints()[-1].adapter.read_bytes()
    assert first == second
    assert str(tmp_path).encode() not in first


def test_a_lora_of_the_user_s_own_keeps_its_place(make_project: MakeProject) -> None:
    project = make_project("train.steps=1")
    own = project / "loras" / "style.safetensors"
    own.parent.mkdir()
    own.write_bytes(b"drawn elsewhere")
    *_, done = api.train(project)
    assert isinstance(done, Done)
    assert own.read_bytes() == b"drawn elsewhere"
    assert done.summary["lora"] == "loras/style-2.safetensors"
    *_, again = api.train(project, new=True)
    assert isinstance(again, Done)
    assert again.summary["lora"] == "loras/style-2.safetensors", "one from a run of this project is replaced"
    with pytest.raises(SettingsError):
        list(api.train(project, overrides=["base.model=style-3"]))
