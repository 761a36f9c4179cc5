"""Adapters in training: layers of `trainable` put into a base that itself stays as it is, and taken out again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from velatura.adapters.kinds import Dora
from velatura.adapters.layers import AdaptedLayer, InPlace, find
from velatura.adapters.trainable import LoraLayer as LoraLayer
from velatura.adapters.trainable import TrainedLayer, made
from velatura.adapters.weights import Change, layer_name, part_of
from velatura.errors import AdapterError


@dataclass(frozen=True)
class LayerSpec:
    """How one layer is to be adapted."""

    name: str
    """Part and module path, as in `velatura.adapters.weights`."""
    rank: int
    alpha: float
    kind: str = "lora"
    """One of `trainable.LAYERS`."""
    dropout: float = 0.0
    """Share of the rank's channels that are left out in a step."""
    factor: int | None = None
    """Of a LoKr, the largest side of its small matrix; None: the nearest to a square."""


class Injected(InPlace[TrainedLayer]):
    """The adapted layers of a model in training, until `eject`."""

    def __init__(self, layers: dict[str, TrainedLayer], places: dict[str, tuple[nn.Module, str]], seed: int) -> None:
        """As `InPlace`; `seed` is that of the adapters' draws."""
        super().__init__(layers, places)
        self._seed = seed
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

    @contextmanager
    def silent(self) -> Iterator[None]:
        """The model computes what the base alone does, for a while."""
        before, self.strength = self.strength, 0.0
        try:
            yield
        finally:
            self.strength = before

    def named(self) -> dict[str, nn.Parameter]:
        """The parameters to train: "<layer>.down", "<layer>.up" and what other kinds have, in the model's order."""
        return {f"{name}.{which}": one for name, layer in self.layers.items() for which, one in layer.own.items()}

    def parameters(self) -> list[nn.Parameter]:
        """The parameters to train, in the order of `named`."""
        return list(self.named().values())

    def weights(self) -> dict[str, Change]:
        """A copy of the changes as they are now, fp32 on the CPU."""
        return {name: layer.change() for name, layer in self.layers.items()}

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """One step of training: dropout leaves out what is drawn for it."""
        for name, layer in self.layers.items():
            layer.begin(self._seed, number, name)
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.end()

    @torch.no_grad()
    def load(self, layers: Mapping[str, Change]) -> None:
        """Take over other changes of the same layers, kinds and ranks, alpha included.

        Raises:
            AdapterError: the layers, their kinds or their shapes are not these.
        """
        if missing := sorted(set(self.layers) ^ set(layers)):
            raise AdapterError(f"these weights are of other layers than the adapter's: {missing[0]} is in one only")
        found = {name: self.layers[name].values(change) for name, change in layers.items()}
        for name, values in found.items():
            own = self.layers[name].own
            if any(values[which].shape != one.shape for which, one in own.items()):
                raise AdapterError(f"these weights have other shapes than the adapter's at {name}")
        for name, change in layers.items():
            self.layers[name].load(change)

    def open_ranks(self, share_B: Tensor, *, smallest: int, power: float) -> None:
        """How many channels of the rank R work for each sample of the next batch, until the step ends.

        They are the first floor(share^power (R - smallest)) + smallest, where `share` is 1 without noise and 0 at the
        most. Text encoders, which know nothing of noise, keep all. Source: Soboleva et al. 2025, arXiv:2507.05964.
        """
        for name, layer in self.layers.items():
            if part_of(name).startswith("text_encoder"):
                continue
            least = min(smallest, layer.rank)
            open_B = (share_B.clamp(0, 1) ** power * (layer.rank - least)).floor() + least
            open_BR = torch.arange(layer.rank)[None] < open_B[:, None]
            layer.open_BR = open_BR.to(layer.base.weight.device)

    def begin_with(self, layers: Mapping[str, Change], *, where: object = None) -> None:
        """Take over the changes of a file that training goes on from, if they are what these layers would be.

        Raises:
            AdapterError: layers, kinds, ranks or alphas differ; which, and what to set.
        """
        for name, layer in self.layers.items():
            change = layers.get(name)
            told = change.direction if isinstance(change, Dora) else change
            rank, alpha = (getattr(told, key, None) for key in ("rank", "alpha"))
            if change is not None and rank is not None and rank != layer.rank:
                fix = f"set adapter.rank to {rank}, or resize the file"
                raise AdapterError(f"the file has rank {rank} at {name}, the recipe {layer.rank}", where=where, fix=fix)
            if change is not None and alpha is not None and abs(alpha - layer.alpha) > 1e-3 * layer.alpha:
                fix = f"set adapter.alpha to {alpha:g}"
                what = f"the file has alpha {alpha:g} at {name}, the recipe {layer.alpha:g}"
                raise AdapterError(what, where=where, fix=fix)
        self.load(layers)

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


def inject(parts: Mapping[str, nn.Module], layers: Sequence[LayerSpec], *, seed: int) -> Injected:
    """Adapt layers of a model for training. The base's own parameters are neither changed nor frozen.

    What does not begin at zero is drawn as `torch.nn.Linear` draws its weight, for each layer by its name: which
    other layers are adapted, and in what order, changes nothing.

    Raises:
        AdapterError: the model has no such layer, it cannot be adapted, or it already is.
    """
    known = find(parts)
    free = parents(parts)
    adapted: dict[str, TrainedLayer] = {}
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
        layer = made(spec.kind, base, rank=spec.rank, alpha=spec.alpha, factor=spec.factor)
        layer.dropout = spec.dropout
        layer.draw(seed, spec.name)
        adapted[spec.name] = layer
    for name, layer in adapted.items():
        parent, child = free[name]
        setattr(parent, child, layer)
    return Injected(adapted, {name: free[name] for name in adapted}, seed)


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
