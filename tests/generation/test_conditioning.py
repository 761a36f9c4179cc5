"""What a picture is told at each step, against a loop written out by hand with A1111's counting and formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity import prompts, within
from velatura.events import Progress
from velatura.family import Conditioning, Geometry, Model
from velatura.generation.generate import generate
from velatura.generation.hires import Hires
from velatura.generation.reading import encoded
from velatura.generation.sampling import Job, Sampling

STEPS = 4
QUICK = Sampling(64, 64, steps=STEPS, cfg_scale=9.0, sampler="Euler", scheduler="SGM Uniform")
TOLERANCE = within(prompts.ROWS, "The text of each step")

Told = Callable[[int], Sequence[tuple[str, float]]]


@pytest.fixture
def latents(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Latents as they are painted, before they are decoded."""
    seen: list[Tensor] = []
    decode = type(model.family).decode_latents

    def watched(self: Any, model: Model, latents_BCHW: Tensor) -> Tensor:
        seen.extend(latents_BCHW.clone())
        return decode(self, model, latents_BCHW)

    monkeypatch.setattr(type(model.family), "decode_latents", watched)
    return seen


def paint(model: Model, latents: list[Tensor], jobs: Sequence[Job], sampling: Sampling = QUICK) -> list[Tensor]:
    latents.clear()
    assert any(isinstance(event, Progress) for event in list(generate(model, jobs, sampling)))
    return list(latents)


@torch.no_grad()
def by_hand(model: Model, seed: int, told: Told, negative: Callable[[int], str], cfg_scale: float = 9.0) -> Tensor:
    """Euler's steps with uncond + sum of (cond - uncond) * weight * scale, as A1111 has it."""
    from velatura.diffusion.schedules import SCHEDULES

    sigmas = SCHEDULES["SGM Uniform"](model.objective_for(8, 8), STEPS)
    x = torch.randn((1, 4, 8, 8), generator=torch.Generator("cpu").manual_seed(seed)) * sigmas[0]
    size = torch.full((1, 2), 64.0)
    geometry = Geometry(size, torch.zeros_like(size), size)

    def denoised(text: str, sigma: float) -> Tensor:
        sigma_B = torch.full((1,), sigma, dtype=torch.float64)
        conditioning = Conditioning(encoded(model, text), geometry)
        return model.objective.denoised(x, model.family.predict(model, x, sigma_B, conditioning), sigma_B)

    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        uncond = denoised(negative(step), sigma)
        aim = uncond.clone()
        for text, weight in told(step):
            aim += (denoised(text, sigma) - uncond) * (weight * cfg_scale)
        x = x + (x - aim) / sigma * (following - sigma)
    return x[0]


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max()) / max(1.0, float(b.square().mean().sqrt()))


def alone(text: str) -> Told:
    return lambda _: [(text, 1.0)]


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("a [cat:dog:2]", ["a cat", "a cat", "a cat", "a dog"]),
        ("a [cat:dog:0.5]", ["a cat", "a cat", "a cat", "a dog"]),
        ("a [cat:dog:1]", ["a cat", "a cat", "a dog", "a dog"]),
        ("a [cat:dog:0]", ["a dog"] * 4),
        ("a [cat:dog:4]", ["a cat"] * 4),
        ("a [cat|dog]", ["a cat", "a cat", "a dog", "a cat"]),
        ("a cat[ in the (snow:1.3):1]", ["a cat", "a cat", "a cat in the (snow:1.3)", "a cat in the (snow:1.3)"]),
    ],
)
def test_each_step_is_painted_with_its_text_counted_as_a1111_counts(
    model: Model, latents: list[Tensor], prompt: str, texts: list[str]
) -> None:
    """A1111 counts the steps of a picture from 0, so the first text has one step more than it says."""
    (found,) = paint(model, latents, [Job(prompt, 3, "sea")])
    expected = by_hand(model, 3, lambda step: [(texts[step], 1.0)], lambda _: "sea")
    assert distance(found, expected) < TOLERANCE
    for first_and_last in {texts[0], texts[-1]} if len(set(texts)) > 1 else ():
        still = by_hand(model, 3, alone(first_and_last), lambda _: "sea")
        assert distance(found, still) > 100 * TOLERANCE


def test_a_negative_prompt_changes_with_the_steps_too(model: Model, latents: list[Tensor]) -> None:
    (found,) = paint(model, latents, [Job("a boat", 3, "[snow:sea:1]")])
    expected = by_hand(model, 3, alone("a boat"), lambda step: "snow" if step <= 1 else "sea")
    assert distance(found, expected) < TOLERANCE
    assert distance(found, by_hand(model, 3, alone("a boat"), lambda _: "snow")) > 100 * TOLERANCE


@pytest.mark.parametrize("cfg_scale", [9.0, 1.0])
def test_prompts_joined_by_and_pull_together_each_with_its_weight(
    model: Model, latents: list[Tensor], cfg_scale: float
) -> None:
    job = Job("a red boat :0.7 AND a [cat:dog:1] :-0.4 AND the sea", 3, "snow")
    (found,) = paint(model, latents, [job], replace(QUICK, cfg_scale=cfg_scale))

    def told(step: int) -> list[tuple[str, float]]:
        return [("a red boat", 0.7), (" a cat" if step <= 1 else " a dog", -0.4), (" the sea", 1.0)]

    assert distance(found, by_hand(model, 3, told, lambda _: "snow", cfg_scale)) < TOLERANCE
    plain = by_hand(model, 3, alone("a red boat a cat the sea"), lambda _: "snow", cfg_scale)
    assert distance(found, plain) > 100 * TOLERANCE


def test_a_single_prompt_s_weight_is_a_factor_of_its_guidance(model: Model, latents: list[Tensor]) -> None:
    (found,) = paint(model, latents, [Job("a boat :0.5", 3, "snow")])
    (half,) = paint(model, latents, [Job("a boat", 3, "snow")], replace(QUICK, cfg_scale=4.5))
    assert distance(found, half) < TOLERANCE
    (whole,) = paint(model, latents, [Job("a boat", 3, "snow")])
    assert distance(found, whole) > 100 * TOLERANCE


def test_and_in_a_negative_prompt_is_a_word(model: Model, latents: list[Tensor]) -> None:
    (found,) = paint(model, latents, [Job("a boat", 3, "snow AND sea :2")])
    expected = by_hand(model, 3, alone("a boat"), lambda _: "snow AND sea :2")
    assert distance(found, expected) < TOLERANCE


def test_prompts_of_a_batch_keep_to_their_own_picture(model: Model, latents: list[Tensor]) -> None:
    jobs = [
        Job("a red boat AND the sea :0.5", 1, "snow"),
        Job("a [cat|dog] " + "in the snow, " * 30, 2),
        Job("a house", 3, "[cat::2]"),
    ]
    for sampling in (QUICK, replace(QUICK, cfg_scale=1.0)):
        together = paint(model, latents, jobs, sampling)
        for job, found in zip(jobs, together, strict=True):
            assert distance(found, paint(model, latents, [job], sampling)[0]) < TOLERANCE


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are told, each time that the denoiser is asked."""
    seen: list[str] = []
    from velatura.generation import conditioning

    text_at = conditioning.text_at

    def watched(texts: Any, step: int) -> str:
        seen.append(text_at(texts, step))
        return seen[-1]

    monkeypatch.setattr(conditioning, "text_at", watched)
    return seen


@pytest.mark.parametrize(
    ("prompt", "first", "second"),
    [
        ("[cat:dog:1]", ["cat", "cat", "dog", "dog"], ["dog"] * 4),
        ("[cat:dog:1.25]", ["cat"] * 4, ["cat", "cat", "dog", "dog"]),
        ("[cat:dog:5]", ["cat"] * 4, ["cat", "cat", "dog", "dog"]),
    ],
)
def test_a_second_pass_goes_on_counting(
    model: Model, asked: list[str], prompt: str, first: list[str], second: list[str]
) -> None:
    list(generate(model, [Job(prompt, 1)], QUICK, hires=Hires(scale=1.5)))
    assert [text for text in asked if text] == [*first, *second]


def test_where_a_sampler_asks_twice_a_step_the_step_counts(model: Model, asked: list[str]) -> None:
    list(generate(model, [Job("[cat:dog:1]", 1)], replace(QUICK, sampler="Heun")))
    assert [text for text in asked if text] == ["cat"] * 4 + ["dog"] * 3


def test_texts_are_encoded_once_and_conditioning_is_built_where_they_change(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, built = [], []
    encode, conditioned = type(model.family).encode_prompts, Model.conditioned
    monkeypatch.setattr(
        type(model.family), "encode_prompts", lambda self, *given: (read.append(1), encode(self, *given))[1]
    )
    monkeypatch.setattr(
        Model, "conditioned", lambda self, *given, **how: (built.append(1), conditioned(self, *given, **how))[1]
    )
    list(generate(model, [Job("a [cat:dog:1] in [snow::2]", 1), Job("a cat in snow", 2)], QUICK))
    assert len(read) == 4, "cat in snow, dog in snow, dog in, and nothing as negative prompt"
    assert len(built) == 3
