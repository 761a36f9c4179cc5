"""A plan beside what a training does: steps, pictures, sizes on the disk; and costs measured on this machine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.paintings import clouds
from velatura import api, settings
from velatura.api.inputs import base_of
from velatura.api.memory import chosen
from velatura.api.training import calibrating
from velatura.api.training.calibrating import Trial
from velatura.events import Checkpoint, Event, Progress
from velatura.recipe import load


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Seven pictures in two sizes on the pocket base, one of them with a single picture."""
    folder = tmp_path / "hand"
    pictures = folder / "dataset"
    pictures.mkdir(parents=True)
    sizes = [(96, 96)] * 3 + [(128, 80)] * 3 + [(80, 128)]
    for number, (width, height) in enumerate(sizes):
        clouds(number, (width, height)).save(pictures / f"{number}.png")
        (pictures / f"{number}.txt").write_text(f"a house, number {number}", encoding="utf-8")
    text = """version = 2
[dataset]
resolution = 64
hold_out = 0.0
repeats = 3
[adapter]
rank = 4
[train]
epochs = 2
batch = 2
threads = 1
[checkpoints]
every = 7
[samples]
count = 0
"""
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    return folder


def until_checkpoint(events: Iterator[Event]) -> Iterator[Event]:
    for event in events:
        yield event
        if isinstance(event, Checkpoint):
            return


def test_a_plan_counts_what_a_training_takes(project: Path) -> None:
    planned = api.plan(project)

    assert (planned.steps_per_epoch, planned.steps, planned.epochs) == (
        11,
        22,
        2.0,
    )
    assert planned.images == 2 * 3 * 7
    rows = {(one.pictures, one.samples, one.batches, one.short) for one in planned.buckets.values()}
    assert rows == {(6, 18, 9, 0), (1, 3, 2, 1)}
    assert any("one size has a single picture" in warning for warning in planned.warnings)

    partly = api.plan(project, overrides=["train.epochs=none", "train.steps=13"])
    assert partly.steps == 13 and 21 + 2 <= partly.images <= 21 + 4
    assert partly.checkpoints == 2


def test_the_trigger_of_every_folder_is_looked_at(project: Path) -> None:
    recipe = project / "recipe.toml"
    plain = recipe.read_text(encoding="utf-8")
    for name in ("first", "second"):
        (project / name).mkdir()
        clouds(3, (96, 96)).save(project / name / "0.png")
    blocks = (
        '[[dataset.blocks]]\npath = "first"\ntrigger = "zmqk"\n[[dataset.blocks]]\npath = "second"\ntrigger = "house"\n'
    )
    recipe.write_text(plain.replace("[adapter]", f"{blocks}[adapter]"), encoding="utf-8")
    (warned,) = (warning for warning in api.plan(project).warnings if "trigger" in warning)
    assert "“house” is a word" in warned


def test_sizes_on_the_disk_are_those_of_the_files(project: Path) -> None:
    told = ["train.epochs=none", "train.steps=1", "checkpoints.every=1"]
    planned = api.plan(project, overrides=told)

    events = list(until_checkpoint(api.train(project, overrides=told)))
    (folder,) = (project / "runs").glob("*/checkpoints/*")
    assert [event.step for event in events if isinstance(event, Checkpoint)] == [1]
    assert (folder / "adapter.safetensors").stat().st_size == pytest.approx(planned.disk["adapter"], rel=0.2)
    assert (folder / "state.safetensors").stat().st_size == pytest.approx(planned.disk["state"], rel=0.1)


def test_costs_are_told_once_they_are_measured(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api.plan(project).estimate is None
    trials = [
        Trial(64, 1, 4),
        Trial(64, 2, 4),
        Trial(96, 1, 4),
        Trial(64, 1, 8, text=True),
        Trial(64, 2, 8, check=True),
    ]
    trials.insert(3, Trial(64, 1, 4, checkpointing=True))
    monkeypatch.setattr(calibrating, "design", lambda model, recipe: trials)
    monkeypatch.setattr(calibrating, "LONG_ENOUGH", 0.0)

    stages = Counter(event.stage for event in api.calibrate(project) if isinstance(event, Progress))
    assert stages["measuring"] == len(trials)

    planned = api.plan(project)
    estimate = planned.estimate
    assert estimate is not None and not estimate.notes
    assert estimate.training_seconds == pytest.approx(estimate.step_seconds * planned.steps)
    assert estimate.step_seconds > 0 and estimate.painting_seconds > 0 and estimate.error >= 0.05
    larger = api.plan(project, overrides=["train.batch=6"]).estimate
    assert larger is not None and larger.step_seconds > estimate.step_seconds
    json.dumps(planned.to_dict())

    other = api.plan(project, overrides=["train.optimizer=lion"]).estimate
    assert other is not None and "optimizer adamw, and now lion" in other.notes[0]
    assert api.plan(project, overrides=["memory.precision=bf16"]).estimate is None  # another way to hold the base


@pytest.mark.parametrize("broken", ["", "[]", '{"calibration": {}, "about": {}}', "{"])
def test_a_damaged_record_is_none(project: Path, broken: str) -> None:
    recipe = load(project)
    base = base_of(recipe, project)
    policy = chosen(base, recipe.memory, task="train").policy
    place = calibrating._place(base, policy)
    assert place.is_relative_to(settings.load().cache)
    place.parent.mkdir(parents=True)
    place.write_text(broken, encoding="utf-8")

    found: tuple[Any, list[str]] = calibrating.known(base, recipe, policy)
    assert found == (None, [])
