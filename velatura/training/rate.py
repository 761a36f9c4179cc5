"""The learning rate as a function of the step: nothing to save, nothing to resume."""

from __future__ import annotations

import math

from velatura.recipe import TrainSettings


def learning_rate(settings: TrainSettings, step: int) -> float:
    """The rate of optimizer step `step`, counted from 0.

    Warm-up rises in equal parts and reaches the full rate at its last step; cosine then falls by half
    a wave and would reach zero one step behind the last.
    """
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return settings.learning_rate
    share = (step - settings.warmup) / (settings.steps - settings.warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
