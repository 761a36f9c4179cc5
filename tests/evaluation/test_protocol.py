"""The fixed protocol: every checkpoint answers for itself alone, and the base for none of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests import tiny
from tests.tiny import base as base
from tests.tiny import model as model
from velatura import randomness
from velatura import run as runs
from velatura.adapters import writing
from velatura.adapters.merge import Applied
from velatura.adapters.weights import AdapterFile, Lora
from velatura.api.inputs import read_pictures
from velatura.api.training.train import lines, provenance, resolved
from velatura.errors import RunError
from velatura.evaluation.protocol import COLOUR_SEEDS, COLOURS, Exam, evaluate, exam
from velatura.evaluation.results import Results, from_json
from velatura.events import Progress
from velatura.family import Model
from velatura.recipe import Recipe, load
from velatura.run import Run
from velatura.training import samples
from velatura.training.adapter import specs
from velatura.training.data import Cached
from velatura.training.dataset import Pictures
from velatura.training.encoding import encode

QUICK = ("samples.sampling_steps=1", "validation.strata=3")


class Judged:
    """A project with a run whose checkpoints are published by hand, as strong as told."""

    def __init__(self, project: Path, model: Model, strengths: dict[int, float]) -> None:
        self.model = model
        self.recipe: Recipe = resolved(load(project), model, 1)
        self.pictures: Pictures = read_pictures(self.recipe, project, model)
        *_, cached = encode(model, self.pictures.prepared)
        assert isinstance(cached, Cached)
        self.cached = cached
        made = provenance(self.recipe, self.pictures, model)
        self.run: Run = runs.create(project, self.recipe, provenance=made, dataset_lines=lines(self.pictures))
        for step, strength in strengths.items():
            data = writing.to_bytes(AdapterFile(self.layers(step, strength)), keys=model.family.keys)
            self.run.publish(step, {"adapter.safetensors": data})

    def layers(self, step: int, strength: float) -> dict[str, Lora]:
        made = {}
        for spec in specs(self.recipe, self.model):
            out, *rest = dict(self.model.pristine)[f"{spec.name}.weight"].shape
            draw = randomness.generator(step, spec.name)
            down = (0.3 * draw.standard_normal((2, *rest))).astype(np.float32)
            up = (strength * draw.standard_normal((out, 2, 1, 1) if len(rest) > 1 else (out, 2))).astype(np.float32)
            made[spec.name] = Lora(down, up, 2.0)
        return made

    def evaluate(self) -> Results:
        *progress, found = evaluate(self.model, self.recipe, self.pictures, self.cached, self.run)
        assert isinstance(found, Results)
        told = [event for event in progress if isinstance(event, Progress)]
        assert [event.done for event in told] == list(range(1, told[0].total + 1))
        return found

    def exam(self) -> Exam:
        return exam(self.recipe, self.pictures)

    def shown(self, name: str) -> list[NDArray[np.uint8]]:
        files = sorted((self.run.path / "samples" / "exam" / name).glob("*.png"))
        return [np.asarray(Image.open(path)) for path in files]


@pytest.fixture
def judge(base: Path, model: Model, tmp_path: Path) -> Callable[..., Judged]:
    def make(strengths: dict[int, float], *settings: str, pictures: int = 7) -> Judged:
        return Judged(tiny.project(tmp_path / "project", base, *QUICK, *settings, pictures=pictures), model, strengths)

    return make


def test_a_run_without_a_checkpoint_cannot_be_judged(judge: Callable[..., Judged]) -> None:
    with pytest.raises(RunError, match="no checkpoint"):
        judge({}).evaluate()


def test_a_checkpoint_that_changes_nothing_is_the_base_in_every_number(judge: Callable[..., Judged]) -> None:
    judged = judge({3: 0.0})
    (found,) = judged.evaluate().checkpoints
    assert found.held_out is not None
    assert found.held_out.value == 0
    assert set(found.held_out.per_image) == {0.0}
    assert found.training is not None
    assert found.training.value == 0
    assert found.reliance is not None
    assert found.reliance.value == found.reliance.base_value
    for mine, plain in zip(judged.shown("step-000003"), judged.shown("base"), strict=True):
        assert np.array_equal(mine, plain)


def test_each_checkpoint_is_painted_with_its_own_adapter_and_the_base_with_none(
    judge: Callable[..., Judged], base: Path
) -> None:
    from velatura.family import load_base

    judged = judge({3: 0.05, 6: 0.2})
    judged.evaluate()
    fresh = load_base(base)
    for name, uses in (
        ("base", []),
        ("step-000003", [judged.run.checkpoints()[0]]),
        ("step-000006", [judged.run.checkpoints()[1]]),
    ):
        applied = [Applied(samples.read_adapter(fresh, one.adapter).layers, 1.0, 1.0) for one in uses]
        with samples.merged(fresh, applied):
            expected = samples.paint(fresh, judged.exam().jobs, samples.sampling(judged.recipe, fresh), batch=8)
        for mine, image in zip(judged.shown(name), expected, strict=True):
            assert np.array_equal(mine, np.asarray(image)), name
    assert not np.array_equal(judged.shown("base")[0], judged.shown("step-000003")[0])


def test_a_checkpoint_s_result_does_not_depend_on_those_judged_with_it(judge: Callable[..., Judged]) -> None:
    together = judge({3: 0.05, 6: 0.2}).evaluate()
    for step, strength in ((3, 0.05), (6, 0.2)):
        (alone,) = judge({step: strength}).evaluate().checkpoints
        assert alone == together.at(step)


def test_judging_twice_says_the_same_and_leaves_the_base_as_it_was(judge: Callable[..., Judged], model: Model) -> None:
    before = {name: tensor.clone() for name, tensor in model.parts["denoiser"].state_dict().items()}
    judged = judge({3: 0.1})
    first = judged.evaluate()
    torch.manual_seed(3)
    assert judged.evaluate() == first
    assert from_json((judged.run.path / "evaluation.json").read_bytes()) == first
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.parts["denoiser"].state_dict().items())


def test_stopping_the_judging_leaves_the_base_as_it_was(judge: Callable[..., Judged], model: Model) -> None:
    before = {name: tensor.clone() for name, tensor in model.parts["denoiser"].state_dict().items()}
    judged = judge({3: 0.1})
    events = evaluate(model, judged.recipe, judged.pictures, judged.cached, judged.run)
    for event in events:
        if isinstance(event, Progress) and event.done == event.total:
            break
    events.close()  # type: ignore[attr-defined]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.parts["denoiser"].state_dict().items())
    assert not (judged.run.path / "evaluation.json").exists()


def test_every_picture_that_is_named_is_there(judge: Callable[..., Judged]) -> None:
    judged = judge({3: 0.1, 6: 0.2})
    found = judged.evaluate()
    shown = [*found.base.samples, *found.held_out, *(sample for one in found.checkpoints for sample in one.samples)]
    assert len(shown) == 3 * len(judged.exam().captions) + len(judged.pictures.held_out)
    for sample in shown:
        assert (judged.run.path / sample.path).exists()
        assert sample.nearest is None or (judged.run.path / sample.nearest).exists()


# --- the exam --------------------------------------------------------------------------------


def test_the_exam_asks_for_captions_of_real_pictures_and_one_object_in_every_colour(
    judge: Callable[..., Judged],
) -> None:
    judged = judge({}, "dataset.trigger=my hand", pictures=9)
    asked = judged.exam()
    train, held_out = judged.pictures.train, judged.pictures.held_out
    real = [*train, *held_out]
    assert [job.prompt for job in asked.captions] == [real[source].captions[0] for source in asked.sources]
    in_turn = [*range(len(train), len(real)), *range(len(train))]
    assert list(asked.sources) == in_turn[: len(asked.sources)]
    assert len(asked.captions) == judged.recipe.validation.paintings
    assert len({job.seed for job in asked.captions}) == len(asked.captions)
    assert [job.prompt for job in asked.colours] == [
        f"my hand, a {colour} house" for colour in COLOURS for _ in range(COLOUR_SEEDS)
    ]
    assert [job.seed for job in asked.colours[:COLOUR_SEEDS]] == [job.seed for job in asked.colours[-COLOUR_SEEDS:]]


def test_copies_are_counted_where_training_captions_provoke_them(judge: Callable[..., Judged]) -> None:
    judged = judge({3: 0.1}, pictures=9)
    (found,) = judged.evaluate().checkpoints
    provoked = [source for source in judged.exam().sources if source < len(judged.pictures.train)]
    assert found.copies is not None
    assert found.copies.total == len(provoked) > 0


def test_the_exam_does_not_depend_on_how_long_or_fast_is_trained(judge: Callable[..., Judged]) -> None:
    first = judge({}).exam()
    for setting in ("train.steps=99", "train.learning_rate=0.5", "adapter.rank=7", "samples.seed=3"):
        assert judge({}, setting).exam() == first


def test_without_held_out_pictures_training_captions_are_asked_for(judge: Callable[..., Judged]) -> None:
    judged = judge({3: 0.1}, pictures=3)
    assert {job.prompt for job in judged.exam().captions} == {one.captions[0] for one in judged.pictures.train}
    (found,) = judged.evaluate().checkpoints
    assert found.held_out is None
    assert found.training is None
    assert "held_out" in found.not_measured


def test_captions_that_are_all_alike_do_not_show_whether_text_is_read(
    judge: Callable[..., Judged], model: Model, tmp_path: Path
) -> None:
    (differing,) = judge({3: 0.1}).evaluate().checkpoints
    assert differing.reliance is not None
    for path in (tmp_path / "project" / "dataset").glob("*.txt"):
        path.write_text("a boat", encoding="utf-8")
    (alike,) = Judged(tmp_path / "project", model, {3: 0.1}).evaluate().checkpoints
    assert alike.reliance is None
    assert "reliance" in alike.not_measured


def test_a_grey_picture_is_counted_as_broken(judge: Callable[..., Judged], monkeypatch: pytest.MonkeyPatch) -> None:
    judged = judge({3: 0.1})
    assert judged.evaluate().checkpoints[0].broken == 0
    decode = type(judged.model.family).decode_latents
    monkeypatch.setattr(
        type(judged.model.family), "decode_latents", lambda self, model, latents: decode(self, model, latents) * 0
    )
    count = len(judged.exam().jobs)
    assert judged.evaluate().checkpoints[0].broken == count
