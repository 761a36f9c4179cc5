"""Held-out loss: how much better than the base model a checkpoint predicts pictures it has never seen.

The same pictures, the same noise and the same noise levels (strata) for every checkpoint and for the base:
the log-ratio of paired losses shows differences that are a hundred times smaller than the scatter of a
training loss. It bounds the search (where it rises the run over-fits); it does not
find the prettiest picture.

This module does the arithmetic; losses come from the model elsewhere. Shape suffixes: N pictures, K strata.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from velatura.randomness import generator

DRAWS = 2000
BANDS = ("detail", "structure", "composition")
"""From little noise to much: what a denoiser decides at each."""
ENOUGH_FOR_BOOTSTRAP = 5

Losses = NDArray[np.float64] | Sequence[Sequence[float]]
"""Mean squared error of each cell, shape (N, K)."""


@dataclass(frozen=True)
class HeldOutLoss:
    """Log-ratio of the losses to the base model's: 0 is the base, -0.02 is about 2 % lower."""

    value: float
    standard_error: float | None
    """Over pictures; None for a single one."""
    interval: tuple[float, float] | None
    """95 %; bootstrap over pictures from five on, Student's t of the jackknife below."""
    bands: dict[str, float]
    per_image: tuple[float, ...]


@dataclass(frozen=True)
class Reliance:
    """How much a fitting caption helps, beside the base model."""

    value: float
    """Mean of ln(loss under a wrong caption / loss under the right one)."""
    base_value: float
    share: float | None
    """Of the base's, in [0, 1.2]; None where the base itself does not use the captions."""
    interval: tuple[float, float] | None
    per_image: tuple[float, ...]
    base_per_image: tuple[float, ...]


def held_out_loss(losses_NK: Losses, base_NK: Losses, *, log_snr: Sequence[float]) -> HeldOutLoss:
    """Compare a checkpoint with the base.

    Args:
        losses_NK: the checkpoint's loss per picture and stratum.
        base_NK: the base's, same cells.
        log_snr: log signal-to-noise ratio of each stratum; its thirds are the bands.

    Raises:
        ValueError: shapes differ, or a loss is not a positive number.
    """
    ratio = _log_ratio(losses_NK, base_NK)
    if len(log_snr) != ratio.shape[1]:
        raise ValueError(f"{ratio.shape[1]} strata need as many log-SNR values, got {len(log_snr)}")
    order = np.argsort(-np.asarray(log_snr, dtype=float), kind="stable")
    thirds = zip(BANDS, np.array_split(order, len(BANDS)), strict=True)
    bands = {name: float(ratio[:, columns].mean()) for name, columns in thirds if len(columns)}
    per_image = ratio.mean(axis=1)
    error = standard_error(per_image)
    values = tuple(float(value) for value in per_image)
    return HeldOutLoss(float(per_image.mean()), error, mean_interval(per_image), bands, values)


def gap(held_out: HeldOutLoss, training: HeldOutLoss) -> float:
    """How much more the training pictures gained than the held-out ones: what was learnt by heart."""
    return held_out.value - training.value


def worse_by(one: HeldOutLoss, other: HeldOutLoss) -> tuple[float, float | None]:
    """How much higher `one` is than `other` on the same pictures, and the standard error of that.

    Raises:
        ValueError: they were measured on different numbers of pictures.
    """
    if len(one.per_image) != len(other.per_image):
        raise ValueError("checkpoints must be measured on the same pictures to be compared")
    apart = np.asarray(one.per_image) - np.asarray(other.per_image)
    return float(apart.mean()), standard_error(apart)


def text_reliance(right_NK: Losses, wrong_NK: Losses, base_right_NK: Losses, base_wrong_NK: Losses) -> Reliance:
    """Whether the checkpoint still reads the prompt: loss under another picture's caption against its own.

    Raises:
        ValueError: shapes differ, or a loss is not a positive number.
    """
    ours = _log_ratio(wrong_NK, right_NK).mean(axis=1)
    theirs = _log_ratio(base_wrong_NK, base_right_NK).mean(axis=1)
    if ours.shape != theirs.shape:
        raise ValueError("checkpoint and base must be measured on the same pictures")
    value, base_value = float(ours.mean()), float(theirs.mean())
    error = standard_error(theirs)
    share: float | None = None
    interval: tuple[float, float] | None = None
    if base_value > 0 and (error is None or base_value > 2 * error):
        share = float(np.clip(value / base_value, 0, 1.2))
        if len(ours) >= ENOUGH_FOR_BOOTSTRAP:
            drawn = generator(0, "text reliance").integers(len(ours), size=(DRAWS, len(ours)))
            ratios = ours[drawn].mean(axis=1) / np.maximum(theirs[drawn].mean(axis=1), base_value / 10)
            low, high = np.quantile(np.clip(ratios, 0, 1.2), [0.025, 0.975])
            interval = (float(low), float(high))
    return Reliance(value, base_value, share, interval, tuple(map(float, ours)), tuple(map(float, theirs)))


def standard_error(values: NDArray[np.float64]) -> float | None:
    """Of the mean; of the jackknife too, since for a mean they are the same. None for one value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """95 % interval of the mean; None for one value."""
    error = standard_error(values)
    if error is None:
        return None
    if len(values) < ENOUGH_FOR_BOOTSTRAP:
        half = float(special.stdtrit(len(values) - 1, 0.975)) * error
        return float(values.mean()) - half, float(values.mean()) + half
    drawn = generator(0, "mean interval").integers(len(values), size=(DRAWS, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _log_ratio(losses_NK: Losses, base_NK: Losses) -> NDArray[np.float64]:
    losses, base = np.asarray(losses_NK, dtype=float), np.asarray(base_NK, dtype=float)
    if losses.shape != base.shape or losses.ndim != 2 or 0 in losses.shape:
        raise ValueError(f"losses must be (pictures, strata) for both, got {losses.shape} and {base.shape}")
    if not (np.isfinite(losses).all() and np.isfinite(base).all() and min(losses.min(), base.min()) > 0):
        raise ValueError("a loss is not a positive number")
    return np.asarray(np.log(losses / base))
