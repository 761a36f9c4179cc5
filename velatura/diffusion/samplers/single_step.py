"""Samplers whose steps do not remember the ones before.

Sources: Karras et al. 2022, arXiv:2206.00364 (Euler, Heun); Lu et al. 2022, arXiv:2206.00927 (DPM2) and
arXiv:2211.01095 (DPM++ 2S); ancestral steps as in Song et al. 2020, arXiv:2011.13456; Song et al. 2020,
arXiv:2010.02502 (DDIM); Chung et al. 2024, arXiv:2406.08070 (CFG++); Luo et al. 2023, arXiv:2310.04378 (LCM).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from velatura.diffusion.samplers.step import (
    Churn,
    Denoise,
    DenoiseBoth,
    Noise,
    Step,
    ancestral_flow_step,
    ancestral_step,
    in_unit_variance,
    intervals,
    needs,
    towards,
)

NEARLY_PURE = 0.9999
"""Stands for 1 where flow needs the signal-to-noise ratio, as in ComfyUI."""


def sample_euler(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """Straight steps towards the clean latents."""
    churn = Churn(noise, len(sigmas) - 1, s_churn, s_tmin, s_tmax, s_noise)
    for index, sigma, following in intervals(sigmas):
        x, up = churn(x, sigma, following)
        denoised = denoise(x, up, index)
        x = towards(denoised, x, following / up)
        yield Step(index, x, denoised)


def sample_heun(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """Euler steps corrected by the slope at their end; two evaluations a step, but one in the last."""
    churn = Churn(noise, len(sigmas) - 1, s_churn, s_tmin, s_tmax, s_noise)
    for index, sigma, following in intervals(sigmas):
        x, up = churn(x, sigma, following)
        denoised = denoise(x, up, index)
        x = heun_step(denoise, x, denoised, up, following, index)
        yield Step(index, x, denoised)


def heun_step(denoise: Denoise, x: Tensor, denoised: Tensor, sigma: float, following: float, index: int) -> Tensor:
    """One step of Heun's, from what the denoiser said at its beginning."""
    ahead = towards(denoised, x, following / sigma)
    if following == 0:
        return ahead
    slope = (x - denoised) / sigma
    slope_ahead = (ahead - denoise(ahead, following, index)) / following
    return x + (slope + slope_ahead) * ((following - sigma) / 2)


def sample_dpm_2(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """Steps along the slope half way down, in log sigma; two evaluations a step, but one in the last."""
    churn = Churn(noise, len(sigmas) - 1, s_churn, s_tmin, s_tmax, s_noise)
    for index, sigma, following in intervals(sigmas):
        x, up = churn(x, sigma, following)
        denoised = denoise(x, up, index)
        x = _dpm_2_step(denoise, x, denoised, up, following, index)
        yield Step(index, x, denoised)


def _dpm_2_step(denoise: Denoise, x: Tensor, denoised: Tensor, sigma: float, following: float, index: int) -> Tensor:
    if following == 0:
        return denoised
    middle = math.sqrt(sigma * following)
    there = towards(denoised, x, middle / sigma)
    return x + (there - denoise(there, middle, index)) * ((following - sigma) / middle)


Advance = Callable[[Denoise, Tensor, Tensor, float, float, int], Tensor]
"""One step without noise: denoiser, x, what it said there, sigma, the noise level to step down to, index -> x."""


def _ancestral(
    advance: Advance,
    split: Callable[[float, float, float], tuple[float, float, float]],
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    draw: Noise,
    eta: float,
    s_noise: float,
) -> Iterator[Step]:
    """Steps that go too far down and come back up with fresh noise.

    Args:
        split: sigma, the following one, eta -> how far down, what is kept of x then, how much noise is added.
    """
    for index, sigma, following in intervals(sigmas):
        denoised = denoise(x, sigma, index)
        down, kept, up = split(sigma, following, eta)
        x = advance(denoise, x, denoised, sigma, down, index)
        if up:
            x = x * kept + draw(sigma, following) * (up * s_noise)
        yield Step(index, x, denoised)


def _split(sigma: float, following: float, eta: float) -> tuple[float, float, float]:
    down, up = ancestral_step(sigma, following, eta)
    return down, 1.0, up


def _euler_step(denoise: Denoise, x: Tensor, denoised: Tensor, sigma: float, down: float, index: int) -> Tensor:
    return towards(denoised, x, down / sigma)


def sample_euler_ancestral(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """Euler steps that go too far down and come back up with fresh noise; eta 0 is plain Euler.

    Raises:
        ValueError: eta is above 0 and there is nothing to draw noise with.
    """
    yield from _ancestral(_euler_step, _split, denoise, x, sigmas, needs(noise, eta), eta, s_noise)


def sample_euler_ancestral_flow(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """The same for flow, where more noise means less of the picture too."""
    yield from _ancestral(_euler_step, ancestral_flow_step, denoise, x, sigmas, needs(noise, eta), eta, s_noise)


def sample_dpm_2_ancestral(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """DPM2 with ancestral steps.

    Raises:
        ValueError: eta is above 0 and there is nothing to draw noise with.
    """
    yield from _ancestral(_dpm_2_step, _split, denoise, x, sigmas, needs(noise, eta), eta, s_noise)


def sample_dpm_2_ancestral_flow(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """The same for flow."""
    yield from _ancestral(_dpm_2_step, ancestral_flow_step, denoise, x, sigmas, needs(noise, eta), eta, s_noise)


def sample_dpmpp_2s_ancestral(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """DPM-Solver++(2S) with ancestral steps: the clean latents as they look half way down, in log sigma.

    Raises:
        ValueError: eta is above 0 and there is nothing to draw noise with.
    """
    yield from _ancestral(_dpmpp_2s_step, _split, denoise, x, sigmas, needs(noise, eta), eta, s_noise)


def sample_dpmpp_2s_ancestral_flow(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """The same for flow: half way down in log signal-to-noise."""
    yield from _ancestral(_dpmpp_2s_flow_step, ancestral_flow_step, denoise, x, sigmas, needs(noise, eta), eta, s_noise)


def _dpmpp_2s_step(denoise: Denoise, x: Tensor, denoised: Tensor, sigma: float, down: float, index: int) -> Tensor:
    middle = math.sqrt(sigma * down)
    return _by_the_middle(denoise, x, denoised, sigma, middle, down, index)


def _dpmpp_2s_flow_step(denoise: Denoise, x: Tensor, denoised: Tensor, sigma: float, down: float, index: int) -> Tensor:
    middle = NEARLY_PURE if sigma == 1 or down == 0 else _half_way_in_snr(sigma, down)
    return _by_the_middle(denoise, x, denoised, sigma, middle, down, index)


def _by_the_middle(
    denoise: Denoise, x: Tensor, denoised: Tensor, sigma: float, middle: float, down: float, index: int
) -> Tensor:
    if down == 0:
        return denoised
    there = denoise(towards(denoised, x, middle / sigma), middle, index)
    return towards(there, x, down / sigma)


def _half_way_in_snr(sigma: float, down: float) -> float:
    ratio = math.sqrt((1 - sigma) / sigma * (1 - down) / down)
    return 1 / (1 + ratio)


def sample_ddim(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], *, noise: Noise | None = None, eta: float = 0.0
) -> Iterator[Step]:
    """DDIM: in sigma space the ancestral steps, of its own accord without noise.

    Raises:
        ValueError: eta is above 0 and there is nothing to draw noise with.
    """
    for step in sample_euler_ancestral(denoise, x, sigmas, noise=noise, eta=eta):
        yield in_unit_variance(step, sigmas)


def sample_ddim_cfgpp(
    denoise: DenoiseBoth, x: Tensor, sigmas: Sequence[float], *, noise: Noise | None = None, eta: float = 0.0
) -> Iterator[Step]:
    """DDIM on the negative prompt's path: guidance decides where to, the negative prompt's noise how far.

    Raises:
        ValueError: eta is above 0 and there is nothing to draw noise with.
    """
    draw = needs(noise, eta)
    for index, sigma, following in intervals(sigmas):
        denoised, negative = denoise(x, sigma, index)
        down, up = ancestral_step(sigma, following, eta)
        x = denoised + (x - negative) * (down / sigma)
        if up:
            x = x + draw(sigma, following) * up
        yield in_unit_variance(Step(index, x, denoised), sigmas)


def sample_lcm(denoise: Denoise, x: Tensor, sigmas: Sequence[float], *, noise: Noise | None = None) -> Iterator[Step]:
    """Latent consistency: all the way to the clean latents, and back up with fresh noise.

    Raises:
        ValueError: there is nothing to draw noise with.
    """
    draw = needs(noise, 1.0)
    for index, sigma, following in intervals(sigmas):
        x = denoised = denoise(x, sigma, index)
        if following > 0:
            x = denoised + draw(sigma, following) * following
        yield Step(index, x, denoised)


def sample_lcm_flow(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], *, noise: Noise | None = None
) -> Iterator[Step]:
    """The same for flow."""
    draw = needs(noise, 1.0)
    for index, sigma, following in intervals(sigmas):
        x = denoised = denoise(x, sigma, index)
        if following > 0:
            x = denoised * (1 - following) + draw(sigma, following) * following
        yield Step(index, x, denoised)
