"""Adapters that come and go between sampling steps.

What a layer needs is made anew only where it changes, and always from the base's own weights; see `merge`. Text
encoders are read once, before the first step, so the steps of an adapter are those of its denoiser layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from velatura.adapters.merge import Applied

Put = Callable[[Sequence[Applied]], object]
"""Makes a model have these adapters and no others."""


class Switch:
    """The adapters in use, and how they are put into the model."""

    def __init__(self, uses: Sequence[Applied], put: Put) -> None:
        """They are in the model as they are before the first step."""
        self._uses = list(uses)
        self._put = put
        self._now = active(self._uses, 1)
        self._put(self._now)

    def at(self, step: int) -> None:
        """Have what belongs to a sampling step, counted from 1."""
        told = active(self._uses, step)
        if told != self._now:
            self._put(told)
            self._now = told


def active(uses: Sequence[Applied], step: int) -> list[Applied]:
    """The adapters as they are at a step: at strength 0 on the denoiser before their first and after their last."""
    return [
        use
        if (use.start is None or step >= use.start) and (use.stop is None or step <= use.stop)
        else replace(use, denoiser_strength=0.0)
        for use in uses
    ]
