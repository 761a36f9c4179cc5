"""DPM-Solver of third order, in steps of equal length or of a length that it chooses.

Of the noise levels that they are given both use the first, the last above 0, and how many there are. They end at the
last above 0. Their time is the negative logarithm of sigma; with eta above 0 each step goes too far down and comes
back up with fresh noise.
Source: Lu et al. 2022, arXiv:2206.00927; the step size control and its constants are k-diffusion's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from velatura.diffusion.samplers.step import Denoise, Noise, Step, ancestral_step, intervals, needs

RELATIVE, ABSOLUTE = 0.05, 0.0078
"""The error that a step may make: of the latents, and at least."""
FIRST_STEP = 0.05
CLOSE = 1e-5
"""Nearer to the end than this it is there."""
SAFETY = 0.81
"""A step is taken again, shorter, where it should be shrunk by more than this."""


def sample_dpm_fast(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """As many evaluations as there are steps asked for, three to a step.

    Raises:
        ValueError: eta is above 0 and there is nothing to draw noise with.
    """
    draw = needs(noise, eta)
    start, end = _ends(sigmas)
    orders = fast_orders(len(sigmas) - 1)
    times = [start + (end - start) * place / len(orders) for place in range(len(orders) + 1)]
    for index, order in enumerate(orders):
        time, following = times[index], times[index + 1]
        target, up = _ancestral(time, following, end, eta)
        solver = _Solver(denoise, x, time, index)
        x = solver.reach(target, order)
        if eta:
            x = x + draw(math.exp(-time), math.exp(-following)) * (up * s_noise)
        yield Step(index, x, solver.denoised)


def fast_orders(evaluations: int) -> list[int]:
    """How many evaluations each step has."""
    steps = evaluations // 3 + 1
    if evaluations % 3 == 0:
        return [3] * (steps - 2) + [2, 1]
    return [3] * (steps - 1) + [evaluations % 3]


def sample_dpm_adaptive(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """Steps as long as second and third order agree; how many they are does not depend on what was asked for.

    The error is one number for all of x, so pictures that go through it together shape each other's steps.

    Raises:
        ValueError: eta is above 0 and there is nothing to draw noise with.
    """
    draw = needs(noise, eta)
    time, end = _ends(sigmas)
    length, exponent = FIRST_STEP, 1 / (1.5 if eta else 3)
    below, index = x, 0
    if time >= end - CLOSE:  # the last noise level alone is no way to go
        yield Step(0, x, denoise(x, math.exp(-time), 0))
    while time < end - CLOSE:
        following = min(end, time + length)
        target, up = _ancestral(time, following, end, eta)
        solver = _Solver(denoise, x, time, index)
        low, high = solver.reach(target, 2, place=1 / 3), solver.reach(target, 3)
        allowed = torch.clamp(RELATIVE * torch.maximum(low.abs(), below.abs()), min=ABSOLUTE)
        error = float(torch.linalg.vector_norm((low - high) / allowed)) / math.sqrt(x.numel())
        factor = 1 + math.atan((1 / (error + 1e-8)) ** exponent - 1)
        length *= factor
        if factor < SAFETY:
            continue
        below, x = low, high
        if eta:
            x = x + draw(math.exp(-time), math.exp(-following)) * (up * s_noise)
        time = following
        yield Step(index, x, solver.denoised)
        index += 1


class _Solver:
    """What was found at the start of a step and on the way, so that two orders share it."""

    def __init__(self, denoise: Denoise, x: Tensor, time: float, index: int) -> None:
        self._denoise, self._x, self._time, self._index = denoise, x, time, index
        self.denoised = denoise(x, math.exp(-time), index)
        self._slope = (x - self.denoised) / math.exp(-time)
        self._third: tuple[float, Tensor] | None = None

    def reach(self, target: float, order: int, place: float = 0.5) -> Tensor:
        """The latents at a later time."""
        far, growth = target - self._time, math.expm1(target - self._time)
        sigma = math.exp(-target)
        moved = self._x - self._slope * (sigma * growth)
        if order == 1:
            return moved
        if order == 2:
            change = self._slope_at(place, far) - self._slope
            return moved - change * (sigma * growth / (2 * place))
        change = self._slope_at(1 / 3, far) - self._slope
        reach = 2 / 3 * far
        second = math.exp(-self._time - reach)
        bend = math.expm1(reach) / reach - 1
        there = self._x - self._slope * (second * math.expm1(reach)) - change * (second * 2 * bend)
        change = self._asked(there, self._time + reach) - self._slope
        return moved - change * (sigma * 1.5 * (growth / far - 1))

    def _slope_at(self, place: float, far: float) -> Tensor:
        """The slope at a part of the way, asked for once where both orders need it."""
        reach = place * far
        if self._third is None or self._third[0] != reach:
            there = self._x - self._slope * (math.exp(-self._time - reach) * math.expm1(reach))
            self._third = reach, self._asked(there, self._time + reach)
        return self._third[1]

    def _asked(self, x: Tensor, time: float) -> Tensor:
        sigma = math.exp(-time)
        return (x - self._denoise(x, sigma, self._index)) / sigma


def _ends(sigmas: Sequence[float]) -> tuple[float, float]:
    above = [sigma for _, sigma, _ in intervals(sigmas)]
    last = above[-1] if sigmas[-1] == 0 else float(sigmas[-1])
    return -math.log(above[0]), -math.log(last)


def _ancestral(time: float, following: float, end: float, eta: float) -> tuple[float, float]:
    """The time to step to, and how much noise brings it back to the following one."""
    if not eta:
        return following, 0.0
    sigma = math.exp(-following)
    down, _ = ancestral_step(math.exp(-time), sigma, eta)
    target = end if down <= 0 else min(end, -math.log(down))
    return target, math.sqrt(max(sigma**2 - math.exp(-2 * target), 0.0))
