"""Samplers: from noise to latents, one step at a time.

Every sampler is a generator of one signature. It yields after each step, so progress and previews
are what it yields, and stopping the iteration is the cancel:

    for step in sample_euler(denoise, x, sigmas):
        ...
    latents = step.x

`denoise(x, sigma, step)` gives the clean latents that x most likely hides, guidance included; it is
told the sampling step, counted from 0. `noise(sigma, next_sigma)` draws fresh unit noise of x's
shape, each image from its own seed; samplers that draw none ignore it and `eta`.

All of them solve dx/dsigma = (x - denoised) / sigma, which holds for flow as for epsilon and v.
Adding noise back differs for flow, so samplers that do it refuse flow by `Sampler.flow`.
Sources: Karras et al. 2022, arXiv:2206.00364 (Euler, Heun); Lu et al. 2022, arXiv:2211.01095
(DPM++ 2M); ancestral steps as in Song et al. 2020, arXiv:2011.13456, with the eta of k-diffusion;
Song et al. 2020, arXiv:2010.02502 (DDIM).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from velatura.diffusion.objective import Objective
from velatura.diffusion.schedules import SCHEDULES, Schedule, uniform
from velatura.errors import SettingsError, nearest

Denoise = Callable[[Tensor, float, int], Tensor]
Noise = Callable[[float, float], Tensor]


@dataclass(frozen=True)
class Step:
    """One finished sampling step."""

    index: int
    """Counted from 0."""
    x: Tensor
    """Latents after the step; those of the last step are the result."""
    denoised: Tensor
    """The clean latents as this step saw them: what a preview shows."""


class Sample(Protocol):
    """The signature of every sampler."""

    def __call__(
        self,
        denoise: Denoise,
        x: Tensor,
        sigmas: Sequence[float],
        *,
        noise: Noise | None = None,
        eta: float = 1.0,
    ) -> Iterator[Step]:
        """Walk x down the sigmas."""


def sample_euler(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], *, noise: Noise | None = None, eta: float = 1.0
) -> Iterator[Step]:
    """Straight steps towards the clean latents."""
    for index, sigma, following in _intervals(sigmas):
        denoised = denoise(x, sigma, index)
        x = _towards(denoised, x, following / sigma)
        yield Step(index, x, denoised)


def sample_euler_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], *, noise: Noise | None = None, eta: float = 1.0
) -> Iterator[Step]:
    """Euler steps that go too far down and come back up with fresh noise; eta 0 is plain Euler.

    Raises:
        ValueError: eta is above 0 and there is nothing to draw noise with.
    """
    if eta and noise is None:
        raise ValueError("ancestral sampling draws noise: pass noise, or eta=0")
    for index, sigma, following in _intervals(sigmas):
        denoised = denoise(x, sigma, index)
        down, up = ancestral_step(sigma, following, eta)
        x = _towards(denoised, x, down / sigma)
        if up and noise is not None:
            x = x + noise(sigma, following) * up
        yield Step(index, x, denoised)


def sample_ddim(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], *, noise: Noise | None = None, eta: float = 0.0
) -> Iterator[Step]:
    """DDIM: in sigma space the ancestral steps, of its own accord without noise. The result is free of noise.

    Raises:
        ValueError: eta is above 0 and there is nothing to draw noise with.
    """
    yield from sample_euler_ancestral(denoise, x, sigmas, noise=noise, eta=eta)


def sample_heun(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], *, noise: Noise | None = None, eta: float = 1.0
) -> Iterator[Step]:
    """Euler steps corrected by the slope at their end; two evaluations a step, but one in the last."""
    for index, sigma, following in _intervals(sigmas):
        denoised = denoise(x, sigma, index)
        ahead = _towards(denoised, x, following / sigma)
        if following > 0:
            slope = (x - denoised) / sigma
            slope_ahead = (ahead - denoise(ahead, following, index)) / following
            ahead = x + (slope + slope_ahead) * ((following - sigma) / 2)
        x = ahead
        yield Step(index, x, denoised)


def sample_dpmpp_2m(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], *, noise: Noise | None = None, eta: float = 1.0
) -> Iterator[Step]:
    """DPM-Solver++(2M): second order from the step before, one evaluation a step."""
    last: tuple[float, Tensor] | None = None
    for index, sigma, following in _intervals(sigmas):
        denoised = denoise(x, sigma, index)
        aim = denoised
        if last is not None and following > 0:
            before, denoised_before = last
            ratio = math.log(before / sigma) / math.log(sigma / following)
            aim = denoised + (denoised - denoised_before) / (2 * ratio)
        x = _towards(aim, x, following / sigma)
        last = sigma, denoised
        yield Step(index, x, denoised)


def ancestral_step(sigma: float, following: float, eta: float = 1.0) -> tuple[float, float]:
    """How far down to step, and how much noise to add, to arrive at the following noise level."""
    up = min(following, eta * math.sqrt(following**2 * (sigma**2 - following**2)) / sigma)
    return math.sqrt(following**2 - up**2), up


@dataclass(frozen=True)
class Sampler:
    """A sampler and what is to be known about it."""

    name: str
    run: Sample
    schedule: str
    """What the schedule "Automatic" means for it."""
    evaluations: int = 1
    """Calls of the denoiser for one step."""
    draws: bool = False
    """It adds fresh noise, so `eta` and the seed matter after the start."""
    flow: bool = True
    """It is right for flow objectives too."""
    unit_start: bool = False
    """It starts from noise of variance 1 + sigma^2, as if there were data in it; the others from sigma^2."""

    def start(self, sigma: float) -> float:
        """What unit noise is multiplied by to start from, for epsilon and v."""
        return math.sqrt(1 + sigma**2) if self.unit_start else sigma


SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        Sampler("DPM++ 2M", sample_dpmpp_2m, "Karras"),
        Sampler("Euler", sample_euler, "Uniform"),
        Sampler("Euler a", sample_euler_ancestral, "Uniform", draws=True, flow=False),
        Sampler("Heun", sample_heun, "Uniform", evaluations=2),
        Sampler("DDIM", sample_ddim, "DDIM", flow=False, unit_start=True),
    )
}
"""By A1111's names."""


def resolve(sampler: str, schedule: str, objective: Objective) -> tuple[Sampler, Schedule]:
    """The sampler and the schedule that two names mean for one objective.

    "Automatic" is the sampler's own schedule, and `uniform` for flow. A1111's older names that end
    in the schedule ("DPM++ 2M Karras") are understood.

    Raises:
        SettingsError: an unknown name, or a sampler that is wrong for the objective.
    """
    if sampler not in SAMPLERS:
        for suffix in SCHEDULES:
            if sampler.removesuffix(f" {suffix}") in SAMPLERS and schedule in ("Automatic", suffix):
                sampler, schedule = sampler.removesuffix(f" {suffix}"), suffix
    if sampler not in SAMPLERS:
        raise SettingsError(f"there is no sampler {sampler!r}", fix=_known(sampler, list(SAMPLERS)))
    found = SAMPLERS[sampler]
    if objective.kind == "flow" and not found.flow:
        fitting = ", ".join(name for name, other in SAMPLERS.items() if other.flow)
        raise SettingsError(f"the sampler {sampler!r} does not fit a flow model", fix=f"use one of {fitting}")
    if schedule == "Automatic":
        return found, uniform if objective.kind == "flow" else SCHEDULES[found.schedule]
    if schedule not in SCHEDULES:
        raise SettingsError(f"there is no schedule {schedule!r}", fix=_known(schedule, ["Automatic", *SCHEDULES]))
    return found, SCHEDULES[schedule]


def _known(name: str, known: list[str]) -> str:
    close = nearest(name, known)
    return f"did you mean {close!r}?" if close else f"known are {', '.join(known)}"


def _towards(denoised: Tensor, x: Tensor, kept: float) -> Tensor:
    """The Euler step, written so that the last one (kept = 0) is exactly the clean latents."""
    return denoised + (x - denoised) * kept


def _intervals(sigmas: Sequence[float]) -> Iterator[tuple[int, float, float]]:
    """Pairs of neighbouring noise levels.

    Raises:
        ValueError: they do not fall at every step, or there are fewer than two.
    """
    pairs = list(pairwise(sigmas))
    if not pairs or any(sigma <= following for sigma, following in pairs) or sigmas[-1] < 0:
        raise ValueError(f"sampling needs falling noise levels that end at or above 0, got {sigmas}")
    for index, (sigma, following) in enumerate(pairs):
        yield index, float(sigma), float(following)
