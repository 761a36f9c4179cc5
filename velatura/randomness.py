"""Counter-based randomness: what is drawn depends on what it is drawn for, never on what came before.

Every draw is named: `generator(seed, "noise", step, sample)`. Equal names give equal numbers on
every machine, so a resumed run, a run in another order, and a run split over processes all draw
the same. There is no state to save.

The stream behind a name is Philox (Salmon et al. 2011), keyed by a BLAKE2 hash of the name.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Label = int | str
"""What names a draw: words for the purpose, numbers for step, sample and the like."""


def key(seed: int, *labels: Label) -> int:
    """A 128-bit number that is a function of the seed and the labels alone."""
    text = "\x1f".join([str(int(seed)), *(f"{type(label).__name__[0]}{label}" for label in labels)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def generator(seed: int, *labels: Label) -> np.random.Generator:
    """A fresh stream for one purpose."""
    return np.random.Generator(np.random.Philox(key=key(seed, *labels)))


def normal(shape: tuple[int, ...], seed: int, *labels: Label) -> Tensor:
    """Standard normal noise, fp32 on the CPU, shape as given."""
    import torch

    drawn = generator(seed, *labels).standard_normal(size=shape, dtype=np.float32)
    return torch.from_numpy(drawn)


def permutation(count: int, seed: int, *labels: Label) -> list[int]:
    """The numbers 0 to count - 1 in an order drawn for this purpose."""
    return [int(index) for index in generator(seed, *labels).permutation(count)]
