"""The size of a LoRA's changes, and its limit.

The Frobenius norm of B A needs no product of the layer's size: |B A|^2 is the sum, by elements, of B'B and A A'.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from velatura.adapters.lora import Injected
from velatura.adapters.trainable import LoraLayer


@torch.no_grad()
def of(parameters: Mapping[str, nn.Parameter]) -> Tensor:
    """The norm of everything that is trained, a scalar on its device."""
    whole: Tensor = torch.stack(torch._foreach_norm(list(parameters.values()))).norm()
    return whole


@torch.no_grad()
def norm(layer: LoraLayer) -> Tensor:
    """The Frobenius norm of a layer's change at its full strength, a scalar on its device."""
    up, down = layer.up.flatten(1), layer.down.flatten(1)
    square = ((up.t() @ up) * (down @ down.t())).sum()
    return square.clamp(min=0).sqrt() * (layer.alpha / layer.rank)


@torch.no_grad()
def limit(injected: Injected, most: float) -> None:
    """Shrink each change whose norm is larger to that norm, both factors alike; nothing waits for the device."""
    for layer in injected.layers.values():
        assert isinstance(layer, LoraLayer)
        shrunk = (most / norm(layer).clamp(min=1e-12)).clamp(max=1.0).sqrt()
        layer.up.mul_(shrunk)
        layer.down.mul_(shrunk)
