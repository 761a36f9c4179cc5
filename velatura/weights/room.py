"""Where a device's memory is full: to know it from other errors, and to give back what nobody holds."""

from __future__ import annotations

import gc

import torch

SIGNS = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch says of it on MPS, and on the processor on Linux, macOS and Windows, where it has no class of its own."""


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def give_back() -> None:
    """Return to the device what a failed attempt held; call it where the error is no longer held either."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
