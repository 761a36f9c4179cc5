"""The layers of a model that adapters change, by name, whether they are adapted at the moment or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Generic, NamedTuple, Self, TypeVar

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


Layer = TypeVar("Layer", bound=AdaptedLayer)


class InPlace(Generic[Layer]):
    """Layers that stand in the places of a model's own, until `eject`. As a context manager it ejects at the end."""

    def __init__(self, layers: dict[str, Layer], places: dict[str, tuple[nn.Module, str]]) -> None:
        """For layers that are in place already, and where each hangs (parent, child's name)."""
        self.layers = layers
        self._places = places

    def eject(self) -> None:
        """Put the base's own layers back: the same objects, never written to. Harmless when done twice."""
        for name, (parent, child) in self._places.items():
            setattr(parent, child, self.layers[name].base)
        self._places = {}

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Eject, whatever happened."""
        self.eject()


class Found(NamedTuple):
    """A layer, and where it stands."""

    name: str
    part: str
    path: str
    """In the part's network."""
    layer: nn.Module


def find(parts: Mapping[str, nn.Module]) -> dict[str, BaseLayer]:
    """Every linear layer and convolution of the parts, in the order of the modules."""
    return {one.name: one.layer for one in walk(parts) if isinstance(one.layer, nn.Linear | nn.Conv2d)}


def changeable(parts: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Everything that adapter files can change: `find`, and the norms."""
    return {one.name: one.layer for one in walk(parts)}


def places(parts: Mapping[str, nn.Module]) -> dict[str, tuple[str, str]]:
    """Where each layer of `find` stands: its name -> its part and its path in the part's network."""
    known = find(parts)
    return {one.name: (one.part, one.path) for one in walk(parts) if one.name in known}


def walk(parts: Mapping[str, nn.Module]) -> Iterator[Found]:
    """What `changeable` holds, with where each stands."""
    for part, module in parts.items():
        stand_ins = {path for path, child in module.named_modules() if isinstance(child, AdaptedLayer)}
        for path, child in module.named_modules():
            if isinstance(child, nn.Linear | nn.Conv2d) or _is_norm(child):
                stand_in = path.removesuffix(".base")
                own = stand_in if stand_in in stand_ins else path
                yield Found(layer_name(part, own), part, own, child)


def shapes(parts: Mapping[str, nn.Module]) -> dict[str, Shape]:
    """The weight's shape of every layer that can be adapted."""
    return {name: tuple(layer.weight.shape) for name, layer in find(parts).items()}


def every_shape(parts: Mapping[str, nn.Module]) -> dict[str, Shape]:
    """The weight's shape of everything that adapter files can change."""
    return {name: tuple(weight(layer).shape) for name, layer in changeable(parts).items()}


def weight(layer: nn.Module) -> Tensor:
    """The layer's own weight."""
    held = layer.weight
    assert isinstance(held, Tensor)
    return held


def _is_norm(module: nn.Module) -> bool:
    held = module._parameters.get("weight")
    return held is not None and held.dim() == 1
