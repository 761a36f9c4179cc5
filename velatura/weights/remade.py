"""Frozen layers whose weight is made at the moment it is used: multiplied out, or fetched from the host's memory.

The layer object stays where it is and only changes its class, so that adapters find it and are put beside it. Its
`weight` becomes a stand-in of the right shape, type and device that takes no memory: reading it gives NaN and writing
to it fails, so nothing can take it for the weight unnoticed. The autograd graph holds no weight at all: the backward
pass makes it once more. What it was made from may therefore be freed or overwritten between the two passes.

`layer.to(device)` does not know what stands behind the stand-in; `placed` does.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.grad import conv2d_input

from velatura.weights import products, winograd
from velatura.weights.convolutions import FastConv2d
from velatura.weights.products import Pieces, Place, places, whole

Layer = nn.Linear | nn.Conv2d

PLAIN = (nn.Linear, nn.Conv2d, FastConv2d)
"""What layers that have their weight are. A network may be filled at its first call, when it is at work already."""

STORED = "stored_weight"
"""The attribute in which a layer keeps what its weight is made from."""


@dataclass
class Stored:
    """What a layer's weight is made from."""

    tensors: tuple[Tensor, ...]
    """Wherever they rest."""
    restore: Callable[[tuple[Tensor, ...]], Tensor]
    """The weight, from the tensors on the device where it is used."""
    fetch: Callable[[], tuple[Tensor, ...]] | None = None
    """The tensors on that device, where they rest elsewhere."""
    lend: Callable[[tuple[Tensor, ...], Place | None], Tensor] | None = None
    """The weight, or a piece of it as a matrix, in space that is lent for it, where it can be made there."""

    def weight(self) -> Tensor:
        """The weight on the device where it is used; not to be written to."""
        return self.restore(self._brought())

    def lent(self) -> Tensor:
        """The weight for a single product: the next one that this thread is lent may lie where this one does."""
        brought = self._brought()
        return self.restore(brought) if self.lend is None else self.lend(brought, None)

    def pieces(self, shape: torch.Size) -> Pieces:
        """The weight, of this shape, in pieces that are lent one after another; whole where it cannot be lent."""
        brought = self._brought()
        if self.lend is None:
            yield from whole(self.restore(brought))
            return
        for place in places(shape[0], math.prod(shape[1:])):
            yield place, self.lend(brought, place)

    def _brought(self) -> tuple[Tensor, ...]:
        return self.tensors if self.fetch is None else self.fetch()

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors take where they rest."""
        return sum(tensor.nbytes for tensor in self.tensors)


class _Lent(threading.local):
    """A thread's space, as large as the largest weight that it was lent for: all of them lie there one after another,
    and the memory is not torn up by making and dropping each."""

    def __init__(self) -> None:
        self.spaces: dict[tuple[torch.dtype, torch.device], Tensor] = {}


_LENT = _Lent()


def lent_space(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Space for a weight until this thread asks for the next; what is in it is anything."""
    count, held = math.prod(shape), _LENT.spaces.get((dtype, device))
    if held is None or held.numel() < count:
        _LENT.spaces.pop((dtype, device), None)
        with torch.inference_mode(False):  # what painting was lent is written to in training as well
            held = _LENT.spaces[dtype, device] = torch.empty(count, dtype=dtype, device=device)
    return held[:count].view(*shape)


class RemadeLinear(nn.Linear):
    """A linear layer of this kind."""

    def forward(self, input: Tensor) -> Tensor:
        """As `nn.Linear`'s."""
        return _product(input, self)


class RemadeConv2d(nn.Conv2d):
    """A convolution of this kind."""

    def forward(self, input: Tensor) -> Tensor:
        """As `nn.Conv2d`'s."""
        return _product(input, self)


def remakable(layer: nn.Module) -> bool:
    """Whether the layer is of a kind that can be made anew, and frozen."""
    known = type(layer) in PLAIN and getattr(layer, "padding_mode", "zeros") == "zeros"
    return known and not any(parameter.requires_grad for parameter in layer.parameters(recurse=False))


def remake(layer: Layer, stored: Stored, *, dtype: torch.dtype, device: torch.device | str) -> None:
    """From now on the layer's weight is made from what is stored.

    Args:
        layer: one that is `remakable`.
        dtype, device: of the weight where it is used.
    """
    stand_in = torch.full((), torch.nan, dtype=dtype, device=device).expand(layer.weight.shape)
    layer.weight = nn.Parameter(stand_in, requires_grad=False)
    layer.__class__ = RemadeConv2d if isinstance(layer, nn.Conv2d) else RemadeLinear
    vars(layer)[STORED] = stored


def stored(layer: nn.Module) -> Stored | None:
    """What the layer's weight is made from; None where it has its weight."""
    found: Stored | None = vars(layer).get(STORED)
    return found


def plain(layer: Layer, weight: Tensor) -> None:
    """Undo `remake`: the layer has this weight."""
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.__class__ = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear
    vars(layer).pop(STORED, None)


def weight_of(layer: Layer) -> Tensor:
    """The weight that the layer computes with, made where it must be; not to be written to."""
    kept = stored(layer)
    return layer.weight.detach() if kept is None else kept.weight()


def _lent(layer: Layer) -> Tensor:
    """The same for a single product."""
    kept = stored(layer)
    return layer.weight.detach() if kept is None else kept.lent()


@torch.no_grad()
def placed(network: nn.Module, device: torch.device | str) -> None:
    """Move a network to a device, with what its weights are made from, unless they are fetched from where they rest."""
    for module in network.modules():
        kept = stored(module)
        for name, parameter in module.named_parameters(recurse=False):
            whole = kept is None or name != "weight"
            held = parameter.data if whole else parameter.data.as_strided((), ())
            parameter.data = held.to(device).expand(parameter.shape)
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
        if kept is not None and kept.fetch is None:
            kept.tensors = tuple(tensor.to(device) for tensor in kept.tensors)


def _product(x: Tensor, layer: Layer) -> Tensor:
    # Of what a custom function gives, adapters may change in place only what is no view: so rows go in where they can.
    whole = isinstance(layer, nn.Conv2d) or x.dim() == 2 or not x.is_contiguous()
    made: Tensor = _Product.apply(x if whole else x.view(-1, x.shape[-1]), layer)  # type: ignore[no-untyped-call]
    return made if whole else made.view(*x.shape[:-1], -1)


class _Product(torch.autograd.Function):
    """What the layer makes of its input; only the input has a gradient, and only the layer itself is remembered."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, layer: Layer) -> Tensor:
        context: Any = ctx
        context.layer, context.shape = layer, x.shape
        made: Tensor
        if isinstance(layer, nn.Conv2d) and products.as_matrix(layer, x.shape, x):
            made = products.convolved(layer, _pieces(layer), x)
        elif isinstance(layer, nn.Conv2d) and winograd.suits(layer, x.shape, x):
            made = winograd.convolved(_lent(layer), layer.bias, x)
        elif isinstance(layer, nn.Conv2d):
            made = layer._conv_forward(x, _lent(layer), layer.bias)
        elif x.dim() != 2:  # torch adds the bias afterwards here, so the bits are the same
            made = F.linear(x, _lent(layer))
            made = made.clone() if layer.bias is None else made + layer.bias
        elif _in_pieces(layer, x):
            made = x.new_zeros(len(x), layer.out_features)
            if layer.bias is not None:
                made += layer.bias
            products.times(_pieces(layer), x.t(), made.t())
        else:
            made = F.linear(x, _lent(layer), layer.bias)
        return made

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, None]:
        context: Any = ctx
        layer, (gradient,) = context.layer, gradients
        if not context.needs_input_grad[0]:
            return None, None
        made: Tensor
        if isinstance(layer, nn.Conv2d) and products.as_matrix(layer, context.shape, gradient):
            made = products.convolved_back(layer, _pieces(layer), gradient, context.shape)
        elif isinstance(layer, nn.Conv2d) and winograd.suits(layer, context.shape, gradient):
            made = winograd.convolved_back(_lent(layer), gradient)
        elif isinstance(layer, nn.Conv2d):
            options = layer.stride, layer.padding, layer.dilation, layer.groups
            made = conv2d_input(context.shape, _lent(layer), gradient, *options)  # type: ignore[no-untyped-call]
        elif gradient.dim() == 2 and _in_pieces(layer, gradient):
            made = gradient.new_zeros(context.shape)
            products.times_transposed(_pieces(layer), gradient.t(), made.t())
        else:
            made = gradient @ _lent(layer)
        return made, None


def _in_pieces(layer: nn.Linear, x: Tensor) -> bool:
    """Whether a weight is widened piece by piece, to stay in the cache."""
    kept = stored(layer)
    lendable = kept is not None and kept.lend is not None
    return lendable and x.device.type == "cpu" and layer.weight.numel() > products.PIECE


def _pieces(layer: Layer) -> Pieces:
    kept = stored(layer)
    return whole(layer.weight.detach()) if kept is None else kept.pieces(layer.weight.shape)
