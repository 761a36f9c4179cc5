"""Samplers that learn from the steps before: one evaluation a step.

Sources: Lu et al. 2022, arXiv:2211.01095 (DPM++ 2M); linear multistep as k-diffusion has it; Liu et al. 2022,
arXiv:2202.09778 (PLMS).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from torch import Tensor

from velatura.diffusion.samplers.step import Denoise, Noise, Step, in_unit_variance, intervals, towards

ADAMS_BASHFORTH: tuple[tuple[float, ...], ...] = (
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""What the newest slope counts, then the older ones, for steps of equal length."""

LMS_ORDER = 4


def sample_dpmpp_2m(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], *, noise: Noise | None = None
) -> Iterator[Step]:
    """DPM-Solver++(2M): second order from the step before."""
    last: tuple[float, Tensor] | None = None
    for index, sigma, following in intervals(sigmas):
        denoised = denoise(x, sigma, index)
        aim = denoised
        if last is not None and following > 0:
            before, denoised_before = last
            ratio = math.log(before / sigma) / math.log(sigma / following)
            aim = denoised + (denoised - denoised_before) / (2 * ratio)
        x = towards(aim, x, following / sigma)
        last = sigma, denoised
        yield Step(index, x, denoised)


def sample_lms(denoise: Denoise, x: Tensor, sigmas: Sequence[float], *, noise: Noise | None = None) -> Iterator[Step]:
    """Linear multistep: the slope as a polynomial in sigma through the last four."""
    slopes: list[Tensor] = []
    for index, sigma, following in intervals(sigmas):
        denoised = denoise(x, sigma, index)
        slopes = [(x - denoised) / sigma, *slopes][:LMS_ORDER]
        visited = [float(sigmas[index - back]) for back in range(len(slopes))]
        for back, slope in enumerate(slopes):
            x = x + slope * _share(visited, back, sigma, following)
        yield Step(index, x, denoised)


def _share(visited: Sequence[float], place: int, start: float, end: float) -> float:
    """The integral from start to end of the polynomial that is 1 at one visited sigma and 0 at the others.

    Two points of Gauss' rule are exact for its degree, which is 3 at most.
    """
    middle, half = (start + end) / 2, (end - start) / 2
    total = 0.0
    for sigma in (middle - half / math.sqrt(3), middle + half / math.sqrt(3)):
        product = 1.0
        for other, elsewhere in enumerate(visited):
            if other != place:
                product *= (sigma - elsewhere) / (visited[place] - elsewhere)
        total += product * half
    return total


def sample_plms(denoise: Denoise, x: Tensor, sigmas: Sequence[float], *, noise: Noise | None = None) -> Iterator[Step]:
    """Pseudo linear multistep: Adams and Bashforth's weights, as if all steps were of one length."""
    slopes: list[Tensor] = []
    for index, sigma, following in intervals(sigmas):
        denoised = denoise(x, sigma, index)
        slopes = [(x - denoised) / sigma, *slopes][:4]
        if len(slopes) == 1:
            slope = slopes[0]
            if following > 0:
                ahead = x + slope * (following - sigma)
                slope = (slope + (ahead - denoise(ahead, following, index)) / following) / 2
        else:
            weights = ADAMS_BASHFORTH[len(slopes) - 2]
            slope = sum((one * weight for one, weight in zip(slopes, weights, strict=True)), slopes[0] * 0)
        x = x + slope * (following - sigma)
        yield in_unit_variance(Step(index, x, x + slope * -following), sigmas)
