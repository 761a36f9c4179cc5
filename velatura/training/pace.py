"""How a denoiser is made to train faster: memory that is used again, convolutions in their fastest ways, and where the
recipe says so compiled block by block or laid out with channels last; and what a training takes of time and memory.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Any

import torch

from velatura.errors import RecipeError
from velatura.family import Model
from velatura.recipe import TrainSettings
from velatura.weights.convolutions import FastConvolutions
from velatura.weights.swap import blocks_of

MMAP_MAX, TRIM_THRESHOLD = -4, -1
"""What `mallopt` of the GNU C library is told, by its numbers: how many large blocks it maps, and from how many free
bytes on it gives them back."""

NEVER, USUAL = (0, 2**31 - 1), (65536, 128 * 1024)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """The C library keeps what a step frees for the next one, for a while.

    Otherwise each large tensor is mapped anew, and the system brings and clears it page by page: a fifth of the time of
    a step on a processor. Only the GNU C library is told; others, and graphics cards, have ways of their own.
    """
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if library is None or not hasattr(library, "gnu_get_libc_version"):
        yield
        return

    def tell(told: tuple[int, int]) -> None:
        library.mallopt(MMAP_MAX, told[0])
        library.mallopt(TRIM_THRESHOLD, told[1])

    tell(NEVER)
    try:
        yield
    finally:
        tell(USUAL)
        library.malloc_trim(0)


class Faster:
    """The denoiser computes in the fastest ways that there are while this is entered.

    Its blocks are compiled where that is wanted, which painting does without; else its convolutions are fast.
    """

    def __init__(self, model: Model, *, compiled: bool) -> None:
        """Nothing is compiled before a block is first called.

        Raises:
            RecipeError: the weights are not there to be compiled in, or the denoiser's blocks are not known.
        """
        denoiser, policy = model.parts["denoiser"], model.policy
        blocks = blocks_of(denoiser) if compiled else []
        if compiled and (policy.quantised is not None or policy.swapped_blocks or not blocks):
            raise RecipeError(
                "only a denoiser whose weights are all in place as they are can be compiled",
                where="train.compile",
                fix="set it to false, or memory.quantised to off and memory.swapped_blocks to 0",
            )
        self._made = [(block, torch.compile(block._call_impl)) for block in blocks]
        self._convolutions = nullcontext() if compiled else FastConvolutions(denoiser)

    def __enter__(self) -> None:
        """Calls of the blocks go to what was compiled of them, those of convolutions to `FastConv2d`."""
        for block, made in self._made:
            block._compiled_call_impl = made
        self._convolutions.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The denoiser is as it was."""
        for block, _ in self._made:
            block._compiled_call_impl = None
        self._convolutions.__exit__(kind, error, trace)


def channels_last(model: Model, settings: TrainSettings) -> None:
    """Lay out the denoiser's convolutions with channels last, where the recipe says so.

    Raises:
        RecipeError: it has no convolutions on pictures.
    """
    if not settings.channels_last:
        return
    denoiser: Any = model.parts["denoiser"]
    if sum(isinstance(module, torch.nn.Conv2d) for module in denoiser.modules()) < 2:
        raise RecipeError(
            "this base's denoiser has no convolutions to lay out", where="train.channels_last", fix="set it to false"
        )
    denoiser.to(memory_format=torch.channels_last)


def spent(model: Model, *, seconds: float) -> dict[str, float]:
    """Seconds of a step, and the most memory that was taken so far, in gigabytes: of a card, else of this process."""
    found = {"seconds_per_step": round(seconds, 4)}
    if model.policy.device == "cuda":
        return found | {"memory_gb": torch.cuda.max_memory_allocated() / 1e9}
    if sys.platform == "win32":
        return found
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return found | {"memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}
