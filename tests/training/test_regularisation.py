"""Pictures of the class beside the set: how many, how often, and what their loss counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from tests.tiny import at
from velatura import api
from velatura import run as runs
from velatura.api.inputs import read_pictures
from velatura.dataset.prepared import Prepared, regularising
from velatura.dataset.scan import Picture
from velatura.errors import DatasetError
from velatura.events import Checkpoint, Note
from velatura.family import Model
from velatura.recipe import ObjectiveSettings, load
from velatura.training.data import Batch, Batches, Cached
from velatura.training.dataset import Pictures
from velatura.training.encoding import encode
from velatura.training.losses import errors, loss

MakeProject = Callable[..., Path]


def with_class(project: Path, count: int, folder: str = "reg", *, caption: str | None = "a boat") -> Path:
    for number in range(count):
        path = project / "dataset" / folder / f"{number}.png"
        tiny.picture(path, ((64, 64), (96, 48))[number % 2], 500 + number)
        if caption is not None:
            path.with_suffix(".txt").write_text(caption)
    return project


def read(project: Path, model: Model) -> Pictures:
    return read_pictures(load(project), project, model)


def encoded(project: Path, model: Model) -> Cached:
    pictures = read(project, model)
    *_, cached = encode(model, (*pictures.prepared, *pictures.regularisation))
    assert isinstance(cached, Cached)
    return cached


def as_kohya_counts(repeats: list[int], own: int) -> list[int]:
    """Its loop: registered one after the other until there are enough, then once more each, again and again."""
    counted: list[int] = []
    total, first = 0, True
    while total < own:
        for place, times in enumerate(repeats):
            if first:
                counted.append(times)
                total += times
            else:
                counted[place] += 1
                total += 1
            if total >= own:
                break
        first = False
    return counted


@pytest.mark.parametrize("repeats", [[1], [1, 1, 1], [3, 1, 2], [10, 10], [1] * 40, [7]])
@pytest.mark.parametrize("own", [1, 2, 5, 6, 7, 20, 33])
def test_there_are_as_many_as_kohya_takes(repeats: list[int], own: int) -> None:
    there = [
        Prepared(Picture(f"{place}.png", Path(), str(place), 64, 64, None), (64, 64), (64, 64), ("",), False, times)
        for place, times in enumerate(repeats)
    ]

    taken = regularising(there, own)

    assert [one.repeats for one in taken] == as_kohya_counts(repeats, own)
    assert all(one.of_class for one in taken)
    assert [one.picture for one in taken] == [one.picture for one in there[: len(taken)]]


def test_an_epoch_holds_each_picture_as_often_as_told_and_the_class_as_often_as_the_set(
    make_project: MakeProject, model: Model
) -> None:
    project = with_class(make_project("train.batch=3", pictures=9), 3)
    cached = encoded(project, model)
    batches = Batches(model, cached, load(project))
    own = len(cached.train)

    seen = Counter(index for step in range(3 * batches.per_epoch) for index in batches.pictures(step)[0])

    assert {seen[index] for index in range(own)} == {3}
    assert [seen[own + place] for place in range(3)] == [3 * times for times in as_kohya_counts([1, 1, 1], own)]
    assert api.plan(project).steps_per_epoch == batches.per_epoch


def test_kohyas_repeats_of_both_kinds_are_followed(make_project: MakeProject, model: Model) -> None:
    project = make_project("dataset.hold_out=0", pictures=1)
    for path in (project / "dataset").iterdir():
        path.unlink()
    for number, name in enumerate(("3_mara woman", "3_mara woman", "1_mara face", "reg/2_woman", "reg/2_woman")):
        tiny.picture(project / "dataset" / name / f"{number}.png", (64, 64), number)

    pictures = read(project, model)

    assert sorted(one.repeats for one in pictures.train) == [1, 3, 3]
    assert [(one.repeats, one.captions) for one in pictures.regularisation] == [(4, ("woman",)), (3, ("woman",))]
    assert sum(len(bucket.pictures) for bucket in pictures.epoch) == 14


def test_pictures_of_the_class_are_never_held_out_nor_given_the_trigger(
    make_project: MakeProject, model: Model
) -> None:
    project = with_class(make_project("dataset.trigger=mara", pictures=9), 4)

    pictures = read(project, model)

    assert all(one.captions == ("a boat",) and not one.held_out for one in pictures.regularisation)
    assert all("mara" in one.captions[0] for one in pictures.prepared)
    assert any("4 pictures of the class" in note and "counts 1" in note for note in pictures.notes)


def test_without_captions_is_said(make_project: MakeProject, model: Model) -> None:
    pictures = read(with_class(make_project(), 2, caption=None), model)

    assert any("2 pictures of the class have no caption" in note for note in pictures.notes)


def test_another_folder_is_named_and_must_be_there(make_project: MakeProject, model: Model) -> None:
    project = with_class(make_project("dataset.regularisation=women"), 2, "women")
    pictures = read(project, model)
    assert len(pictures.regularisation) == 2
    assert not any("not read" in note for note in pictures.notes)

    with pytest.raises(DatasetError, match="no such folder"):
        read(make_project("dataset.regularisation=men"), model)
    assert read(make_project("dataset.regularisation="), model).regularisation == ()


def test_an_empty_reg_folder_is_none(make_project: MakeProject, model: Model) -> None:
    project = make_project()
    (project / "dataset" / "reg").mkdir()

    assert read(project, model).regularisation == ()


@torch.no_grad()
def test_each_sample_counts_as_its_kind_says(make_project: MakeProject, model: Model) -> None:
    told = ("train.batch=4", "dataset.prior_weight=0.25", "dataset.hold_out=0")
    project = with_class(make_project(*told, pictures=3), 3)
    cached = encoded(project, model)
    batches = Batches(model, cached, load(project))
    mixed = 0
    for step in range(batches.per_epoch):
        batch, chosen = at(batches, step), batches.pictures(step)[0]
        weights = [0.25 if index >= len(cached.train) else 1.0 for index in chosen]
        mixed += len(set(weights)) == 2
        error = errors(model, batch).tolist()
        by_hand = sum(weight * one for weight, one in zip(weights, error, strict=True)) / len(error)
        assert float(loss(model, batch)) == pytest.approx(by_hand, rel=1e-5)
        unweighted = float(loss(model, replace(batch, weight_B=None)))
        if len(set(weights)) == 2:
            assert abs(unweighted - by_hand) > 1e-2 * abs(by_hand)
    assert mixed


@torch.no_grad()
def test_a_weight_of_one_is_no_weight(make_project: MakeProject, model: Model) -> None:
    project = with_class(make_project(), 3)
    batch: Batch = at(Batches(model, encoded(project, model), load(project)), 0)

    assert batch.weight_B is not None
    told = ObjectiveSettings(min_snr=5.0)
    assert loss(model, batch, told) == loss(model, replace(batch, weight_B=None), told)


def first_checkpoint(project: Path) -> bytes:
    events = api.train(project)
    for event in events:
        if isinstance(event, Checkpoint):
            break
    events.close()  # type: ignore[attr-defined]
    return runs.runs_of(project)[-1].checkpoints()[-1].adapter.read_bytes()


def test_weight_0_is_the_training_without_them_bit_for_bit(base: Path, tmp_path: Path) -> None:
    def made(name: str, *settings: str) -> Path:
        return tiny.project(tmp_path / name, base, "train.steps=3", "checkpoints.every=3", *settings)

    def tensors(project: Path) -> dict[str, Any]:
        from velatura import tensorfile

        first_checkpoint(project)
        found, _ = tensorfile.read(runs.runs_of(project)[-1].checkpoints()[-1].adapter)
        return {name: bytes(tensorfile.as_float32(one).tobytes()) for name, one in found.items()}

    plain = tensors(made("plain"))
    none = tensors(with_class(made("none", "dataset.prior_weight=0"), 4))
    some = tensors(with_class(made("some"), 4))

    assert plain == none
    assert plain != some


def test_mirrored_pictures_of_the_class_are_their_own(make_project: MakeProject, model: Model) -> None:
    project = with_class(make_project("dataset.flip=true", pictures=3), 2)
    cached = encoded(project, model)
    batches = Batches(model, cached, load(project))
    assert [len(one.views) for one in batches.samples] == [2] * len(batches.samples)
    for step in range(20):
        for place, index in enumerate(batches.pictures(step)[0]):
            found = at(batches, step).clean_BCHW[place]
            assert any(found.equal(view.latents_CHW) for view in batches.samples[index].views)


def test_a_run_says_what_it_trains_beside_the_set(make_project: MakeProject) -> None:
    project = with_class(make_project("train.steps=3", "checkpoints.every=3"), 4)
    seen = []
    events = api.train(project)
    for event in events:
        seen.append(event)
        if isinstance(event, Checkpoint):
            break
    events.close()  # type: ignore[attr-defined]

    assert any(isinstance(event, Note) and "pictures of the class" in event.text for event in seen)
    lines = (runs.runs_of(project)[-1].path / "dataset.jsonl").read_text()
    assert lines.count('"split":"class"') == 4
