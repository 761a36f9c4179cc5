"""Blocks of a network that wait in the host's memory and are on the device only while they are needed.

The weights are frozen, so they are copied to the device and never back. A block's weights are fetched when its first
layer asks for them, in the forward pass and again in the backward pass, and its neighbour's are copied meanwhile on
a stream of their own; at most two blocks are there at a time. Every fetch takes fresh memory, and the autograd graph
holds none of it (`velatura.weights.remade`): nothing that a gradient is computed from can have been overwritten.

Norms and biases, which are small, and adapters stay on the device.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from velatura.weights.remade import Layer, Stored, placed, plain, remakable, remake, stored

BLOCKS = {
    "UNet2DConditionModel": ("down_blocks", "mid_block", "up_blocks"),
    "FluxTransformer2DModel": ("transformer_blocks", "single_transformer_blocks"),
    "ZImageTransformer2DModel": ("noise_refiner", "context_refiner", "layers"),
}
"""Class of a network -> its attributes that hold its blocks, in the order in which they are computed."""


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The blocks of a denoiser, in the order in which they are computed; none where its class is not known."""
    found: list[nn.Module] = []
    for name in BLOCKS.get(type(network).__name__, ()):
        held = getattr(network, name)
        found += held if isinstance(held, nn.ModuleList) else [held]
    return found


class Swapped:
    """Blocks that are swapped, until `undo`. As a context manager it undoes at the end."""

    def __init__(self, device: torch.device) -> None:
        """For `swap`: nothing is swapped yet."""
        self.traffic = _Traffic()
        self._device = device
        self._layers: list[tuple[Layer, Stored | None]] = []

    @property
    def resting(self) -> int:
        """Bytes that wait in the host's memory."""
        return sum(tensor.nbytes for block in self.traffic.blocks for rests in block.rests for tensor in rests)

    @property
    def present(self) -> list[int]:
        """Which blocks are on the device, or on their way."""
        return [index for index, block in enumerate(self.traffic.blocks) if block.copies is not None]

    @torch.no_grad()
    def undo(self) -> None:
        """All layers as they were, on the device. Harmless when done twice."""
        for layer, before in self._layers:
            kept = stored(layer)
            if kept is None:
                continue
            tensors = tuple(tensor.to(self._device) for tensor in kept.tensors)
            if before is None:
                plain(layer, tensors[0])
            else:
                remake(layer, Stored(tensors, before.restore), dtype=layer.weight.dtype, device=self._device)
        self._layers = []
        self.traffic.blocks.clear()

    def take(self, block: nn.Module, stream: torch.cuda.Stream | None) -> None:
        """For `swap`: the weights of a block's layers go to the host."""
        waiting, traffic, number = _Block(self._device, stream), self.traffic, len(self.traffic.blocks)
        traffic.blocks.append(waiting)
        for layer in block.modules():
            before = stored(layer)
            if not isinstance(layer, nn.Linear | nn.Conv2d) or not (before or remakable(layer)):
                continue
            rests = waiting.rest((layer.weight.detach(),) if before is None else before.tensors)
            fetch = functools.partial(traffic.fetch, number, len(waiting.rests) - 1)
            kept = Stored(rests, _itself if before is None else before.restore, fetch)
            remake(layer, kept, dtype=layer.weight.dtype, device=self._device)
            what = None if before is None else Stored((), before.restore)
            self._layers.append((layer, what))

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Undo, whatever happened."""
        self.undo()


@torch.no_grad()
def swap(network: nn.Module, blocks: Sequence[nn.Module], count: int, *, device: torch.device | str) -> Swapped:
    """Keep the last blocks of a frozen network in the host's memory, and put everything else on the device.

    The network may be anywhere before. Where its layers are quantised, what is stored of them is swapped. Adapters may
    be beside the layers already or come later; they are not swapped.

    Args:
        blocks: in the order in which they are computed, as `blocks_of` gives them.
        count: how many of them are swapped; more than there are means all.
        device: where the network computes. On "cpu" the copies lie beside the originals: for tests.
    """
    where = torch.device(device)
    stream = torch.cuda.Stream(where) if where.type == "cuda" else None  # type: ignore[no-untyped-call]
    swapped = Swapped(where)
    for block in blocks[max(len(blocks) - count, 0) :]:
        swapped.take(block, stream)
    placed(network, where)
    return swapped


class _Traffic:
    """Which blocks are on the device."""

    def __init__(self) -> None:
        self.blocks: list[_Block] = []
        self._before = self._here = 0
        self._after: dict[tuple[int, int], int] = {}

    def fetch(self, number: int, layer: int) -> tuple[Tensor, ...]:
        """What the weight of one of a block's layers is made from, on the device; other blocks leave."""
        following = self._following(number)
        for other, block in enumerate(self.blocks):
            if other not in (number, following):
                block.leave()
        self.blocks[number].send()
        copies = self.blocks[number].arrived()
        self.blocks[following].send()
        return copies[layer]

    def _following(self, number: int) -> int:
        """The block that is asked for next: what came next the last time that these two came one after the other.

        That says it of forward and backward passes, recomputed ones, and where one turns into the other.
        """
        if number != self._here:
            self._after[self._before, self._here] = number
            self._before, self._here = self._here, number
        return self._after.get((self._before, number), (number + 1) % len(self.blocks))


class _Block:
    """What the weights of one block's layers are made from, on the host and at times on the device."""

    def __init__(self, device: torch.device, stream: torch.cuda.Stream | None) -> None:
        self.rests: list[tuple[Tensor, ...]] = []
        self.copies: list[tuple[Tensor, ...]] | None = None
        self._device, self._stream = device, stream
        self._sent: torch.cuda.Event | None = None

    def rest(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Take one more layer's tensors to the host."""
        hosted = (tensor.to("cpu") for tensor in tensors)
        self.rests.append(tuple(host if self._stream is None else host.pin_memory() for host in hosted))
        return self.rests[-1]

    def send(self) -> None:
        """Begin to copy to the device, unless that was done.

        The memory is the computing stream's, which reuses it only after whatever it was asked for before.
        """
        if self.copies is not None:
            return
        self.copies = [tuple(torch.empty_like(one, device=self._device) for one in rests) for rests in self.rests]
        if self._stream is None:
            self._copy()
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            self._copy()
            self._sent = self._stream.record_event()

    @torch.no_grad()
    def _copy(self) -> None:
        for copies, rests in zip(self.copies or (), self.rests, strict=True):
            for copy, tensor in zip(copies, rests, strict=True):
                copy.copy_(tensor, non_blocking=self._stream is not None)

    def arrived(self) -> list[tuple[Tensor, ...]]:
        """The copies; what is computed from now on waits for them."""
        if self._sent is not None:
            torch.cuda.current_stream(self._device).wait_event(self._sent)
            self._sent = None
        return self.copies or []

    def leave(self) -> None:
        """Free the memory on the device, which is reused only once a copy that was sent for nothing is done."""
        self.arrived()
        self.copies = None


def _itself(tensors: tuple[Tensor, ...]) -> Tensor:
    return tensors[0]
