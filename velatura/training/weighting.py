"""How much the error of each noise level counts.

Several weights multiply, in the order of kohya-ss/sd-scripts; signal-to-noise ratios are those of the levels trained
at, zero terminal SNR included.

Sources: Hang et al. 2023, arXiv:2303.09556 (min-SNR); Crowson et al. 2024, arXiv:2401.11605 (soft min-SNR); Yu et al.
2023, arXiv:2310.08442 (debiased); Esser et al. 2024, arXiv:2403.03206 (a flow's); kohya-ss/sd-scripts (the others).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from velatura.diffusion.objective import FLOW_STEPS, Objective
from velatura.recipe import ObjectiveSettings

MOST_SNR = 1000.0
"""Higher ratios are cut to it in the debiased and v-like weights, as in sd-scripts."""


def weight(objective: Objective, told: ObjectiveSettings, sigma_B: Tensor) -> Tensor:
    """Factor for the error of each sample, float64 on the CPU, shape (B,)."""
    sigma_B = sigma_B.detach().to("cpu", torch.float64)
    weight_B = torch.ones_like(sigma_B)
    capped_B = objective.snr(sigma_B).clamp(max=MOST_SNR)
    if told.min_snr:
        weight_B = objective.loss_weight(sigma_B, told.min_snr, soft=told.soft_min_snr)
    if told.v_as_noise:
        weight_B = weight_B * capped_B / (capped_B + 1)
    if told.v_like:
        weight_B = weight_B * (1 + told.v_like * (capped_B + 1) / capped_B)
    if told.debiased:
        weight_B = weight_B * (1 / (capped_B + 1) if objective.kind == "v" else capped_B.rsqrt())
    if told.flow_weighting == "sigma_sqrt":
        weight_B = weight_B * sigma_B.clamp(min=1 / FLOW_STEPS) ** -2
    if told.flow_weighting == "cosmap":
        weight_B = weight_B * 2 / (math.pi * (1 - 2 * sigma_B + 2 * sigma_B**2))
    return weight_B
