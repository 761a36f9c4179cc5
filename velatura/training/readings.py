"""What is measured at each step, read without waiting for the device, and judged: whether training still works.

On a CPU a number is there at once. From a card it is copied on the way, and looked at when it has arrived.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from velatura.training.descent import Descended

METRIC_EVERY = 10
"""Steps between two recorded losses."""

BROKEN = 3
"""Micro-batches in a row without numbers that end a training."""

EXPLODED = 10.0
"""A mean loss of the last ten steps so many times what it used to be is no chance."""


@dataclass(frozen=True)
class Reading:
    """The numbers of one step."""

    step: int
    """The first is 1."""
    norm: float
    """Of the gradient, before it was shortened."""
    size: float
    """Norm of the weights."""
    scale: float
    """Of the loss."""
    errors: tuple[float, ...]
    """Of each micro-batch, its share of the step's mean."""
    good: tuple[bool, ...]
    """Whether error and gradients of each were numbers."""
    counts: tuple[int, ...]
    """Pictures of each."""

    @property
    def loss(self) -> float:
        """The mean error of the pictures that gave numbers; NaN where none did."""
        found = [(error, count) for error, good, count in zip(self.errors, self.good, self.counts, strict=True) if good]
        kept = sum(count for _, count in found)
        return sum(error for error, _ in found) * sum(self.counts) / kept if kept else math.nan


class Readings:
    """Numbers on their way from the device."""

    def __init__(self) -> None:
        """None is on its way."""
        self._waiting: deque[tuple[int, tuple[int, ...], Tensor, Any]] = deque()

    def send(self, step: int, descended: Descended, numbers: Sequence[Tensor]) -> None:
        """Send off a step's numbers: what came of its micro-batches, and norm, size and scale."""
        together = torch.stack([one.float() for one in (*numbers, *descended.errors, *descended.good)])
        counts = tuple(descended.counts)
        if together.device.type != "cuda":
            self._waiting.append((step, counts, together, None))
            return
        here = torch.empty(together.shape, pin_memory=True).copy_(together, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        self._waiting.append((step, counts, here, arrived))

    def arrived(self, *, wait: bool) -> Iterator[Reading]:
        """The steps whose numbers are here, in order; with `wait`, all."""
        while self._waiting and (wait or self._waiting[0][3] is None or self._waiting[0][3].query()):
            step, counts, numbers, arrived = self._waiting.popleft()
            if arrived is not None:
                arrived.synchronize()
            norm, size, scale, *rest = numbers.tolist()
            count = len(counts)
            yield Reading(step, norm, size, scale, tuple(rest[:count]), tuple(x > 0 for x in rest[count:]), counts)


class Health:
    """Whether training still works, from its readings in order."""

    def __init__(self, losses: Sequence[float]) -> None:
        """Losses recorded by an earlier start."""
        self._usual = [loss for loss in losses if math.isfinite(loss)]
        self._last: deque[float] = deque(maxlen=METRIC_EVERY)
        self._window: list[Reading] = []
        self.last = Reading(0, 0.0, 0.0, 1.0, (), (), ())
        """The newest reading."""
        self.broken = 0
        """Micro-batches in a row without numbers."""
        self.since = 0
        """The step of the first of them."""

    def see(self, reading: Reading) -> list[int]:
        """Take a reading in; the micro-batches of it that gave no numbers, the first is 0."""
        self.last, missing = reading, []
        for place, good in enumerate(reading.good):
            if good:
                self.broken = 0
            else:
                missing.append(place)
                self.since = self.since if self.broken else reading.step
                self.broken += 1
        if math.isfinite(reading.loss):
            self._last.append(reading.loss)
            self._window.append(reading)
        return missing

    def close(self) -> dict[str, float]:
        """What to record of the steps since it was asked last; nothing where none gave numbers."""
        window, self._window = self._window, []
        if not window:
            return {}
        loss = sum(one.loss for one in window) / len(window)
        self._usual.append(loss)
        found = {"loss": loss, "gradient_norm": window[-1].norm, "weight_norm": window[-1].size}
        return found if window[-1].scale == 1 else found | {"loss_scale": window[-1].scale}

    @property
    def failed(self) -> bool:
        """Whether to end the training."""
        return self.broken >= BROKEN or self.exploded

    @property
    def exploded(self) -> bool:
        """Whether the loss is far from what it used to be."""
        if len(self._last) < METRIC_EVERY or len(self._usual) < METRIC_EVERY:
            return False
        return sum(self._last) / len(self._last) > EXPLODED * median(self._usual)
