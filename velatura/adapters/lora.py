"""LoRA for training: low-rank changes beside the layers of a base that itself stays as it is.

y = base(x) + strength * alpha / rank * up(down(x)), where `down` reduces to `rank` channels and
`up` begins at zero. Source: Hu et al. 2021, arXiv:2106.09685; convolutions as in kohya's trainer:
`down` has the base's kernel, `up` is 1x1.

Shape suffixes: B batch, C channels, H and W height and width, R rank, O channels out; * any leading axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from velatura.adapters.layers import AdaptedLayer, BaseLayer, find
from velatura.adapters.weights import LayerWeights, layer_name
from velatura.errors import AdapterError
from velatura.randomness import generator


@dataclass(frozen=True)
class LayerSpec:
    """How one layer is to be adapted."""

    name: str
    """Part and module path, as in `velatura.adapters.weights`."""
    rank: int
    alpha: float


class LoraLayer(AdaptedLayer):
    """A base layer with a low-rank change beside it; the change's parameters are fp32 whatever the base is."""

    def __init__(self, base: BaseLayer, *, rank: int, alpha: float) -> None:
        """A change of nothing, since both halves are zeros until they are drawn or loaded."""
        super().__init__()
        self.base = base
        self.alpha = alpha
        self.strength = 1.0
        convolution = isinstance(base, nn.Conv2d)
        device = base.weight.device
        self.down = nn.Parameter(torch.zeros(rank, *base.weight.shape[1:], dtype=torch.float32, device=device))
        up_shape = (base.weight.shape[0], rank, 1, 1) if convolution else (base.weight.shape[0], rank)
        self.up = nn.Parameter(torch.zeros(up_shape, dtype=torch.float32, device=device))
        self.train(base.training)

    @property
    def rank(self) -> int:
        """How many channels the change passes through."""
        return int(self.down.shape[0])

    def forward(self, x: Tensor) -> Tensor:
        """As the base layer's, x (*, C) or (B, C, H, W)."""
        y: Tensor = self.base(x)
        scale = self.strength * self.alpha / self.rank
        if scale == 0:
            return y
        # The change is added into the base's own output, which nothing else holds: no second tensor of that size.
        x, down, up = x.to(y.dtype), self.down.to(y.dtype), self.up.to(y.dtype).flatten(1)
        if isinstance(self.base, nn.Conv2d):
            low_BRHW = self.base._conv_forward(x, down, None)
            y.flatten(2).baddbmm_(up.expand(y.shape[0], -1, -1), low_BRHW.flatten(2), alpha=scale)
        else:
            low_R = F.linear(x, down)
            y.view(-1, y.shape[-1]).addmm_(low_R.reshape(-1, self.rank), up.t(), alpha=scale)
        return y


class Injected:
    """The adapted layers of a model, until `eject`. As a context manager it ejects at the end."""

    def __init__(self, layers: dict[str, LoraLayer], places: dict[str, tuple[nn.Module, str]]) -> None:
        """For `inject`: layers that are in place already, and where each hangs (parent, child's name)."""
        self.layers = layers
        self._places = places
        self._strength = 1.0

    @property
    def strength(self) -> float:
        """Multiplies every change; at 0 the model computes exactly what the base alone does."""
        return self._strength

    @strength.setter
    def strength(self, value: float) -> None:
        self._strength = value
        for layer in self.layers.values():
            layer.strength = value

    def named(self) -> dict[str, nn.Parameter]:
        """The parameters to train: "<layer>.down" and "<layer>.up", in the model's order."""
        return {
            f"{name}.{half}": getattr(layer, half) for name, layer in self.layers.items() for half in ("down", "up")
        }

    def parameters(self) -> list[nn.Parameter]:
        """The parameters to train, in the order of `named`."""
        return list(self.named().values())

    def weights(self) -> dict[str, LayerWeights]:
        """A copy of the changes as they are now, fp32 on the CPU."""
        return {
            name: LayerWeights(_copy(layer.down), _copy(layer.up), layer.alpha) for name, layer in self.layers.items()
        }

    @torch.no_grad()
    def load(self, layers: Mapping[str, LayerWeights]) -> None:
        """Take over other changes of the same layers and ranks, alpha included.

        Raises:
            AdapterError: the layers or their shapes are not these.
        """
        if missing := sorted(set(self.layers) ^ set(layers)):
            raise AdapterError(f"these weights are of other layers than the adapter's: {missing[0]} is in one only")
        for name, weights in layers.items():
            layer = self.layers[name]
            if weights.down.shape != layer.down.shape or weights.up.shape != layer.up.shape:
                raise AdapterError(f"these weights have other shapes than the adapter's at {name}")
        for name, weights in layers.items():
            layer = self.layers[name]
            layer.down.copy_(torch.from_numpy(weights.down))
            layer.up.copy_(torch.from_numpy(weights.up))
            layer.alpha = weights.alpha

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """The base's own layers in their places for a while."""
        for name, (parent, child) in self._places.items():
            setattr(parent, child, self.layers[name].base)
        try:
            yield
        finally:
            for name, (parent, child) in self._places.items():
                setattr(parent, child, self.layers[name])

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


def inject(parts: Mapping[str, nn.Module], layers: Sequence[LayerSpec], *, seed: int) -> Injected:
    """Adapt layers of a model for training. The base's own parameters are neither changed nor frozen.

    `down` is drawn as `torch.nn.Linear` draws its weight, for each layer by its name: which other
    layers are adapted, and in what order, changes nothing.

    Raises:
        AdapterError: the model has no such layer, it cannot be adapted, or it already is.
    """
    known = find(parts)
    free = parents(parts)
    adapted: dict[str, LoraLayer] = {}
    for spec in layers:
        base = known.get(spec.name)
        if base is None:
            raise AdapterError(f"this base has no layer {spec.name}")
        if spec.name not in free or spec.name in adapted:
            raise AdapterError(f"layer {spec.name} is adapted already", fix="eject the first adapter before the next")
        if isinstance(base, nn.Conv2d) and base.groups != 1:
            raise AdapterError(f"layer {spec.name} is a grouped convolution, which cannot be adapted")
        if spec.rank < 1:
            raise AdapterError(f"rank {spec.rank} is not possible", where=spec.name, fix="use 1 or more")
        layer = LoraLayer(base, rank=spec.rank, alpha=spec.alpha)
        _draw(layer.down, seed, spec.name)
        adapted[spec.name] = layer
    for name, layer in adapted.items():
        parent, child = free[name]
        setattr(parent, child, layer)
    return Injected(adapted, {name: free[name] for name in adapted})


@torch.no_grad()
def _draw(down: Tensor, seed: int, name: str) -> None:
    """Kaiming uniform with a = sqrt(5), which comes to +- 1 / sqrt(values that one output sums over)."""
    bound = 1 / math.sqrt(math.prod(down.shape[1:]))
    drawn = generator(seed, "adapter", name).random(size=tuple(down.shape), dtype=np.float32)
    down.copy_(torch.from_numpy((2 * drawn - 1) * np.float32(bound)))


def parents(parts: Mapping[str, nn.Module]) -> dict[str, tuple[nn.Module, str]]:
    """Where the layers hang that are not adapted yet: parent module and the child's name in it."""
    found: dict[str, tuple[nn.Module, str]] = {}
    for part, module in parts.items():
        for path, parent in module.named_modules():
            if not isinstance(parent, AdaptedLayer):
                free = (child for child, layer in parent.named_children() if not isinstance(layer, AdaptedLayer))
                for child in free:
                    found[layer_name(part, f"{path}.{child}" if path else child)] = (parent, child)
    return found


def _copy(parameter: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return parameter.detach().to("cpu", torch.float32, copy=True).contiguous().numpy()
