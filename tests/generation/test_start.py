"""Painting from a picture: A1111's steps and A1111's ways of making a picture fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.paintings import clouds
from velatura.errors import SettingsError
from velatura.events import Progress
from velatura.family import Model
from velatura.generation.generate import Painted, generate
from velatura.generation.sampling import Job, Sampling
from velatura.generation.start import Start, encoded_picture, fitted, levels

QUICK = Sampling(96, 64, steps=10, cfg_scale=1.0, sampler="Euler", scheduler="Uniform")


def steps_of(model: Model, start: Start, sampling: Sampling = QUICK) -> int:
    events = list(generate(model, [Job("a boat", 1)], sampling, start=start))
    return len([event for event in events if isinstance(event, Progress)])


@pytest.fixture
def start(model: Model) -> Start:
    return Start(encoded_picture(model, clouds(1, (96, 64)), 96, 64))


@pytest.mark.parametrize(
    ("steps", "denoising", "exact", "schedule", "taken"),
    [
        # A1111 1.10, run: steps and denoising -> the length of the schedule, how many of its steps are taken
        (20, 0.75, False, 20, 16), (20, 0.6, False, 20, 13), (20, 1.0, False, 20, 20), (20, 0.0, False, 20, 1),
        (100, 0.29, False, 100, 29), (1, 0.5, False, 1, 1), (30, 0.05, False, 30, 2),
        (20, 0.75, True, 26, 20), (20, 0.6, True, 33, 20), (20, 1.0, True, 20, 20), (7, 0.35, True, 20, 7),
        (1, 0.3, True, 3, 1),
    ],
)  # fmt: skip
def test_the_last_steps_of_the_schedule_are_taken(
    steps: int, denoising: float, exact: bool, schedule: int, taken: int
) -> None:
    asked: list[int] = []

    def counted(count: int) -> tuple[float, ...]:
        asked.append(count)
        return tuple(float(count - place) for place in range(count + 1))

    found = levels(counted, steps, denoising=denoising, exact_steps=exact)
    assert asked == [schedule]
    assert found == tuple(float(left) for left in range(taken, -1, -1))


@pytest.mark.parametrize(("denoising", "exact"), [(-0.1, False), (1.1, False), (float("nan"), False), (0.0, True)])
def test_a_denoising_that_there_is_not_is_refused(model: Model, start: Start, denoising: float, exact: bool) -> None:
    with pytest.raises(SettingsError, match="denoising"):
        steps_of(model, replace(start, denoising=denoising, exact_steps=exact))


def test_a_schedule_that_would_be_too_long_is_refused(model: Model, start: Start) -> None:
    with pytest.raises(SettingsError, match="the last of 2000, and the table has 1000"):
        steps_of(model, replace(start, denoising=0.005, exact_steps=True), replace(QUICK, scheduler="Simple"))


def test_progress_counts_the_steps_that_are_taken(model: Model, start: Start) -> None:
    assert steps_of(model, replace(start, denoising=0.5)) == 6
    assert steps_of(model, replace(start, denoising=0.5, exact_steps=True)) == 10


@pytest.mark.parametrize("sampler", ["DDIM", "PLMS", "UniPC", "LCM", "DPM2", "DPM fast", "DPM adaptive", "Restart"])
@pytest.mark.parametrize("exact", [False, True])
def test_every_kind_of_schedule_leaves_a_step(model: Model, start: Start, sampler: str, exact: bool) -> None:
    how = replace(QUICK, sampler=sampler, scheduler="Automatic", steps=1 if exact else 10)
    assert steps_of(model, replace(start, denoising=0.05, exact_steps=exact), how) >= 1


def test_how_much_is_painted_anew_matters(model: Model, start: Start) -> None:
    def painted(denoising: float) -> bytes:
        told = replace(start, denoising=denoising)
        (image,) = [one.image for one in generate(model, [Job("", 1)], QUICK, start=told) if isinstance(one, Painted)]
        return image.tobytes()

    assert len({painted(denoising) for denoising in (0.0, 0.3, 0.6, 1.0)}) == 4


def test_each_picture_has_its_own_start_and_its_own_noise(model: Model, start: Start) -> None:
    other = encoded_picture(model, clouds(2, (96, 64)), 96, 64)
    both = replace(start, latents_BCHW=torch.cat([start.latents_BCHW, other]))
    jobs = [Job("a boat", 1), Job("a boat", 1)]

    def painted(told: Start, jobs: list[Job], batch: int) -> list[bytes]:
        events = generate(model, jobs, QUICK, start=told, batch=batch)
        return [one.image.tobytes() for one in events if isinstance(one, Painted)]

    first, second = painted(both, jobs, 1)
    assert first == painted(start, jobs[:1], 1)[0]
    assert second == painted(replace(start, latents_BCHW=other), jobs[:1], 1)[0]
    assert first != second
    assert len(set(painted(start, [Job("a boat", 1), Job("a boat", 2)], 2))) == 2


def test_ways_of_fitting_are_those_of_a1111() -> None:
    """Sizes and corners as A1111 1.10 makes them of the same picture."""
    image = clouds(3, (50, 30))
    assert fitted(image, 32, 32, "latent") is image
    stretched, cropped, filled = (fitted(image, 32, 32, mode) for mode in ("stretch", "crop", "fill"))
    assert stretched.size == cropped.size == filled.size == (32, 32)
    assert np.array_equal(np.asarray(stretched), np.asarray(image.resize((32, 32), Image.Resampling.LANCZOS)))
    wide = image.resize((50 * 32 // 30, 32), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(cropped), np.asarray(wide)[:, 26 - 16 : 26 + 16])
    small = image.resize((32, 30 * 32 // 50), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(filled)[7 : 7 + 19], np.asarray(small))
    assert np.abs(np.asarray(filled, np.int16)[0] - np.asarray(small, np.int16)[0]).max() < 12, "its border, drawn out"
    assert np.asarray(filled)[-1].any(), "no row stays black, as one does in A1111 where a side is odd"


def test_a_picture_of_the_right_proportions_is_the_same_however_it_is_fitted() -> None:
    image = clouds(3, (64, 32))
    made = [fitted(image, 128, 64, mode).tobytes() for mode in ("stretch", "crop", "fill")]
    assert len(set(made)) == 1


def test_an_unknown_way_of_fitting_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean crop"):
        fitted(clouds(1, (9, 9)), 8, 8, "cropp")


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (97, 65), (7, 9)])
def test_pictures_of_every_size_are_taken(model: Model, size: tuple[int, int], tmp_path: Path) -> None:
    for mode in ("stretch", "crop", "fill", "latent"):
        assert encoded_picture(model, clouds(1, size), 96, 64, mode=mode).shape == (1, 4, 8, 12)
