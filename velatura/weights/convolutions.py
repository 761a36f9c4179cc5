"""How a processor computes the frozen convolutions of a network at work: each in the way that is fastest for its map.

Large maps by Winograd's transform, small ones of large weights as one product of matrices, all others as torch does.
In fp32 only; the ways differ in their rounding, so all that is to have the same bits takes the same ways.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from velatura.weights import products, winograd


class FastConv2d(nn.Conv2d):
    """A frozen convolution in the fastest way."""

    def forward(self, input: Tensor) -> Tensor:
        """As `nn.Conv2d`'s."""
        if not (products.as_matrix(self, input.shape, input) or winograd.suits(self, input.shape, input)):
            return super().forward(input)
        made: Tensor = _Convolved.apply(input, self)  # type: ignore[no-untyped-call]
        return made


class FastConvolutions:
    """A network's frozen convolutions are `FastConv2d` while this is entered, and what they were afterwards."""

    def __init__(self, *networks: nn.Module) -> None:
        """Nothing is changed yet."""
        self._suited = [layer for network in networks for layer in suited(network)]
        self._changed: list[nn.Conv2d] = []

    def __enter__(self) -> None:
        """Layers whose weight is made anew since, or which are fast already, stay as they are."""
        self._changed = [layer for layer in self._suited if type(layer) is nn.Conv2d]
        for layer in self._changed:
            layer.__class__ = FastConv2d

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """They are as they were, but for those whose weight came to rest elsewhere meanwhile."""
        for layer in self._changed:
            layer.__class__ = nn.Conv2d if type(layer) is FastConv2d else type(layer)


def suited(network: nn.Module) -> list[nn.Conv2d]:
    """The frozen convolutions of a network for which there is a faster way for some map."""
    return [
        layer
        for layer in network.modules()
        if type(layer) is nn.Conv2d
        and (winograd.convertible(layer) or products.convertible(layer))
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.float32
        and not any(one.requires_grad for one in layer.parameters(recurse=False))
    ]


class _Convolved(torch.autograd.Function):
    """Only the input has a gradient, and only the layer itself is remembered."""

    @staticmethod
    def forward(ctx: FunctionCtx, x_BCHW: Tensor, layer: nn.Conv2d) -> Tensor:
        context: Any = ctx
        context.layer, context.shape = layer, x_BCHW.shape
        weight = layer.weight.detach()
        if products.as_matrix(layer, x_BCHW.shape, x_BCHW):
            return products.convolved(layer, products.whole(weight), x_BCHW)
        return winograd.convolved(weight, layer.bias, x_BCHW)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, None]:
        context: Any = ctx
        if not context.needs_input_grad[0]:
            return None, None
        (gradient,), layer, shape = gradients, context.layer, context.shape
        weight = layer.weight.detach()
        if products.as_matrix(layer, shape, gradient):
            return products.convolved_back(layer, products.whole(weight), gradient, shape), None
        return winograd.convolved_back(weight, gradient), None
