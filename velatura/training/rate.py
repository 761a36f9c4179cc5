"""The learning rate as a function of the step: nothing to save, nothing to resume."""

from __future__ import annotations

import math

from velatura.recipe import TrainSettings


def learning_rate(settings: TrainSettings, step: int, *, encoder: int | None = None) -> float:
    """The rate of optimizer step `step`, counted from 0.

    Args:
        encoder: which text encoder, counted from 0; text encoders may have rates of their own.
    """
    return full_rate(settings, encoder) * course(settings, step)


def full_rate(settings: TrainSettings, encoder: int | None = None) -> float:
    """The rate at its height, of the denoiser or of a text encoder."""
    told = settings.text_learning_rate
    if encoder is None or told is None:
        return settings.learning_rate
    return told[encoder] if isinstance(told, list) else told


def course(settings: TrainSettings, step: int) -> float:
    """The share of the full rate at a step, 0 to 1.

    Warm-up rises in equal parts and is full at its last step. What falls would reach the floor one step
    behind the last. Where a run was lengthened, each part is a course of its own, without another warm-up.
    """
    warmup = settings.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    begun = max([warmup, *(end for end in settings.lengthened if end <= step)])
    ends = min([settings.steps, *(end for end in settings.lengthened if end > step)])
    return settings.floor + (1 - settings.floor) * _fall(settings, (step - begun) / (ends - begun))


def _fall(settings: TrainSettings, share: float) -> float:
    """From 1 to 0 as the share done goes from 0 to 1.

    Source of REX: Chen, Wolfe and Kyrillidis 2021, arXiv:2107.04197. Restarts are Loshchilov and Hutter's
    (arXiv:1608.03983), all of one length.
    """
    match settings.schedule:
        case "constant":
            return 1.0
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * share))
        case "cosine_restarts":
            return 0.5 * (1 + math.cos(math.pi * (share * settings.cycles % 1)))
        case "linear":
            return 1 - share
        case "polynomial":
            return float((1 - share) ** settings.power)
        case "rex":
            return (1 - share) / (0.5 + 0.5 * (1 - share))
