"""Samplers of the stochastic equation: fresh noise in every step, as much as an eta of 1 asks for.

They take noise of a Brownian path, so that shorter steps see the same path more finely. Half the logarithm of the
signal-to-noise ratio, lambda, counts their time: for flow, where the picture fades as noise comes, it is
log((1 - sigma) / sigma), and sigma must begin below 1.
Source: Lu et al. 2022, arXiv:2211.01095 (DPM-Solver++), as in k-diffusion and, for flow, ComfyUI.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from torch import Tensor

from velatura.diffusion.samplers.step import Denoise, Noise, Step, ancestral_step, intervals, needs


def sample_dpmpp_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    flow: bool = False,
) -> Iterator[Step]:
    """DPM-Solver++ (stochastic): to the middle of the step, in lambda, and from what is seen there the whole way."""
    draw = needs(noise, eta)
    for index, sigma, following in intervals(sigmas):
        denoised = aim = denoise(x, sigma, index)
        if following > 0:
            middle = _middle(sigma, following, flow=flow)
            there = _leap(x, denoised, sigma, middle, eta, flow=flow)
            aim = denoise(_noisier(there, sigma, middle, draw, eta, s_noise, flow=flow), middle, index)
            x = _leap(x, aim, sigma, following, eta, flow=flow)
            x = _noisier(x, sigma, following, draw, eta, s_noise, flow=flow)
        else:
            x = denoised
        yield Step(index, x, denoised)


def sample_dpmpp_2m_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    solver: Literal["midpoint", "heun"] = "midpoint",
    flow: bool = False,
) -> Iterator[Step]:
    """DPM-Solver++(2M) of the stochastic equation: second order from the step before."""
    draw = needs(noise, eta)
    last: tuple[float, Tensor] | None = None
    for index, sigma, following in intervals(sigmas):
        denoised = denoise(x, sigma, index)
        if following == 0:
            x = denoised
        else:
            step = _lambda(following, flow=flow) - _lambda(sigma, flow=flow)
            x, gone = _decayed(x, denoised, sigma, following, step, eta, flow=flow)
            if last is not None:
                step_before, denoised_before = last
                change = (denoised - denoised_before) * (step / step_before)
                weight = -math.expm1(-gone) / 2 if solver == "midpoint" else _phi_2(gone)
                x = x + change * (_kept(following, flow=flow) * weight)
            if eta:
                x = x + draw(sigma, following) * (following * s_noise * math.sqrt(-math.expm1(-2 * step * eta)))
            last = step, denoised
        yield Step(index, x, denoised)


def sample_dpmpp_3m_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    flow: bool = False,
) -> Iterator[Step]:
    """The same of third order, from the two steps before."""
    draw = needs(noise, eta)
    before: list[tuple[float, Tensor]] = []
    for index, sigma, following in intervals(sigmas):
        denoised = denoise(x, sigma, index)
        if following == 0:
            x = denoised
        else:
            step = _lambda(following, flow=flow) - _lambda(sigma, flow=flow)
            x, gone = _decayed(x, denoised, sigma, following, step, eta, flow=flow)
            x = x + _curvature(denoised, before, step, gone, x) * _kept(following, flow=flow)
            if eta:
                x = x + draw(sigma, following) * (following * s_noise * math.sqrt(-math.expm1(-2 * step * eta)))
            before = [(step, denoised), *before][:2]
        yield Step(index, x, denoised)


def _curvature(denoised: Tensor, before: Sequence[tuple[float, Tensor]], step: float, gone: float, x: Tensor) -> Tensor:
    """What the one or two steps before say about how the clean latents change on the way."""
    if not before:
        return x * 0
    step_1, denoised_1 = before[0]
    ratio = step_1 / step
    first = (denoised - denoised_1) / ratio
    if len(before) == 1:
        return first * _phi_2(gone)
    step_2, denoised_2 = before[1]
    ratio_2 = step_2 / step
    bend = (first - (denoised_1 - denoised_2) / ratio_2) / (ratio + ratio_2)
    return (first + bend * ratio) * _phi_2(gone) - bend * (_phi_2(gone) / gone - 0.5)


def _phi_2(gone: float) -> float:
    return math.expm1(-gone) / gone + 1


def _decayed(
    x: Tensor, denoised: Tensor, sigma: float, following: float, step: float, eta: float, *, flow: bool
) -> tuple[Tensor, float]:
    """A step of first order, and how far it went with its noise's part."""
    gone = step * (1 + eta)
    weight = -math.expm1(-gone) * _kept(following, flow=flow)
    return x * (following / sigma * math.exp(-eta * step)) + denoised * weight, gone


def _leap(x: Tensor, denoised: Tensor, sigma: float, following: float, eta: float, *, flow: bool) -> Tensor:
    """To the lower of the two noise levels of an ancestral step, the picture as strong as at the following one."""
    ratio = _noise_to_signal(sigma, flow=flow)
    down, _ = ancestral_step(ratio, _noise_to_signal(following, flow=flow), eta)
    kept = _kept(following, flow=flow)
    return x * (kept / _kept(sigma, flow=flow) * down / ratio) + denoised * (kept * (1 - down / ratio))


def _noisier(
    x: Tensor, sigma: float, following: float, draw: Noise, eta: float, s_noise: float, *, flow: bool
) -> Tensor:
    """And back up with fresh noise."""
    _, up = ancestral_step(_noise_to_signal(sigma, flow=flow), _noise_to_signal(following, flow=flow), eta)
    return x + draw(sigma, following) * (_kept(following, flow=flow) * up * s_noise) if up else x


def _middle(sigma: float, following: float, *, flow: bool) -> float:
    """The sigma half way in lambda."""
    ratio = math.sqrt(_noise_to_signal(sigma, flow=flow) * _noise_to_signal(following, flow=flow))
    return ratio / (1 + ratio) if flow else ratio


def _lambda(sigma: float, *, flow: bool) -> float:
    return -math.log(_noise_to_signal(sigma, flow=flow))


def _noise_to_signal(sigma: float, *, flow: bool) -> float:
    return sigma / (1 - sigma) if flow else sigma


def _kept(sigma: float, *, flow: bool) -> float:
    """How strong the picture is in the latents."""
    return 1 - sigma if flow else 1.0
