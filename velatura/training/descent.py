"""Forward and backward of micro-batches, in parts where the memory is too small for a whole one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from velatura.errors import TrainingError
from velatura.training.data import Batch
from velatura.training.gradients import Gradients
from velatura.weights import room

MORE_MEMORY = "set memory.checkpointing to true, memory.quantised to int8, or a smaller dataset.resolution"


@dataclasses.dataclass(frozen=True)
class Descended:
    """What came of a step's micro-batches; the scalars are on the device."""

    errors: list[Tensor]
    good: list[Tensor]
    """1.0 where error and gradients are numbers."""
    counts: list[int]
    """Pictures of each."""


class Descent:
    """Leaves a step's gradients; once memory has been short, later micro-batches are taken in parts at once."""

    def __init__(self, error_of: Callable[[Batch], Tensor], gradients: Gradients) -> None:
        """Micro-batches are whole.

        Args:
            error_of: a batch's share of the mean error of its step, a scalar.
            gradients: where they are left.
        """
        self._error_of, self._gradients = error_of, gradients
        self.most: int | None = None
        """Pictures that the memory holds at once; None: as many as came so far."""
        self._said: str | None = None

    def __call__(self, batches: Iterable[Batch]) -> Descended:
        """Leave the mean gradients of a step's micro-batches; what is no number is left out.

        Raises:
            TrainingError: the memory is too small for a single picture.
        """
        found = Descended([], [], [])
        self._gradients.begin()
        for batch in batches:
            found.errors.append(self._micro(batch))
            found.counts.append(len(batch.clean_BCHW))
            found.good.append(self._gradients.take(found.errors[-1], found.counts[-1]))
        return found

    def _micro(self, batch: Batch) -> Tensor:
        while True:
            try:
                return self._in_parts(batch)
            except (RuntimeError, MemoryError) as error:
                if not room.is_full(error):
                    raise
                self._halve(len(batch.clean_BCHW), error)
            # out of the handler, so that what the failed attempt held is free
            self._gradients.forget()
            room.give_back()

    def said(self) -> Iterator[str]:
        """What has been decided since it was asked last, in a sentence."""
        if self._said is not None:
            yield self._said
        self._said = None

    def _in_parts(self, batch: Batch) -> Tensor:
        count = len(batch.clean_BCHW)
        size = min(self.most or count, count)
        batch = dataclasses.replace(batch, of=batch.of or count)  # so that the errors of parts add up
        errors = []
        for start in range(0, count, size):
            part = batch if size == count else part_of_batch(batch, start, min(start + size, count))
            error = self._error_of(part)
            if error.requires_grad:  # not where nothing that is trained is read
                # captions that were encoded with gradients are shared by all parts
                self._gradients.backward(error, keep_graph=start + size < count)
            errors.append(error.detach())
        return torch.stack(errors).sum()

    def _halve(self, count: int, error: BaseException) -> None:
        tried = min(self.most or count, count)
        if tried == 1:
            raise TrainingError("there is not enough memory to train on a single picture", fix=MORE_MEMORY) from error
        self.most = tried // 2
        self._said = (
            f"there is not enough memory for {tried} pictures at once: from now on {self.most} at a time;"
            " steps stay as large as they were"
        )


def part_of_batch(value: Any, start: int, end: int) -> Any:
    """The samples from `start` to `end` of a batch: everything in it that has an entry for each sample."""
    if isinstance(value, Tensor):
        return value[start:end]
    if isinstance(value, tuple):
        return tuple(part_of_batch(one, start, end) for one in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
        return dataclasses.replace(value, **{name: part_of_batch(one, start, end) for name, one in fields.items()})
    return value
