"""The layers of a model that can be adapted, by name, whether they are adapted at the moment or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from velatura.adapters.weights import Shape, layer_name

BaseLayer = nn.Linear | nn.Conv2d
"""What can be adapted."""


class AdaptedLayer(nn.Module):
    """Stands in a base layer's place and keeps it as its child."""

    base: BaseLayer

    @property
    def weight(self) -> Tensor:
        """The base layer's own; networks ask it for dtype and device."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """The base layer's own."""
        return self.base.bias


def find(parts: Mapping[str, nn.Module]) -> dict[str, BaseLayer]:
    """Every linear layer and convolution of the parts, in the order of the modules."""
    return {name: layer for name, _, _, layer in _walk(parts)}


def places(parts: Mapping[str, nn.Module]) -> dict[str, tuple[str, str]]:
    """Where each of these layers stands: its name -> its part and its path in the part's network."""
    return {name: (part, path) for name, part, path, _ in _walk(parts)}


def _walk(parts: Mapping[str, nn.Module]) -> Iterator[tuple[str, str, str, BaseLayer]]:
    for part, module in parts.items():
        stand_ins = {path for path, child in module.named_modules() if isinstance(child, AdaptedLayer)}
        for path, child in module.named_modules():
            if isinstance(child, nn.Linear | nn.Conv2d):
                stand_in = path.removesuffix(".base")
                own = stand_in if stand_in in stand_ins else path
                yield layer_name(part, own), part, own, child


def shapes(parts: Mapping[str, nn.Module]) -> dict[str, Shape]:
    """The weight's shape of every layer that can be adapted."""
    return {name: tuple(layer.weight.shape) for name, layer in find(parts).items()}
