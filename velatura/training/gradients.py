"""The gradients of a step, put together from those of its micro-batches without waiting for the device.

All gradients of a micro-batch lie in one buffer, so asking whether they are numbers, adding them up, measuring and
shortening them are one operation each, and what is no number is left out where it was computed. With a base in fp16
the loss is scaled, so that small gradients do not vanish on their way through it; the scale is halved where they
overflow and doubled after many steps in which they did not (Micikevicius et al. 2018, arXiv:1710.03740).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

FIRST_SCALE, GROW_AFTER = 65536.0, 2000
"""Of the loss, and after how many micro-batches without an overflow it is doubled; as torch's own scaler."""


class Gradients:
    """The gradients of parameters that are on one device and of one type."""

    def __init__(self, parameters: Sequence[nn.Parameter], *, scaled: bool = False) -> None:
        """All are zero.

        Args:
            scaled: the loss is scaled, for a base in fp16.
        """
        self.parameters, self.scaled = parameters, scaled
        like, count = parameters[0], sum(one.numel() for one in parameters)
        self._micro, self._sum = (torch.zeros(count, device=like.device) for _ in range(2))
        self._views = {id(flat): _views(flat, parameters) for flat in (self._micro, self._sum)}
        first = FIRST_SCALE if scaled else 1.0
        self.scale = torch.tensor([first, 0.0], device=like.device)
        """The loss's scale, and the micro-batches since it changed."""
        self.begin()

    @property
    def nothing(self) -> Tensor:
        """1.0 where none of the step's micro-batches gave numbers, else 0.0; a scalar on the device."""
        return (self._kept == 0).float()

    def begin(self) -> None:
        """A step begins: nothing has been added."""
        self._sum.zero_()
        self._kept, self._whole = torch.zeros((), device=self._sum.device), 0
        self.forget()

    def forget(self) -> None:
        """What a micro-batch has left so far is dropped; `backward` adds to zero."""
        self._micro.zero_()
        self._show(self._micro)

    def backward(self, error: Tensor, *, keep_graph: bool = False) -> None:
        """Compute the gradients of a micro-batch, or of a part of it."""
        scaled = error * self.scale[0] if self.scaled else error
        scaled.backward(retain_graph=keep_graph)  # type: ignore[no-untyped-call]

    def take(self, error: Tensor, count: int) -> Tensor:
        """Add the gradients of a micro-batch of so many samples, if they and its error are numbers.

        Its error is its share of the step's mean.

        Returns:
            1.0 where they are, else 0.0, a scalar on the device.

        With a scaled loss, an overflow is 1.0 too unless there is no scale left to halve: it says nothing of training.
        """
        good: Tensor = self._micro.norm().isfinite() & error.isfinite()
        self._sum.add_(torch.where(good, self._micro / self.scale[0], 0.0))
        self._kept, self._whole = self._kept + torch.where(good, float(count), 0.0), self._whole + count
        told = good.float()
        if self.scaled:
            overflow = ~good & error.isfinite() & (self.scale[0] > 1)
            told = (good | overflow).float()
            grows = good & (self.scale[1] + 1 >= GROW_AFTER)
            scale = torch.where(overflow, self.scale[0] / 2, torch.where(grows, self.scale[0] * 2, self.scale[0]))
            self.scale = torch.stack([scale, torch.where(overflow | grows, 0.0, self.scale[1] + 1)])
        self.forget()
        return told

    def finish(self, *, clip: float) -> Tensor:
        """Hand the step's gradients to the optimizer, shortened to a norm of `clip` where that is not 0.

        They are those of the mean over the samples that there are, where some were left out.

        Returns:
            The norm before, a scalar on the device.
        """
        self._sum.mul_(self._whole / self._kept.clamp(min=1.0))
        norm: Tensor = self._sum.norm()
        if clip:
            self._sum.mul_((clip / (norm + 1e-6)).clamp(max=1.0))
        self._show(self._sum)
        return norm

    def _show(self, flat: Tensor) -> None:
        for parameter, view in zip(self.parameters, self._views[id(flat)], strict=True):
            parameter.grad = view


def _views(flat: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    parts = torch.split(flat, [one.numel() for one in parameters])
    return [part.view_as(one) for part, one in zip(parts, parameters, strict=True)]
