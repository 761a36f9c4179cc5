"""The noise of a sample: what it is asked to predict, and what is put in beside that.

Every draw is named by seed, step and the sample's place in the step, so it is the same in any split into
micro-batches and over processes.

Sources: N. Guttenberg 2023, crosslabs.org, "Diffusion with offset noise"; J. Whitaker 2023, "Multi-resolution noise
for diffusion model training"; Ning et al. 2023, arXiv:2301.11706 (input perturbation). Other than in
kohya-ss/sd-scripts, strengths that are drawn and the spread that coarse noise is scaled back to are each sample's
own, not its batch's.

Shape suffixes: C latent channels, H and W latent height and width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from velatura import randomness
from velatura.recipe import ObjectiveSettings


def drawn(clean_CHW: Tensor, told: ObjectiveSettings, *, seed: int, step: int, place: int) -> Tensor:
    """The noise that is to be predicted, fp32 on the CPU, (C, H, W)."""
    shape = tuple(clean_CHW.shape)
    noise_CHW = randomness.normal(shape, seed, "noise", step, place)
    if told.noise_offset:
        noise_CHW = noise_CHW + _offset(clean_CHW, told, seed, step, place)
    if told.multires_iterations:
        noise_CHW = _with_coarser(noise_CHW, told, seed, step, place)
    return noise_CHW


def disturbed(noise_CHW: Tensor, told: ObjectiveSettings, *, seed: int, step: int, place: int) -> Tensor:
    """The noise that is put in: that which is to be predicted, and more where the recipe tells so."""
    strength = told.input_perturbation
    if not strength:
        return noise_CHW
    if told.input_perturbation_random:
        strength *= float(randomness.generator(seed, "perturbation strength", step, place).random())
    return noise_CHW + strength * randomness.normal(tuple(noise_CHW.shape), seed, "perturbation", step, place)


def _offset(clean_CHW: Tensor, told: ObjectiveSettings, seed: int, step: int, place: int) -> Tensor:
    """A number for each channel, (C, 1, 1)."""
    strength_C11 = torch.full((len(clean_CHW), 1, 1), told.noise_offset)
    if told.noise_offset_random:
        strength_C11 *= float(randomness.generator(seed, "noise offset strength", step, place).random())
    if told.noise_offset_adaptive:
        mean_C11 = clean_CHW.float().mean(dim=(1, 2), keepdim=True).abs()
        strength_C11 = (strength_C11 + told.noise_offset_adaptive * mean_C11).clamp(min=0)
    return strength_C11 * randomness.normal((len(clean_CHW), 1, 1), seed, "noise offset", step, place)


def _with_coarser(noise_CHW: Tensor, told: ObjectiveSettings, seed: int, step: int, place: int) -> Tensor:
    """With layers of coarser noise, each two to four times coarser and weaker by the discount, at unit variance."""
    channels, height, width = noise_CHW.shape
    draw = randomness.generator(seed, "multires", step, place)
    for layer in range(told.multires_iterations):
        coarser = (2 + 2 * float(draw.random())) ** layer
        small = max(1, int(height / coarser)), max(1, int(width / coarser))
        layer_CHW = randomness.normal((channels, *small), seed, "multires", step, place, layer)
        scaled_CHW = F.interpolate(layer_CHW[None], size=(height, width), mode="bilinear")[0]
        noise_CHW = noise_CHW + told.multires_discount**layer * scaled_CHW
        if 1 in small:
            break
    return noise_CHW / noise_CHW.std()
