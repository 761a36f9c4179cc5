"""What every sampler is made of: the signature, the step it yields, walking down noise levels, ancestral steps.

Sources: Karras et al. 2022, arXiv:2206.00364 (churn); Song et al. 2020, arXiv:2011.13456, with the eta of
k-diffusion (ancestral steps); for flow as ComfyUI has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor

Denoise = Callable[[Tensor, float, int], Tensor]
"""The clean latents that x most likely hides, guidance included: of x, sigma, and the step counted from 0."""

DenoiseBoth = Callable[[Tensor, float, int], tuple[Tensor, Tensor]]
"""The same, and beside it the answer to the negative prompt alone."""

Noise = Callable[[float, float], Tensor]
"""Fresh unit noise of x's shape, for the way from one sigma to the following."""

Sample = Callable[..., "Iterator[Step]"]
"""(denoise, x, sigmas, *, noise=None, ...): what else it takes by name are the settings that it can honour."""


@dataclass(frozen=True)
class Step:
    """One finished sampling step."""

    index: int
    """Counted from 0."""
    x: Tensor
    """Latents after the step; those of the last step are the result."""
    denoised: Tensor
    """The clean latents as this step saw them: what a preview shows."""


def in_unit_variance(step: Step, sigmas: Sequence[float]) -> Step:
    """The step, its latents scaled as DDIM and its kin leave them where they end above 0; others as they are."""
    if step.index < len(sigmas) - 2 or sigmas[-1] == 0:
        return step
    return replace(step, x=step.x / math.sqrt(1 + sigmas[-1] ** 2))


def towards(denoised: Tensor, x: Tensor, kept: float) -> Tensor:
    """The Euler step, written so that the last one (kept = 0) is exactly the clean latents."""
    return denoised + (x - denoised) * kept


def intervals(sigmas: Sequence[float]) -> Iterator[tuple[int, float, float]]:
    """Pairs of neighbouring noise levels, counted.

    Raises:
        ValueError: they do not fall at every step, or there are fewer than two.
    """
    pairs = list(pairwise(sigmas))
    if not pairs or any(sigma <= following for sigma, following in pairs) or sigmas[-1] < 0:
        raise ValueError(f"sampling needs falling noise levels that end at or above 0, got {sigmas}")
    for index, (sigma, following) in enumerate(pairs):
        yield index, float(sigma), float(following)


def needs(noise: Noise | None, amount: float) -> Noise:
    """The noise to draw from, asked for before the first step.

    Raises:
        ValueError: some is added, and there is nothing to draw it with.
    """
    if noise is None and amount:
        raise ValueError("this sampler draws noise: pass noise, or settings with which it draws none")
    return noise or _silent


def _silent(sigma: float, following: float) -> Tensor:
    raise ValueError(f"nothing to draw noise with from {sigma} to {following}")


@dataclass(frozen=True)
class Churn:
    """Latents made a little noisier before each step, as in algorithm 2 of Karras et al.

    Noise is drawn at every step once there is churn, between tmin and tmax or not, so that a seed means what it
    means in A1111.
    """

    noise: Noise | None
    steps: int
    amount: float
    tmin: float
    tmax: float
    s_noise: float

    def __call__(self, x: Tensor, sigma: float, following: float) -> tuple[Tensor, float]:
        """The latents to step from, and their noise level."""
        if not self.amount:
            return x, sigma
        drawn = needs(self.noise, self.amount)(sigma, following)
        if not self.tmin <= sigma <= self.tmax:
            return x, sigma
        up = sigma * (1 + min(self.amount / self.steps, math.sqrt(2) - 1))
        return x + drawn * (self.s_noise * math.sqrt(up**2 - sigma**2)), up


def ancestral_step(sigma: float, following: float, eta: float = 1.0) -> tuple[float, float]:
    """How far down to step, and how much noise to add, to arrive at the following noise level."""
    up = min(following, eta * math.sqrt(following**2 * (sigma**2 - following**2)) / sigma)
    return math.sqrt(following**2 - up**2), up


def ancestral_flow_step(sigma: float, following: float, eta: float = 1.0) -> tuple[float, float, float]:
    """The same for flow: how far down, what is kept of the latents then, and how much noise to add."""
    down = following * (1 + (following / sigma - 1) * eta)
    kept = (1 - following) / (1 - down)
    return down, kept, math.sqrt(max(following**2 - (down * kept) ** 2, 0.0))
