"""Samplers: from noise to latents, one step at a time.

Every sampler is a generator of one signature. It yields after each step, so progress and previews
are what it yields, and stopping the iteration is the cancel:

    for step in sample_euler(denoise, x, sigmas):
        ...
    latents = step.x

`denoise(x, sigma, step)` gives the clean latents that x most likely hides, guidance included; it is
told the sampling step, counted from 0. `noise(sigma, next_sigma)` draws fresh unit noise of x's
shape, each image from its own seed; samplers that draw none ignore it. What else a sampler takes by
name are the settings that it can honour; `table.Sampler.settings` reads them off.

All of them solve dx/dsigma = (x - denoised) / sigma, which holds for flow as for epsilon and v.
Adding noise back differs for flow, so the samplers that do it have a form of their own for it.
"""

from velatura.diffusion.samplers.dpm_solver import sample_dpm_adaptive, sample_dpm_fast
from velatura.diffusion.samplers.multistep import sample_dpmpp_2m, sample_lms, sample_plms
from velatura.diffusion.samplers.restart import sample_restart
from velatura.diffusion.samplers.sde import sample_dpmpp_2m_sde, sample_dpmpp_3m_sde, sample_dpmpp_sde
from velatura.diffusion.samplers.single_step import (
    sample_ddim,
    sample_ddim_cfgpp,
    sample_dpm_2,
    sample_dpm_2_ancestral,
    sample_dpmpp_2s_ancestral,
    sample_euler,
    sample_euler_ancestral,
    sample_heun,
    sample_lcm,
)
from velatura.diffusion.samplers.step import Noise, Step, ancestral_step
from velatura.diffusion.samplers.table import SAMPLERS, SETTINGS, Sampler, resolve
from velatura.diffusion.samplers.unipc import sample_unipc

__all__ = [
    "SAMPLERS",
    "SETTINGS",
    "Noise",
    "Sampler",
    "Step",
    "ancestral_step",
    "resolve",
    "sample_ddim",
    "sample_ddim_cfgpp",
    "sample_dpm_2",
    "sample_dpm_2_ancestral",
    "sample_dpm_adaptive",
    "sample_dpm_fast",
    "sample_dpmpp_2m",
    "sample_dpmpp_2m_sde",
    "sample_dpmpp_2s_ancestral",
    "sample_dpmpp_3m_sde",
    "sample_dpmpp_sde",
    "sample_euler",
    "sample_euler_ancestral",
    "sample_heun",
    "sample_lcm",
    "sample_lms",
    "sample_plms",
    "sample_restart",
    "sample_unipc",
]
