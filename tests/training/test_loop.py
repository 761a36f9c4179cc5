"""The training loop: what it yields, what it writes, what it is asked, and what it refuses."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from velatura import run as runs
from velatura import tensorfile
from velatura.adapters import formats
from velatura.adapters.layers import shapes
from velatura.adapters.lora import Injected, inject
from velatura.adapters.merge import Applied
from velatura.api.inputs import read_pictures
from velatura.api.training.train import lines, provenance, resolved
from velatura.errors import RunError, TrainingError
from velatura.events import Checkpoint, Event, Metric, Note, Progress, Resumed
from velatura.family import Model
from velatura.recipe import Recipe, load
from velatura.run import Run
from velatura.training.adapter import specs
from velatura.training.checkpoint import load_state, state_bytes
from velatura.training.data import Batches, Cached
from velatura.training.encoding import encode
from velatura.training.facts import adapter_writer
from velatura.training.loop import beginning, train
from velatura.training.rate import learning_rate
from velatura.training.samples import merged
from velatura.training.validation import cells

MakeProject = Callable[..., Path]


class Trainer:
    """One run in memory: everything that the loop is given."""

    def __init__(self, project: Path, model: Model) -> None:
        self.model = model
        self.recipe = resolved(load(project), model, 1)
        self.pictures = read_pictures(self.recipe, project, model)
        *_, cached = encode(model, self.pictures.prepared)
        assert isinstance(cached, Cached)
        self.cached = cached
        made = provenance(self.recipe, self.pictures, model)
        self.run: Run = runs.create(project, self.recipe, provenance=made, dataset_lines=lines(self.pictures))

    def events(self, recipe: Recipe | None = None) -> Iterator[Event]:
        recipe = recipe or self.recipe
        write = adapter_writer(recipe, self.pictures, self.model, per_epoch=3)
        with inject(self.model.trainable_parts, specs(recipe, self.model), seed=recipe.train.seed) as injected:
            yield from train(self.model, injected, self.cached, recipe, self.run, adapter_bytes=write)

    def finish(self) -> dict[str, bytes]:
        for event in self.events():
            self.run.append(event)
        return files(self.run)


@pytest.fixture
def trainer(make_project: MakeProject, model: Model) -> Callable[..., Trainer]:
    return lambda *settings, **told: Trainer(make_project(*settings, **told), model)


def files(run: Run) -> dict[str, bytes]:
    found = run.path.glob("checkpoints/*/*.safetensors")
    return {path.relative_to(run.path).as_posix(): path.read_bytes() for path in found}


def lossy(run: Run) -> list[Metric]:
    """What was measured, but for time and memory."""
    return [one for one in run.events() if isinstance(one, Metric) and "seconds_per_step" not in one.values]


def steps(events: list[Event], kind: type[Any]) -> list[int]:
    return [event.step for event in events if isinstance(event, kind)]


def test_the_loop_says_what_it_does(trainer: Callable[..., Trainer]) -> None:
    trained = trainer("train.steps=13")
    events = list(trained.events())
    assert [event.done for event in events if isinstance(event, Progress)] == list(range(1, 14))
    assert steps(events, Checkpoint) == [3, 6, 9, 12, 13]
    losses = [event for event in events if isinstance(event, Metric) and "loss" in event.values]
    assert [event.step for event in losses] == [3, 6, 9, 10, 12, 13]
    measured = [event.step for event in events if isinstance(event, Metric) and "held_out" in event.values]
    assert measured == [3, 6, 9, 12, 13]
    assert [one.step for one in trained.run.checkpoints()] == [3, 6, 9, 12, 13]
    for event in losses:
        assert event.values["learning_rate"] == learning_rate(trained.recipe.train, event.step - 1)
        assert all(np.isfinite(event.values[name]) for name in ("loss", "gradient_norm", "weight_norm"))
    assert any("memory_gb" in event.values for event in events if isinstance(event, Metric)) or sys.platform == "win32"


def test_a_checkpoint_is_whole_on_disk_when_it_is_told(trainer: Callable[..., Trainer]) -> None:
    trained = trainer("train.steps=6")
    for event in trained.events():
        if isinstance(event, Checkpoint):
            checkpoint = trained.run.checkpoints()[-1]
            assert (trained.run.path / event.path, event.step) == (checkpoint.path, checkpoint.step)
            trained.run.verify(checkpoint)
            assert checkpoint.state.exists()


def test_training_changes_every_layer_and_lowers_the_error_on_its_picture(trainer: Callable[..., Trainer]) -> None:
    trained = trainer("train.steps=40", "checkpoints.every=40", "train.learning_rate=2e-2", pictures=1)
    before = cells(trained.model, trained.cached.train, strata=4)
    list(trained.events())
    adapter = formats.read(
        trained.run.checkpoints()[-1].adapter,
        keys=trained.model.family.keys,
        layers=shapes(trained.model.trainable_parts),
    )
    assert set(adapter.layers) == {spec.name for spec in specs(trained.recipe, trained.model)}
    assert all(np.abs(layer.up).max() > 0 for layer in adapter.layers.values())
    with merged(trained.model, [Applied(adapter.layers, 1.0, 1.0)]):
        after = cells(trained.model, trained.cached.train, strata=4)
    assert after.mean() < 0.8 * before.mean()
    assert {layer.rank for layer in adapter.layers.values()} == {3}
    assert {layer.alpha for layer in adapter.layers.values()} == {2.0}


def test_the_base_is_untouched_by_training(trainer: Callable[..., Trainer], model: Model) -> None:
    before = {
        (part, name): tensor.clone()
        for part, module in model.parts.items()
        for name, tensor in module.state_dict().items()
    }
    events = trainer().events()
    for _ in itertools.islice(events, 5):
        pass
    events.close()
    for part, module in model.parts.items():
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, before[part, name]), name
        assert not any(parameter.requires_grad or parameter.grad is not None for parameter in module.parameters())


def test_the_same_recipe_trains_the_same_bytes_whatever_was_drawn_before(trainer: Callable[..., Trainer]) -> None:
    torch.manual_seed(5)
    trained = trainer("train.steps=4")
    first = trained.finish()
    torch.manual_seed(6)
    again = runs.create(
        trained.run.path.parent.parent, trained.recipe, provenance=trained.run.provenance, dataset_lines=[]
    )
    trained.run = again
    assert trained.finish() == first


def test_the_gradient_is_clipped_and_weight_decay_is_applied_as_the_recipe_says(
    trainer: Callable[..., Trainer],
) -> None:
    """One step by hand: AdamW's first step moves every value by the rate, whatever the gradient's size."""
    trained = trainer("train.steps=1", "train.weight_decay=0.5", "train.learning_rate=0.01", "train.clip=0.1")
    with inject(trained.model.trainable_parts, specs(trained.recipe, trained.model), seed=1) as fresh:
        start = {name: parameter.detach().clone() for name, parameter in fresh.named().items()}
    list(trained.events())
    saved, _ = tensorfile.read(trained.run.checkpoints()[-1].state)
    gradients = 0.0
    for name, before in start.items():
        after = tensorfile.as_float32(saved[f"weight/{name}"])
        average = tensorfile.as_float32(saved[f"exp_avg/{name}"]) / 0.1
        gradients += float(np.square(average).sum())
        decayed = before.numpy() * (1 - 0.01 * 0.5)
        expected = decayed - 0.01 * average / (np.abs(average) + 1e-8)
        assert np.allclose(after, expected, atol=1e-6), name
    assert np.sqrt(gradients) == pytest.approx(0.1, rel=1e-3), "a longer gradient is cut to this length"


# --- state -----------------------------------------------------------------------------------


def test_the_state_comes_back_exactly(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    trained = trainer("train.steps=3")
    list(trained.events())
    saved = trained.run.checkpoints()[-1].state
    with inject(trained.model.trainable_parts, specs(trained.recipe, trained.model), seed=99) as injected:
        state = beginning(trained.model, injected, trained.recipe)
        assert load_state(saved, state) == 3
        assert state_bytes(state, step=3) == saved.read_bytes()


def test_a_state_of_another_adapter_is_refused(trainer: Callable[..., Trainer]) -> None:
    trained = trainer("train.steps=3")
    list(trained.events())
    other = trained.recipe.model_copy(
        update={"adapter": trained.recipe.adapter.model_copy(update={"targets": ["attention"]})}
    )
    with pytest.raises(RunError, match="another adapter"):
        list(trained.events(other))
    wider = trained.recipe.model_copy(update={"adapter": trained.recipe.adapter.model_copy(update={"rank": 4})})
    with pytest.raises(RunError, match="another adapter"):
        list(trained.events(wider))


def test_a_damaged_checkpoint_is_not_gone_on_from(trainer: Callable[..., Trainer]) -> None:
    trained = trainer("train.steps=6")
    complete = trained.finish()
    newest = trained.run.checkpoints()[-1]
    newest.state.write_bytes(newest.state.read_bytes()[:-1] + b"\0")
    with pytest.raises(RunError, match="damaged"):
        list(trained.events())
    newest.path.rename(newest.path.with_name("thrown-away"))
    events = list(trained.events())
    assert events[0] == Resumed(3)
    assert (
        files(trained.run)["checkpoints/step-000006/adapter.safetensors"]
        == (complete["checkpoints/step-000006/adapter.safetensors"])
    )


def test_the_optimizer_s_state_is_kept_for_the_newest_checkpoints_only(trainer: Callable[..., Trainer]) -> None:
    trained = trainer("checkpoints.keep_state=1")
    for event in trained.events():
        if isinstance(event, Checkpoint):
            with_state = [one.step for one in trained.run.checkpoints() if one.state.exists()]
            assert with_state == [event.step]
    for checkpoint in trained.run.checkpoints():
        trained.run.verify(checkpoint)


# --- going on --------------------------------------------------------------------------------


@pytest.mark.parametrize("stops", [[1, 1, 2], [4], [7, 3], [11, 2, 2, 9]])
def test_stopping_the_iteration_anywhere_and_going_on_is_the_uninterrupted_run(
    trainer: Callable[..., Trainer], stops: list[int]
) -> None:
    trained = trainer()
    complete = trained.finish()
    metrics = lossy(trained.run)
    trained.run = runs.create(
        trained.run.path.parent.parent, trained.recipe, provenance=trained.run.provenance, dataset_lines=[]
    )
    for count in stops:
        events = trained.events()
        for event in itertools.islice(events, count):
            trained.run.append(event)
        events.close()
    assert trained.finish() == complete
    assert lossy(trained.run) == metrics


def test_every_event_is_a_place_to_stop(trainer: Callable[..., Trainer]) -> None:
    trained = trainer("train.steps=4", "checkpoints.every=2")
    complete = trained.finish()
    count = sum(1 for event in trained.run.events() if not isinstance(event, Note))
    for stop in range(1, count + 1):
        trained.run = runs.create(
            trained.run.path.parent.parent, trained.recipe, provenance=trained.run.provenance, dataset_lines=[]
        )
        events = trained.events()
        list(itertools.islice(events, stop))
        events.close()
        assert trained.finish() == complete, stop


def test_a_step_that_was_not_saved_is_trained_again_from_the_last_checkpoint(
    trainer: Callable[..., Trainer],
) -> None:
    trained = trainer()
    events = trained.events()
    for event in events:
        if isinstance(event, Progress) and event.done == 5:
            break
    events.close()  # type: ignore[attr-defined]
    again = list(trained.events())
    assert again[0] == Resumed(3)
    assert next(event.done for event in again if isinstance(event, Progress)) == 4


# --- requests --------------------------------------------------------------------------------


def test_a_stop_ends_the_loop_with_a_checkpoint_and_going_on_is_exact(trainer: Callable[..., Trainer]) -> None:
    trained = trainer()
    complete = trained.finish()
    trained.run = runs.create(
        trained.run.path.parent.parent, trained.recipe, provenance=trained.run.provenance, dataset_lines=[]
    )
    seen = []
    for event in trained.events():
        seen.append(event)
        if isinstance(event, Progress) and event.done == 5:
            trained.run.ask("stop")
    assert [event.done for event in seen if isinstance(event, Progress)][-1] == 5
    assert [one.step for one in trained.run.checkpoints()] == [3, 5]
    assert isinstance(seen[-1], Note) and "stopped at step 5" in seen[-1].text
    rest = list(trained.events())
    assert rest[0] == Resumed(5)
    final = "checkpoints/step-000012/adapter.safetensors"
    assert files(trained.run)[final] == complete[final]


def test_a_stop_from_before_the_start_is_not_for_this_trainer(trainer: Callable[..., Trainer]) -> None:
    trained = trainer("train.steps=3")
    trained.run.ask("stop")
    trained.finish()
    assert [one.step for one in trained.run.checkpoints()] == [3]


@pytest.mark.parametrize("request_", ["snapshot", "preview"])
def test_a_snapshot_is_a_checkpoint_between_the_others_and_training_goes_on(
    trainer: Callable[..., Trainer], request_: runs.Request
) -> None:
    trained = trainer("train.steps=6")
    for event in trained.events():
        if isinstance(event, Progress) and event.done == 2:
            trained.run.ask(request_)
    assert [one.step for one in trained.run.checkpoints()] == [2, 3, 6]


def test_a_pause_waits_for_continue(trainer: Callable[..., Trainer]) -> None:
    trained = trainer("train.steps=6")
    seen: list[Event] = []
    waiting: list[threading.Timer] = []
    for event in trained.events():
        seen.append(event)
        if isinstance(event, Progress) and event.done == 1:
            trained.run.ask("pause")
        if event == Note("paused"):
            waiting.append(threading.Timer(0.2, trained.run.ask, ["continue"]))
            waiting[-1].start()
            done = len([one for one in seen if isinstance(one, Progress)])
            assert done == 1
    for timer in waiting:
        timer.join()
    assert len(waiting) == 1
    assert [event.done for event in seen if isinstance(event, Progress)] == list(range(1, 7))


def test_a_pause_ends_with_stop_too(trainer: Callable[..., Trainer]) -> None:
    trained = trainer()
    for event in trained.events():
        if isinstance(event, Progress) and event.done == 1:
            trained.run.ask("pause")
        if event == Note("paused"):
            trained.run.ask("stop")
    assert [one.step for one in trained.run.checkpoints()] == [1]


@pytest.mark.parametrize(
    ("asked", "last"), [(["pause", "continue"], 6), (["pause", "stop"], 1), (["stop", "pause"], 1), (["continue"], 6)]
)
def test_requests_that_arrive_together_are_read_in_their_order(
    trainer: Callable[..., Trainer], asked: list[runs.Request], last: int
) -> None:
    trained = trainer("train.steps=6")
    seen = []
    for event in trained.events():
        seen.append(event)
        if isinstance(event, Progress) and event.done == 1:
            for one in asked:
                trained.run.ask(one)
    assert Note("paused") not in seen
    assert trained.run.checkpoints()[-1].step == last


# --- what goes wrong -------------------------------------------------------------------------


def test_an_absurd_learning_rate_is_an_error_and_nothing_broken_is_saved(trainer: Callable[..., Trainer]) -> None:
    for settings in (
        ("train.learning_rate=1e30", "train.steps=12"),
        ("train.learning_rate=1e30", "train.steps=1"),  # the loss is still a number, the weights no longer are
        ("train.learning_rate=1e6", "train.steps=1"),  # numbers that fp16 cannot hold
    ):
        trained = trainer("train.schedule=constant", *settings)
        with pytest.raises(TrainingError, match=r"learning_rate"):
            list(trained.events())
        assert trained.run.checkpoints() == []
        assert not list(trained.run.path.rglob("*.safetensors"))


def spoil(monkeypatch: pytest.MonkeyPatch, *broken: int) -> None:
    """Latents that are no numbers at some steps, the first is 0."""
    draw = Batches.of

    def spoilt(self: Batches, step: int) -> Any:
        for batch in draw(self, step):
            if step in broken:
                batch.clean_BCHW[0, 0, 0, 0] = float("inf")
            yield batch

    monkeypatch.setattr(Batches, "of", spoilt)


def test_a_micro_batch_without_numbers_is_left_out_and_named(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = trainer()
    spoil(monkeypatch, 4, 7, 8)
    events = list(trained.events())
    notes = [event.text for event in events if isinstance(event, Note)]
    assert len(notes) == 3 and all("gave no numbers" in note and ".png" in note for note in notes)
    assert [note.partition(":")[0] for note in notes] == ["step 5", "step 8", "step 9"]
    assert [one.step for one in trained.run.checkpoints()] == [3, 6, 9, 12]
    assert all(np.isfinite(event.values.get("loss", 0)) for event in events if isinstance(event, Metric))
    saved, _ = tensorfile.read(trained.run.checkpoints()[-1].state)
    assert all(np.isfinite(tensorfile.as_float32(one)).all() for one in saved.values())


def test_three_in_a_row_end_the_training_and_keep_the_checkpoints_from_before(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = trainer()
    spoil(monkeypatch, *range(7, 12))
    with pytest.raises(TrainingError, match="at step 8: what is no number appears among the latents, 3 times") as told:
        list(trained.events())
    assert "learning_rate" in told.value.fix
    assert [one.step for one in trained.run.checkpoints()] == [3, 6], (
        "that of step 9 was written since and is taken back"
    )
    for checkpoint in trained.run.checkpoints():
        trained.run.verify(checkpoint)
    assert list(trained.run.path.glob("checkpoints/.*")) == []


def test_a_loss_that_explodes_ends_the_training(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = trainer("train.steps=40", "checkpoints.every=2")
    draw = Batches.of

    def huge(self: Batches, step: int) -> Any:
        for batch in draw(self, step):
            if step >= 25:
                batch.noise_BCHW.mul_(100.0)
            yield batch

    monkeypatch.setattr(Batches, "of", huge)
    with pytest.raises(TrainingError, match=r"exploded by step .* has grown most is denoiser\."):
        list(trained.events())
    assert 24 <= trained.run.checkpoints()[-1].step < 40


def test_a_stop_after_a_broken_step_saves_nothing_broken(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = trainer()
    spoil(monkeypatch, 0)
    for event in trained.events():
        if isinstance(event, Note):
            trained.run.ask("stop")
    (checkpoint,) = trained.run.checkpoints()
    assert checkpoint.step == 1
    saved, _ = tensorfile.read(checkpoint.state)
    assert all(np.isfinite(tensorfile.as_float32(one)).all() for one in saved.values())


@pytest.mark.parametrize(
    "full",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")],
    ids=["card", "mps"],
)
def test_memory_that_is_too_small_halves_the_micro_batch_and_changes_nothing_else(
    full: RuntimeError, trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = trainer("train.batch=4", "train.steps=1", "train.clip=0")
    trained.finish()
    earlier = trained.run
    predict, tried = trained.model.family.predict, []

    def short(model: Model, noisy: torch.Tensor, *rest: Any) -> torch.Tensor:
        tried.append(len(noisy))
        if len(noisy) > 2:
            raise full
        return predict(model, noisy, *rest)

    monkeypatch.setattr(trained.model.family, "predict", short)
    trained.run = runs.create(
        trained.run.path.parent.parent, trained.recipe, provenance=trained.run.provenance, dataset_lines=[]
    )
    notes = [event.text for event in trained.events() if isinstance(event, Note)]
    assert [note for note in notes if "not enough memory for 4 pictures at once: from now on 2" in note] == notes
    assert sum(count > 2 for count in tried) == len(notes) == 1, "what has been too much is not tried again"
    assert tried[:3] == [4, 2, 2], "all four are trained on"
    (before, after) = (tensorfile.read(run.checkpoints()[-1].state)[0] for run in (earlier, trained.run))
    for name in before:
        if name.startswith("exp_avg/"):
            one, other = tensorfile.as_float32(before[name]), tensorfile.as_float32(after[name])
            assert np.allclose(one, other, atol=1e-6 + 1e-4 * np.abs(one).max()), name


def test_memory_that_holds_no_single_picture_is_said(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = trainer()

    def none(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trained.model.family, "predict", none)
    with pytest.raises(TrainingError, match="not enough memory to train on a single picture"):
        list(trained.events())


def test_what_comes_before_the_first_adapted_layer_is_computed_without_a_graph(
    trainer: Callable[..., Trainer], model: Model
) -> None:
    trained = trainer("train.steps=1", "dataset.hold_out=0", "adapter.targets=['denoiser.up_blocks.*']")
    graphs: dict[str, bool] = {}
    denoiser = model.parts["denoiser"]

    def note(name: str, out: torch.Tensor) -> None:
        graphs[name] = out.requires_grad or graphs.get(name, False)  # what is only measured has none anywhere

    handles = [
        module.register_forward_hook(lambda _, __, out, name=name: note(name, out))
        for name, module in denoiser.named_modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    list(trained.events())
    for handle in handles:
        handle.remove()
    assert not graphs["conv_in"] and not graphs["mid_block.resnets.0.conv1"]
    assert graphs["conv_out"]


def test_an_error_leaves_the_base_without_the_adapter(trainer: Callable[..., Trainer], model: Model) -> None:
    with pytest.raises(TrainingError):
        list(trainer("train.learning_rate=1e30", "train.steps=1").events())
    assert not any(type(module).__name__ == "LoraLayer" for part in model.parts.values() for module in part.modules())
    assert isinstance(inject(model.trainable_parts, [], seed=0), Injected)
