"""Restart sampling: Heun's steps that go back up to more noise once or twice, and down again.

Source: Xu et al. 2023, arXiv:2306.14878, with the choices of A1111.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from velatura.diffusion.samplers.single_step import heun_step
from velatura.diffusion.samplers.step import Denoise, Noise, Step, intervals, needs

FEWEST = 20
"""With fewer steps there is none to spare for going back."""
LOW, HIGH = 0.1, 2.0
"""It goes back from the noise level nearest to the first, to that nearest to the second."""


def sample_restart(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], *, noise: Noise | None = None, s_noise: float = 1.0
) -> Iterator[Step]:
    """Restart: as many steps as there are noise levels to go, of which it takes its own from 20 on.

    Raises:
        ValueError: there is nothing to draw noise with.
    """
    way = restarts(sigmas)
    draw = needs(noise, s_noise if len(way) >= FEWEST else 0.0)
    reached = way[0][0]
    for index, (sigma, following) in enumerate(way):
        if sigma > reached:
            x = x + draw(reached, sigma) * (s_noise * math.sqrt(sigma**2 - reached**2))
        denoised = denoise(x, sigma, index)
        x = heun_step(denoise, x, denoised, sigma, following, index)
        reached = following
        yield Step(index, x, denoised)


def restarts(sigmas: Sequence[float]) -> list[tuple[float, float]]:
    """The steps as pairs of noise levels, those of the way back down included."""
    steps = len(sigmas) - 1
    if steps < FEWEST:
        return [(sigma, following) for _, sigma, following in intervals(sigmas)]
    times, again = (2, steps // 4) if steps >= 36 else (1, 9)
    whole = [*_karras(sigmas[0], sigmas[-2], steps - again * times), 0.0]
    low = min(range(len(whole)), key=lambda place: abs(whole[place] - LOW))
    high = min(range(len(whole)), key=lambda place: abs(whole[place] - HIGH))
    way = list(pairwise(whole))
    if high >= low:
        return way
    back = list(pairwise(_karras(whole[high], whole[low], again + 1)))
    return [*way[:low], *back * times, *way[low:]]


def _karras(top: float, bottom: float, count: int) -> list[float]:
    first, last = top ** (1 / 7), bottom ** (1 / 7)
    return [(first + (last - first) * place / (count - 1)) ** 7 for place in range(count)]
