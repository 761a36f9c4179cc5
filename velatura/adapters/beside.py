"""Adapters beside a model's layers, for painting with bases whose weights cannot hold the sum.

Rounding a merged weight to bf16 loses a good part of a typical change; computed beside the layer, the change is
rounded by itself. The LoRAs on one layer become one of their ranks' sum, which says the same; changes of
other kinds are multiplied out once. Norms and biases are small and are merged all the same.

Samples of a batch may have strengths of their own, within `strengths`.

Shape suffixes: B batch, C channels, H and W height and width, R rank; * any leading axes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from velatura.adapters.kinds import Full
from velatura.adapters.layers import AdaptedLayer, BaseLayer, InPlace, changeable, find
from velatura.adapters.lora import parents
from velatura.adapters.merge import Applied, changes
from velatura.adapters.weights import Change, Lora
from velatura.errors import AdapterError, ModelError


class SamplesTogether(AdapterError):
    """A layer takes the samples of a batch together, so they cannot have strengths of their own there."""


class BesideLayer(AdaptedLayer):
    """A base layer with adapters beside it, none of which is trained."""

    def __init__(self, base: BaseLayer, name: str) -> None:
        """Nothing is beside it yet."""
        super().__init__()
        self.base = base
        self.name = name
        self.factors: list[tuple[str, Tensor, Tensor]] = []
        """Adapter, (R, in...) and (out, R), scale and strength in the second."""
        self.differences: list[tuple[str, Tensor]] = []
        """Adapter, and what it changes of the weight at its strength."""
        self.joined: tuple[Tensor, Tensor] | None = None
        """All factors as one, of which they are parts; none before the first use."""
        self.share_B: Mapping[str, Tensor] = {}
        """Adapter -> what its strength is multiplied by for each sample."""
        self.rows: dict[Hashable, Tensor] = {}
        """What layers with the same adapters work out of `share_B` once: adapters and their ranks -> (B, R)."""
        self.train(base.training)

    def forward(self, x: Tensor) -> Tensor:
        """As the base layer's, x (*, C) or (B, C, H, W)."""
        y: Tensor = self.base(x)
        x = x.to(y.dtype)
        if not any(adapter in self.share_B for adapter, *_ in (*self.factors, *self.differences)):
            if self.factors:
                y = y + self._low_rank(x, *self._together(y.dtype))
            for _, delta in self.differences:
                y = y + self._full(x, delta.to(y.dtype))
            return y
        self._check_samples(x)
        if self.factors:
            y = y + self._low_rank(x, *self._together(y.dtype), self._share_of_ranks(x))
        for adapter, delta in self.differences:
            added = self._full(x, delta.to(y.dtype))
            if (share_B := self.share_B.get(adapter)) is not None:
                added = (added * _spread(share_B.to(x.device)[:, None], added)).to(y.dtype)
            y = y + added
        return y

    def _together(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if self.joined is None:
            names, downs, ups = zip(*self.factors, strict=True)
            self.joined = (downs[0], ups[0]) if len(downs) == 1 else (torch.cat(downs), torch.cat(ups, dim=1))
            ranks = [len(down) for down in downs]
            down_parts, up_parts = torch.split(self.joined[0], ranks), torch.split(self.joined[1], ranks, dim=1)
            self.factors = [*zip(names, down_parts, up_parts, strict=True)]  # views, so that nothing is held twice
        down, up = self.joined
        return down.to(dtype), up.to(dtype)

    def _share_of_ranks(self, x: Tensor) -> Tensor:
        """What each rank of all adapters together is multiplied by for each sample, (B, R), in fp32."""
        ranks = tuple((adapter, len(down)) for adapter, down, _ in self.factors)
        key = (ranks, x.device)
        if key not in self.rows:
            ones = torch.ones(len(x))
            columns = [(self.share_B.get(adapter, ones).to(x.device), rank) for adapter, rank in ranks]
            self.rows[key] = torch.cat([share_B[:, None].expand(-1, rank) for share_B, rank in columns], dim=1)
        return self.rows[key]

    def _low_rank(self, x: Tensor, down: Tensor, up: Tensor, share_BR: Tensor | None = None) -> Tensor:
        convolves = isinstance(self.base, nn.Conv2d)
        low = self.base._conv_forward(x, down, None) if isinstance(self.base, nn.Conv2d) else F.linear(x, down)
        if share_BR is not None:
            low = (low * _spread(share_BR, low, channels_last=not convolves)).to(low.dtype)
        return F.conv2d(low, up[..., None, None]) if convolves else F.linear(low, up)

    def _full(self, x: Tensor, delta: Tensor) -> Tensor:
        if isinstance(self.base, nn.Conv2d):
            made: Tensor = self.base._conv_forward(x, delta, None)
            return made
        return F.linear(x, delta)

    def _check_samples(self, x: Tensor) -> None:
        """Refuse what is not one row for each sample."""
        samples = len(next(iter(self.share_B.values())))
        if len(x) != samples or x.dim() < 2:
            raise SamplesTogether(
                f"samples cannot have strengths of their own at {self.name}: it takes {len(x)} rows for"
                f" {samples} samples, several of them together",
                fix="give all samples of a batch the same strengths, or leave this layer out of the adapter",
            )


def _spread(share_BR: Tensor, over: Tensor, *, channels_last: bool = False) -> Tensor:
    """(B, R) in a shape that multiplies (B, ..., R), or (B, R, ...)."""
    between = [1] * (over.dim() - 2)
    return share_BR.view(len(share_BR), *between, -1) if channels_last else share_BR.view(len(share_BR), -1, *between)


class Beside(InPlace[BesideLayer]):
    """Adapters beside a model's layers, until `eject`."""

    @property
    def names(self) -> set[str]:
        """The adapters in use."""
        factors = {adapter for layer in self.layers.values() for adapter, *_ in layer.factors}
        return factors | {adapter for layer in self.layers.values() for adapter, _ in layer.differences}

    @contextmanager
    def strengths(self, shares: Mapping[str, Tensor]) -> Iterator[None]:
        """Strengths of their own for the samples of a batch.

        Args:
            shares: an adapter's name in use -> (B,) what its strength is multiplied by.

        Raises:
            AdapterError: no adapter has that name.
            SamplesTogether: from the model's forward, a layer that takes the samples together.
        """
        if unknown := sorted(set(shares) - self.names):
            raise AdapterError(f"no adapter beside the layers is called {unknown[0]}")
        rows: dict[Hashable, Tensor] = {}
        for layer in self.layers.values():
            layer.share_B, layer.rows = shares, rows
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.share_B, layer.rows = {}, {}


@torch.no_grad()
def beside(
    parts: Mapping[str, nn.Module], uses: Sequence[Applied], pristine: Mapping[str, Tensor] | None = None
) -> Beside:
    """Put adapters beside the linear layers and convolutions of a model, until they are ejected.

    Args:
        pristine: "<layer name>.weight" -> the weight as its file holds it, for kinds that depend on it.

    Raises:
        AdapterError: an adapter does not fit the model, or a layer is adapted already.
        ModelError: a weight that is needed is not at hand.
    """
    known, free, norms = find(parts), parents(parts), changeable(parts).keys() - find(parts).keys()
    made: dict[str, BesideLayer] = {}
    for use in uses:
        own = replace(use, layers={name: change for name, change in use.layers.items() if name not in norms})
        for name, ((change, strength),) in changes(known, [own]).items():
            if name not in free:
                raise AdapterError(f"layer {name} is adapted already", fix="eject the first adapter before the next")
            layer = made.setdefault(name, BesideLayer(known[name], name))
            _add(layer, use.name, change, strength, pristine or {})
    for name, layer in made.items():
        parent, child = free[name]
        setattr(parent, child, layer)
    return Beside(made, {name: free[name] for name in made})


def small(parts: Mapping[str, nn.Module], uses: Sequence[Applied]) -> list[Applied]:
    """Of these adapters what is merged even so: the changes of norms and of biases."""
    known = find(parts)
    found = []
    for use in uses:
        kept: dict[str, Change] = {}
        for name, change in use.layers.items():
            if name not in known:
                kept[name] = change
            elif change.bias_change is not None:
                kept[name] = Full(None, change.bias_change)
        found += [replace(use, layers=kept)] if kept else []
    return found


def _add(layer: BesideLayer, adapter: str, change: Change, strength: float, pristine: Mapping[str, Tensor]) -> None:
    base = layer.base.weight
    if isinstance(change, Lora):
        lora = change.without_core()
        down, up = (torch.from_numpy(half).to(base.device) for half in (lora.down, lora.up))
        shaped = down.reshape(lora.rank, *base.shape[1:]).to(base.dtype)
        layer.joined = None
        layer.factors.append((adapter, shaped, (up.flatten(1) * (strength * lora.scale)).to(base.dtype)))
        return
    if isinstance(change, Full) and change.weight is None:
        return
    layer.differences.append((adapter, difference(layer.name, base, change, strength, pristine)))


def difference(name: str, base: Tensor, change: Change, strength: float, pristine: Mapping[str, Tensor]) -> Tensor:
    """What a change of any kind makes of a layer's weight, less the weight: where it is and in its type.

    Args:
        name: the layer's.
        base: its weight, which may be a stand-in: only shape, type and device count.
        change: what is made of it.
        strength: how strongly.
        pristine: "<layer name>.weight" -> the weight as its file holds it.

    Raises:
        ModelError: the kind depends on the weight, which is not at hand.
    """
    source = pristine.get(f"{name}.weight")
    if source is None and change.needs_weight:
        raise ModelError(f"the base's own weight of {name} is not at hand", fix="load the base again")
    held = torch.zeros(base.shape) if source is None else source.reshape(base.shape).float().cpu()
    delta = change.applied(held.numpy(), strength) - held.numpy()
    return torch.from_numpy(delta).to(base.device, base.dtype)
