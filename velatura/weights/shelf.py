"""A file of the user's cache folder in which tensors rest, mapped, until they are needed.

Where the processor computes, blocks that are swapped have nowhere else to wait: its memory is the machine's. What
rests here takes room on the disk, and of memory only what the system can spare. The file has no use after the process
and goes with it.
"""

from __future__ import annotations

import tempfile
import warnings
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from velatura import settings as user
from velatura.files import disk_problems, make_folder

ALIGNED = 64
"""Tensors begin at multiples of so many bytes."""


class Shelf:
    """One such file. When it is closed no more can be put into it, and it is there as long as a tensor in it."""

    def __init__(self) -> None:
        """It is made now, empty.

        Raises:
            FileProblem: the cache folder cannot be written to.
        """
        folder = make_folder(user.load().cache)
        with disk_problems(folder):
            self._file = tempfile.TemporaryFile(dir=folder, prefix="resting-")  # noqa: SIM115 - until `close`
        self._folder = folder

    def put(self, tensor: Tensor) -> Tensor:
        """The same tensor, resting in the file; not to be written to.

        Raises:
            FileProblem: the disk is full.
        """
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        with disk_problems(self._folder):
            start = self._file.seek(-self._file.seek(0, 2) % ALIGNED, 1)
            self._file.write(raw.numpy().data)
            self._file.flush()
        mapped = np.memmap(self._file, dtype=np.uint8, mode="r", offset=start, shape=raw.shape)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(mapped).view(tensor.dtype).reshape(tensor.shape)

    def close(self) -> None:
        """Nothing more is put into it. Harmless when done twice."""
        self._file.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, whatever happened."""
        self.close()
