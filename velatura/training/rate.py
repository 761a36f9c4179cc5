"""The learning rate as a function of the step: nothing to save, nothing to resume."""

from __future__ import annotations

import math

from velatura.recipe import TrainSettings


def learning_rate(settings: TrainSettings, step: int, *, text: bool = False) -> float:
    """The rate of optimizer step `step`, counted from 0.

    Args:
        text: of text encoders, which may have a rate of their own.

    Warm-up rises in equal parts and reaches the full rate at its last step; cosine then falls by half
    a wave and would reach zero one step behind the last.
    """
    full = settings.text_learning_rate if text and settings.text_learning_rate else settings.learning_rate
    if step < settings.warmup:
        return full * (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return full
    share = (step - settings.warmup) / (settings.steps - settings.warmup)
    return full * 0.5 * (1 + math.cos(math.pi * share))
