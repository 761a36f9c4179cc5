"""What painting is told: how noise becomes a picture, which pictures, and what of it cannot be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from velatura.diffusion import samplers
from velatura.errors import PromptError, SettingsError
from velatura.family import Model
from velatura.generation.hints import Shown
from velatura.generation.prompt.template import Template
from velatura.recipe import TuningSettings

LONGEST = 8192
"""Pixels of a side at most."""


@dataclass(frozen=True)
class Sampling:
    """How noise becomes a picture; the same for all pictures of a batch."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    steps: int = 20
    cfg_scale: float = 5.0
    sampler: str = "DPM++ 2M"
    scheduler: str = "Karras"
    guidance: float = 3.5
    """Told to bases into which guidance is distilled; others do not see it."""
    negative_strength: float = 1.0
    """What the strengths of LoRAs on the denoiser are multiplied by on the negative side of guidance. Below 1 guidance
    leads away from what the base would do of itself, and so brings out what the LoRAs add."""
    tuning: TuningSettings = field(default_factory=TuningSettings)
    """What hardly anyone changes."""
    controls: tuple[Shown, ...] = ()
    """ControlNets, and the hints that they see."""

    @property
    def apart(self) -> bool:
        """Whether LoRAs differ in strength between the two sides of guidance."""
        return self.cfg_scale != 1 and self.negative_strength != 1


@dataclass(frozen=True)
class Job:
    """One picture to paint."""

    prompt: str
    seed: int
    negative_prompt: str = ""
    variation: int = 0
    """The seed of the noise that its own is mixed with."""
    variation_strength: float = 0.0
    """How much of that noise: 0 is none, 1 nothing else."""
    template: Template | None = None
    """What the prompts were made of, where there was something to choose."""
    cfg_scale: float | None = None
    """Its own; none: that of the sampling. Pictures painted together are all at 1, or none of them is."""
    strengths: tuple[tuple[str, float], ...] = ()
    """Adapters, by their name in use, and what their strength is multiplied by for this picture; others by 1."""


def check_variations(jobs: Sequence[Job]) -> None:
    """Refuse variations that there are not.

    Raises:
        SettingsError: a strength beyond 0 to 1, or no seed.
    """
    for job in jobs:
        if not 0 <= job.variation_strength <= 1:
            raise SettingsError(f"a variation of {job.variation_strength:g} is not possible", fix="use 0 to 1")
        if not 0 <= job.variation < 2**64:
            raise SettingsError(f"{job.variation} is not a seed", fix="use a number from 0 to 18446744073709551615")


def check_negative(negative_prompt: str, sampling: Sampling) -> None:
    """Refuse a negative prompt that has no part in painting.

    Raises:
        SettingsError: there is one, and no guidance to keep away from it by.
    """
    asked = samplers.SAMPLERS[sampling.sampler].cfgpp if sampling.sampler in samplers.SAMPLERS else False
    if negative_prompt.strip() and sampling.cfg_scale == 1 and not asked:
        raise SettingsError(
            "a negative prompt has no part in painting at cfg 1",
            where=negative_prompt,
            fix="use cfg 2 or more, which takes twice as long, or leave it out",
        )


def check_guidance(sampling: Sampling) -> None:
    """Refuse settings of guidance where there is none.

    Raises:
        SettingsError: one is told, and the scale is 1.
    """
    tuning = sampling.tuning
    told = {name: getattr(tuning, name) for name in ("cfg_rescale", "skip_early_cfg", "s_min_uncond")}
    if sampling.cfg_scale == 1 and (name := next((name for name, value in told.items() if value), None)):
        raise SettingsError(f"{name} needs guidance, and cfg is 1", fix=f"leave {name} out, or use cfg 2 or more")
    if tuning.s_min_uncond_all and not tuning.s_min_uncond:
        raise SettingsError("s_min_uncond_all needs s_min_uncond", fix="set it too, as in s_min_uncond=1.5")


def check_size(model: Model, width: int, height: int) -> None:
    """Refuse sizes that the model's latents cannot have.

    Raises:
        PromptError: a side is not a multiple of what the networks halve, or is absurd.
    """
    for name, side in (("width", width), ("height", height)):
        if side != nearest_side(model, side):
            step = model.latent_factor * model.side_step
            raise PromptError(
                f"the {name} {side} is not possible with this base, multiples of {step} up to {LONGEST} are",
                fix=f"use {nearest_side(model, side)}",
            )


def nearest_side(model: Model, side: int) -> int:
    """The nearest side, in pixels, that the model's latents can have."""
    step = model.latent_factor * model.side_step
    return min(max(step, round(side / step) * step), LONGEST)


def covering_size(model: Model, width: float, height: float) -> tuple[int, int]:
    """The least width and height, in pixels, that the model's latents can have and that hold these."""
    step = model.latent_factor * model.side_step
    return math.ceil(width / step) * step, math.ceil(height / step) * step
