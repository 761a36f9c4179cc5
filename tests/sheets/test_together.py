"""Pictures painted together equal those painted alone, and what they share is done once.

The tolerance is 1e-4 of the latents' size, before they are rounded to 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny
from velatura import randomness
from velatura.adapters.kinds import Norm
from velatura.adapters.layers import every_shape, shapes
from velatura.adapters.merge import Applied
from velatura.adapters.targets import select
from velatura.adapters.turned import Oft
from velatura.adapters.weights import Lora as Change
from velatura.events import Note
from velatura.family import Model, load_base
from velatura.generation import generate as painting
from velatura.generation.hires import Hires
from velatura.generation.sampling import Job, Sampling
from velatura.recipe import TuningSettings
from velatura.sheets import together
from velatura.sheets.together import Lora, Wanted
from velatura.training.samples import merged

SAMPLING = Sampling(64, 64, 3, 3.0, "Euler", "Karras")
Use = Callable[..., Lora]


@pytest.fixture(scope="module")
def lora(model: Model) -> Use:
    """A LoRA on attention and text, at a strength."""
    made: dict[int, dict[str, Any]] = {}

    def use(seed: int, strength: float, text: float | None = None) -> Lora:
        layers = made.setdefault(seed, drawn(model, seed))
        return Lora(Applied(layers, strength, strength if text is None else text, name="adapter"), seed)

    return use


def drawn(model: Model, seed: int) -> dict[str, Any]:
    known = shapes(model.trainable_parts)
    layers: dict[str, Any] = {}
    for name in select(["attention", "text"], known, presets=model.family.targets):
        draw = randomness.generator(seed, "lora", name)
        (out, *rest) = known[name]
        down, up = (0.5 * draw.standard_normal(shape).astype(np.float32) for shape in ((2, *rest), (out, 2)))
        layers[name] = Change(down, up, 2.0)
    return layers


@pytest.fixture
def latents(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What is decoded, in order."""
    found: list[Tensor] = []
    real = painting.decode

    def decode(model: Model, latents_BCHW: Tensor) -> Any:
        found.extend(latents_BCHW.clone())
        return real(model, latents_BCHW)

    monkeypatch.setattr(painting, "decode", decode)
    monkeypatch.setattr(together, "decode", decode)
    return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, model: Model) -> list[int]:
    """How many samples the denoiser was given, each time."""
    found: list[int] = []
    real = model.family.predict

    def predict(told: Model, noisy: Tensor, *rest: Any) -> Tensor:
        found.append(len(noisy))
        return real(told, noisy, *rest)

    monkeypatch.setattr(model.family, "predict", predict)
    return found


def paint(model: Model, wanted: Sequence[Wanted], latents: list[Tensor], **told: Any) -> tuple[list[Tensor], list[str]]:
    """The latents of each, and the notes."""
    latents.clear()
    found: dict[int, Tensor] = {}
    notes, decoded = [], 0
    for event in together.painted(model, wanted, **told):
        if isinstance(event, together.Finished):
            found |= dict.fromkeys(event.places, latents[decoded])
            decoded += 1
        elif isinstance(event, Note):
            notes.append(event.text)
    return [found[place] for place in range(len(wanted))], notes


def alone(model: Model, one: Wanted, latents: list[Tensor]) -> Tensor:
    """As `velatura generate` paints it."""
    latents.clear()
    model.clip_skip, model.emphasis = one.clip_skip, one.emphasis
    with merged(model, [lora.applied for lora in one.loras], apart=one.sampling.apart) as adapters:
        list(painting.generate(model, [one.job], one.sampling, start=one.start, hires=one.hires, adapters=adapters))
    return latents[-1]


def check_alike(model: Model, wanted: Sequence[Wanted], latents: list[Tensor], **told: Any) -> list[str]:
    painted, notes = paint(model, wanted, latents, **told)
    for one, found in zip(wanted, painted, strict=True):
        expected = alone(model, one, latents)
        tolerance = 1e-4 * max(1.0, float(expected.square().mean().sqrt()))
        assert float((found - expected).abs().max()) <= tolerance, one
    return notes


def test_pictures_that_differ_in_seed_prompt_guidance_and_loras_are_one_batch_and_equal_those_painted_alone(
    model: Model, lora: Use, latents: list[Tensor], asked: list[int]
) -> None:
    boat = Job("a red boat", 1)
    wanted = [
        Wanted(boat, SAMPLING),
        Wanted(boat, SAMPLING, (lora(1, 0.0),)),
        Wanted(boat, SAMPLING, (lora(1, 0.4),)),
        Wanted(boat, SAMPLING, (lora(1, 1.2),)),
        Wanted(boat, SAMPLING, (lora(2, 0.8),)),
        Wanted(boat, SAMPLING, (lora(1, 0.5), lora(2, 0.5, 0.1))),
        Wanted(Job("a house on a (green:1.3) hill", 2, "blurred"), SAMPLING, (lora(2, -0.5),)),
        Wanted(boat, replace(SAMPLING, cfg_scale=6.0), (lora(1, 0.4),)),
    ]
    paint(model, wanted, latents, batch=8)
    assert asked == [14] * SAMPLING.steps, "seven pictures, as strength 0 is the base, each with both sides of guidance"
    check_alike(model, wanted, latents, batch=8)

    painted, _ = paint(model, wanted, latents, batch=8)
    assert torch.equal(painted[0], painted[1])
    tolerance = 1e-4 * max(1.0, float(painted[0].square().mean().sqrt()))
    for first, second in ((0, 2), (2, 3), (3, 4), (4, 5), (2, 7)):
        assert float((painted[first] - painted[second]).abs().max()) >= 100 * tolerance


def test_what_the_two_sides_of_guidance_have_of_a_lora_is_multiplied_by_each_pictures_own_strength(
    model: Model, lora: Use, latents: list[Tensor]
) -> None:
    sides = replace(SAMPLING, negative_strength=0.3)
    job = Job("a red boat", 1, "a house")
    wanted = [Wanted(job, sides, (lora(1, strength),)) for strength in (0.0, 0.5, 1.0)]
    check_alike(model, wanted, latents)


def test_pictures_without_guidance_stand_in_a_batch_of_their_own(
    model: Model, lora: Use, latents: list[Tensor], asked: list[int]
) -> None:
    plain = replace(SAMPLING, cfg_scale=1.0)
    wanted = [Wanted(Job("a boat", seed), how, (lora(1, 0.5 * seed),)) for how in (SAMPLING, plain) for seed in (1, 2)]
    check_alike(model, wanted, latents)
    asked.clear()
    paint(model, wanted, latents)
    assert asked == [4] * 3 + [2] * 3


def test_a_first_pass_is_painted_once_for_all_second_passes_that_begin_with_it(
    model: Model, lora: Use, latents: list[Tensor], asked: list[int]
) -> None:
    seconds = [Hires(1.5, denoising=denoising, steps=2) for denoising in (0.4, 0.8)]
    wanted = [
        Wanted(Job("a boat", 1), SAMPLING, (lora(1, strength),), hires=hires)
        for hires in seconds
        for strength in (0.4, 0.9)
    ]
    paint(model, wanted, latents)
    assert asked == [4] * (3 + 2 + 2), "three steps of the first pass, and two of each second one"
    check_alike(model, wanted, latents)


def test_how_texts_are_read_is_each_pictures_own(model: Model, lora: Use, latents: list[Tensor]) -> None:
    job = Job("a (red:1.4) boat", 1)
    wanted = [Wanted(job, SAMPLING, clip_skip=1), Wanted(job, SAMPLING, clip_skip=2)]
    wanted += [Wanted(job, SAMPLING, (lora(1, 0.0, 1.0),)), Wanted(job, SAMPLING, emphasis="comfy")]
    painted, _ = paint(model, wanted, latents)
    assert len({found.sum().item() for found in painted}) == 4
    check_alike(model, wanted, latents)


def test_texts_are_read_once_for_all_loras_that_do_not_change_how_they_are_read(
    model: Model, lora: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    real = together.read_texts

    def read_texts(told: Model, texts: list[str], *rest: Any) -> Any:
        calls.append(texts)
        return real(told, texts, *rest)

    monkeypatch.setattr(together, "read_texts", read_texts)
    layers = {name: change for name, change in lora(1, 1.0).applied.layers.items() if name.startswith("denoiser")}
    silent = [Lora(Applied(layers, strength, strength), "silent") for strength in (0.5, 1.0)]
    together.read(model, [Wanted(Job("a boat", 1), SAMPLING, (one,)) for one in silent])
    assert len(calls) == 1
    together.read(model, [Wanted(Job("a boat", 1), SAMPLING, (lora(1, strength),)) for strength in (0.5, 1.0)])
    assert len(calls) == 3


def test_pictures_whose_noise_depends_on_the_batch_are_painted_one_by_one(
    model: Model, latents: list[Tensor], asked: list[int]
) -> None:
    together_ = replace(SAMPLING, sampler="DPM++ SDE", tuning=TuningSettings(one_path=True))
    paint(model, [Wanted(Job("a boat", seed), together_) for seed in (1, 2)], latents)
    assert set(asked) == {2}


@pytest.mark.parametrize("kind", ["norm", "turns"])
def test_a_lora_that_is_not_in_proportion_to_its_strength_is_painted_with_at_one_strength_at_a_time(
    model: Model, lora: Use, latents: list[Tensor], asked: list[int], kind: str
) -> None:
    draw = np.random.default_rng(0)
    layers = dict(lora(1, 1.0).applied.layers)
    if kind == "norm":
        name, shape = next(
            (name, shape) for name, shape in every_shape(model.trainable_parts).items() if len(shape) == 1
        )
        layers[name] = Norm(draw.standard_normal(shape).astype(np.float32), None)
    else:
        name = next(name for name in layers if name.startswith("denoiser"))
        out = shapes(model.trainable_parts)[name][0]
        scale = 1 + draw.standard_normal(out).astype(np.float32)
        layers[name] = Oft(draw.standard_normal((out // 4, 4, 4)).astype(np.float32), 0.0, scale)
    odd = [Lora(Applied(layers, strength, strength, name="odd"), "odd") for strength in (0.5, 1.0)]
    wanted = [Wanted(Job("a boat", seed), SAMPLING, (one, lora(1, 0.2))) for one in odd for seed in (1, 2)]
    check_alike(model, wanted, latents)
    asked.clear()
    paint(model, wanted, latents)
    assert asked == [4] * 6


def test_a_base_that_takes_its_samples_together_is_painted_with_at_one_strength_at_a_time_and_says_so(
    tmp_path: Path, latents: list[Tensor]
) -> None:
    z_image = load_base(tiny.BASES["z_image"](tmp_path / "z"))
    layers: dict[str, Any] = {}
    for name, (out, *rest) in shapes(z_image.trainable_parts).items():
        if "cap_embedder" in name:
            draw = randomness.generator(1, "lora", name)
            down, up = (0.5 * draw.standard_normal(shape).astype(np.float32) for shape in ((2, *rest), (out, 2)))
            layers[name] = Change(down, up, 2.0)
    assert layers
    side, how = z_image.resolution, ("Euler", "Simple")
    sampling = Sampling(side, side, 2, 3.0, *how)
    wanted = [
        Wanted(Job("a red boat", seed), sampling, (Lora(Applied(layers, strength, 0.0, name="ink"), "ink"),))
        for strength in (0.5, 1.0)
        for seed in (1, 2)
    ]
    notes = check_alike(z_image, wanted, latents)
    assert len(notes) == 1 and "so cells of one strength are painted at a time" in notes[0]


@pytest.fixture
def room_for(monkeypatch: pytest.MonkeyPatch, model: Model) -> Callable[[int, BaseException], list[int]]:
    """A denoiser that has room for so many samples at a time, both sides of guidance counted."""

    def limit(most: int, error: BaseException) -> list[int]:
        found: list[int] = []
        real = model.family.predict

        def predict(told: Model, noisy: Tensor, *rest: Any) -> Tensor:
            found.append(len(noisy))
            if len(noisy) > most:
                raise error
            return real(told, noisy, *rest)

        monkeypatch.setattr(model.family, "predict", predict)
        return found

    return limit


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "mps", "python"],
)
def test_where_there_is_no_room_for_a_batch_it_and_all_that_come_are_halved_and_that_is_said(
    model: Model,
    latents: list[Tensor],
    room_for: Callable[[int, BaseException], list[int]],
    error: BaseException,
) -> None:
    wanted = [Wanted(Job("a red boat", seed), replace(SAMPLING, steps=1)) for seed in range(6)]
    expected, _ = paint(model, wanted, latents, batch=4)
    asked = room_for(4, error)
    painted, notes = paint(model, wanted, latents, batch=4)
    assert asked == [8, 4, 4, 4]
    assert notes == ["there is no memory for 4 pictures at a time; so it is 2 from now on"]
    for found, one in zip(painted, expected, strict=True):
        assert float((found - one).abs().max()) <= 1e-4


def test_no_room_for_a_single_picture_and_any_other_error_end_it(
    model: Model, latents: list[Tensor], room_for: Callable[[int, BaseException], list[int]]
) -> None:
    wanted = [Wanted(Job("a red boat", seed), replace(SAMPLING, steps=1)) for seed in range(2)]
    asked = room_for(1, MemoryError())
    with pytest.raises(MemoryError):
        paint(model, wanted, latents, batch=2)
    assert asked == [4, 2]
    asked = room_for(1, RuntimeError("the shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes"):
        paint(model, wanted, latents, batch=2)
    assert asked == [4]


def test_a_second_pass_that_there_is_no_room_for_is_halved_with_what_the_first_passes_painted(
    model: Model, latents: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [
        Wanted(Job("a red boat", seed), replace(SAMPLING, steps=1), hires=Hires(1.5, denoising=share))
        for seed in (1, 2)
        for share in (0.5, 0.9)
    ]
    expected, _ = paint(model, wanted, latents, batch=2)
    real, asked = model.family.predict, []

    def predict(told: Model, noisy: Tensor, *rest: Any) -> Tensor:
        asked.append(tuple(noisy.shape[:3:2]))
        if noisy.shape[2] > SAMPLING.height // 8 and len(noisy) > 2:
            raise MemoryError
        return real(told, noisy, *rest)

    monkeypatch.setattr(model.family, "predict", predict)
    painted, notes = paint(model, wanted, latents, batch=2)
    assert len(notes) == 1 and len(asked) < 2 * 4 + 2
    for found, one in zip(painted, expected, strict=True):
        assert float((found - one).abs().max()) <= 1e-4
