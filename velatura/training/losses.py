"""The training loss: how far the denoiser's prediction is from what it should have said.

Shape suffixes: B batch, C latent channels, H and W latent height and width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from velatura.adapters.lora import Injected
from velatura.diffusion.objective import Objective
from velatura.family import Model
from velatura.recipe import ObjectiveSettings
from velatura.training.data import Batch
from velatura.training.weighting import weight

PLAIN = ObjectiveSettings(min_snr=0.0)
"""Squared errors, every noise level counting the same: what held-out pictures are measured by, whatever is trained."""


def errors(model: Model, batch: Batch, told: ObjectiveSettings = PLAIN) -> Tensor:
    """Mean error of every sample, fp32, (B,); the mean is over all latents, those that a mask hides too."""
    objective = model.objective_for(*batch.clean_BCHW.shape[-2:])
    put_in_BCHW = batch.noise_BCHW if batch.disturbed_BCHW is None else batch.disturbed_BCHW
    noisy_BCHW = objective.add_noise(batch.clean_BCHW, put_in_BCHW, batch.sigma_B)
    predicted_BCHW = model.family.predict(model, noisy_BCHW, batch.sigma_B, batch.conditioning)
    target_BCHW = objective.target(batch.clean_BCHW, batch.noise_BCHW, batch.sigma_B)
    error_BCHW = measured(predicted_BCHW.float() - target_BCHW.float(), objective, told, batch.sigma_B)
    if batch.mask_B1HW is not None:
        error_BCHW = error_BCHW * batch.mask_B1HW.to(error_BCHW.device)
    return error_BCHW.mean(dim=(1, 2, 3))


def measured(distance_BCHW: Tensor, objective: Objective, told: ObjectiveSettings, sigma_B: Tensor) -> Tensor:
    """What each latent's distance counts: its square, its size, or between the two. Source: kohya-ss/sd-scripts."""
    if told.loss == "l2":
        return distance_BCHW.square()
    if told.loss == "l1":
        return distance_BCHW.abs()
    edge_B = bend(objective, told, sigma_B).to(distance_BCHW.dtype).to(distance_BCHW.device)
    edge_B111 = edge_B.view(-1, 1, 1, 1)
    rounded_BCHW = 2 * ((distance_BCHW.square() + edge_B111**2).sqrt() - edge_B111)
    return rounded_BCHW if told.loss == "smooth_l1" else edge_B111 * rounded_BCHW


def bend(objective: Objective, told: ObjectiveSettings, sigma_B: Tensor) -> Tensor:
    """The error at which a Huber loss turns from square to straight, float64, (B,)."""
    if told.huber_schedule == "constant":
        return torch.full_like(sigma_B, told.huber_c)
    if told.huber_schedule == "snr":
        return (1 - told.huber_c) / (1 + sigma_B) ** 2 + told.huber_c
    steps = len(objective.sigmas)
    return torch.exp(math.log(told.huber_c) / steps * objective.timestep(sigma_B))


def preservation(model: Model, injected: Injected, batch: Batch, told: ObjectiveSettings) -> Tensor:
    """What the adapter changes of what the base says of the class, its squares' mean times the setting: a scalar.

    On the batch's own noisy pictures, told with the words of the class in the trigger's place; the base's answer is a
    constant. Divided by the samples of the step, as `loss` is. Source: ostris/ai-toolkit.
    """
    assert batch.preserved is not None and batch.preserving is not None
    objective = model.objective_for(*batch.clean_BCHW.shape[-2:])
    put_in_BCHW = batch.noise_BCHW if batch.disturbed_BCHW is None else batch.disturbed_BCHW
    noisy_BCHW = objective.add_noise(batch.clean_BCHW, put_in_BCHW, batch.sigma_B)
    with torch.no_grad(), injected.silent():
        base_BCHW = model.family.predict(model, noisy_BCHW, batch.sigma_B, batch.preserved)
    said_BCHW = model.family.predict(model, noisy_BCHW, batch.sigma_B, batch.preserving)
    error_B = (said_BCHW.float() - base_BCHW.float()).square().mean(dim=(1, 2, 3))
    whole = len(error_B) if batch.of is None else batch.of
    return told.preserve_weight * error_B.sum() / whole


def loss(model: Model, batch: Batch, told: ObjectiveSettings = PLAIN) -> Tensor:
    """The weighted errors of a batch, summed and divided by the samples of its step: a scalar.

    A batch that is the whole step gives the mean; the losses of a step's micro-batches add up to it, so that their
    gradients do, whatever their sizes. Samples count as their batch says.
    """
    weight_B = weight(model.objective, told, batch.sigma_B)
    if batch.weight_B is not None:
        weight_B = weight_B * batch.weight_B
    error_B = errors(model, batch, told)
    whole = len(error_B) if batch.of is None else batch.of
    return (error_B * weight_B.to(error_B.dtype).to(error_B.device)).sum() / whole
