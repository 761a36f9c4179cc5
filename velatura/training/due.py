"""At which steps a run keeps a checkpoint, paints samples, measures its held-out loss, and stops. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from velatura.recipe import CheckpointSettings, Recipe, SampleSettings, ValidationSettings


@dataclass(frozen=True)
class Due:
    """Of a recipe's rhythms; steps are counted as done, the first is 1."""

    recipe: Recipe
    per_epoch: int
    """Optimizer steps."""

    def checkpoint(self, step: int) -> bool:
        """Whether a checkpoint is due: in its rhythm, where samples are due, and at the end."""
        own = self._falls(self.recipe.checkpoints, step)
        return own or self._falls(self.recipe.samples, step) or step == self.recipe.train.steps

    def sample(self, step: int) -> bool:
        """Whether samples are due: in their own rhythm, else at each checkpoint; at the end in any case."""
        if step == self.recipe.train.steps or not self._has_own(self.recipe.samples):
            return self.checkpoint(step)
        return self._falls(self.recipe.samples, step)

    def shown(self, step: int) -> bool:
        """Whether a checkpoint that stands is painted: where samples are due, and where it was only asked for."""
        return self.sample(step) or not self.checkpoint(step)

    def measurement(self, step: int) -> bool:
        """Whether the held-out loss is due: in its own rhythm, else at each checkpoint; at the end in any case."""
        if step == self.recipe.train.steps or not self._has_own(self.recipe.validation):
            return self.checkpoint(step)
        return self._falls(self.recipe.validation, step)

    def _has_own(self, told: SampleSettings | ValidationSettings) -> bool:
        return told.every is not None or told.every_epochs is not None

    def _falls(self, told: CheckpointSettings | SampleSettings | ValidationSettings, step: int) -> bool:
        every = told.every_epochs * self.per_epoch if told.every_epochs else told.every
        return every is not None and step % every == 0


def exhausted(measured: Sequence[float], patience: int) -> bool:
    """Whether the lowest of some losses lies so many measurements back; never with a patience of 0."""
    if not patience or not measured:
        return False
    return len(measured) - 1 - min(range(len(measured)), key=lambda place: measured[place]) >= patience
