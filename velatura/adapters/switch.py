"""Adapters that come and go between sampling steps.

What a layer needs is made anew only where it changes, and always from the base's own weights; see `merge`. Text
encoders are read once, before the first step, so the steps of an adapter are those of its denoiser layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from torch import Tensor

from velatura.adapters.beside import Beside
from velatura.adapters.merge import Applied
from velatura.errors import AdapterError

Put = Callable[[Sequence[Applied]], Beside | None]
"""Makes a model have these adapters and no others; where they stand beside its layers, says how."""


class Switch:
    """The adapters in use, and how they are put into the model."""

    def __init__(self, uses: Sequence[Applied], put: Put) -> None:
        """They are in the model as they are before the first step."""
        self._uses = list(uses)
        self._put = put
        self._now = active(self._uses, 1)
        self._standing = self._put(self._now)

    def at(self, step: int) -> None:
        """Have what belongs to a sampling step, counted from 1."""
        told = active(self._uses, step)
        if told != self._now:
            self._standing = self._put(told)
            self._now = told

    def shared(self, every_B: Tensor | None, own: Mapping[str, Tensor] | None = None) -> AbstractContextManager[None]:
        """Adapters as strong as each sample is to have them, for one call of the denoiser.

        Args:
            every_B: what every adapter's strength is multiplied by for each sample, (B,); none: 1.
            own: adapter -> the same for it alone, in the place of `every_B`.

        Raises:
            AdapterError: the adapters are merged into the weights, which all samples have in common.
        """
        if not self._uses:
            return nullcontext()
        if self._standing is None:
            raise AdapterError(
                "LoRAs that are merged into the weights have one strength for all pictures and both sides of guidance",
                fix="put them beside the layers",
            )
        told = own or {}
        shares = {name: told.get(name, every_B) for name in self._standing.names}
        return self._standing.strengths({name: share for name, share in shares.items() if share is not None})


def active(uses: Sequence[Applied], step: int) -> list[Applied]:
    """The adapters as they are at a step: at strength 0 on the denoiser before their first and after their last."""
    return [
        use
        if (use.start is None or step >= use.start) and (use.stop is None or step <= use.stop)
        else replace(use, denoiser_strength=0.0)
        for use in uses
    ]
