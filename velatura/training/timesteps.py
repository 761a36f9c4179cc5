"""The noise levels of training: one number drawn evenly in [0, 1) becomes one level, by its density's quantiles.

As every density goes through its inverse distribution function, numbers drawn from equal slices of [0, 1) give
levels from equal shares of the density: a batch is spread as evenly as its density allows.

Time t runs from 0, no noise, to 1; a flow's shift turns it into sigma, elsewhere it picks a row of the table.

Sources: Esser et al. 2024, arXiv:2403.03206, 3.1 (logit-normal, mode, shift); Choi et al. 2024, arXiv:2411.14793
(style-friendly); kohya-ss/sd-scripts (sigmoid).
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from velatura.diffusion.objective import DynamicShift, Objective
from velatura.recipe import ObjectiveSettings

HALVINGS = 60
"""Of the search for a time's place in its density: down to the last bit of a double."""


def leaning(objective: Objective, told: ObjectiveSettings) -> Objective:
    """The objective as its levels are drawn in training: with the shift that the recipe tells."""
    if objective.kind != "flow":
        return objective
    if told.timesteps == "style_friendly":
        return replace(objective, shift=1.0)  # its density is that of sigma itself
    if told.shift == "resolution":
        return replace(objective, shift=DynamicShift())
    return objective if told.shift is None else replace(objective, shift=float(told.shift))


def training_sigma(objective: Objective, told: ObjectiveSettings, uniform_B: Tensor) -> Tensor:
    """Noise levels to train on, from numbers drawn evenly in [0, 1); float64 on the CPU, shape (B,).

    Args:
        objective: as `leaning` gives it, its shift settled for the size of the picture.
        told: the density, and the range of timesteps; within the range the density keeps its shape.
        uniform_B: the numbers drawn.
    """
    uniform_B = uniform_B.to(torch.float64)
    low, high = (_time_at(objective, edge / 1000) for edge in (told.min_timestep, told.max_timestep))
    if (low, high) != (0.0, 1.0):
        first, last = _place(low, told), _place(high, told)
        uniform_B = first + uniform_B * (last - first)
    time_B = time(uniform_B, told)
    if (low, high) != (0.0, 1.0):
        time_B = time_B.clamp(low, math.nextafter(high, 0.0))
    return objective.training_sigma(time_B)


def time(uniform_B: Tensor, told: ObjectiveSettings) -> Tensor:
    """The time below which this share of the density lies, float64, shape as given."""
    density = told.timesteps or "uniform"
    if density == "uniform":
        return uniform_B
    if density == "mode":
        away_B = 1 - uniform_B  # the paper's formula falls
        scale = told.mode_scale
        return 1 - away_B - scale * (torch.cos(math.pi / 2 * away_B) ** 2 - 1 + away_B)
    normal_B = torch.special.ndtri(uniform_B)
    if density == "sigmoid":
        return torch.sigmoid(told.sigmoid_scale * normal_B)
    if density == "logit_normal":
        return torch.sigmoid(told.logit_mean + told.logit_std * normal_B)
    # log SNR = 2 log((1 - t) / t), and falls with time
    return torch.sigmoid((told.log_snr_std * normal_B - told.log_snr_mean) / 2)


def _time_at(objective: Objective, edge: float) -> float:
    """The time of a timestep, given as a share of all; a flow's timestep is its sigma, after the shift."""
    if objective.kind != "flow" or isinstance(objective.shift, DynamicShift):
        return edge
    return edge / (objective.shift - (objective.shift - 1) * edge)


def _place(moment: float, told: ObjectiveSettings) -> float:
    """The share of the density that lies below a time."""
    low, high = 0.0, 1.0
    if moment <= 0 or moment >= 1:
        return moment
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = float(time(torch.tensor(middle, dtype=torch.float64), told)) < moment
        low, high = (middle, high) if below else (low, middle)
    return high
