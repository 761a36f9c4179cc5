"""The kinds that can be trained, as layers beside a base layer that itself stays as it is.

    lora    y = base(x) + s * up(down(x)), where `down` reduces to `rank` channels and `up` begins at zero
    locon   the same, and a convolution's kernel lies in a core of its own between both
    dora    the same, and each output of the base with its change is brought to a length that is trained too
    loha    the product by elements of two such changes
    lokr    a Kronecker product of a small matrix and a large one, which may be of low rank

s = strength * alpha / rank. The change's parameters are fp32 whatever the base is; no kind builds a weight of the
base's size but a LoHa whose rank, squared, is more than half the layer's shorter side. Sources: as in `kinds`; for the
LoHa as a low-rank product, (A B) * (C D) by elements = (A | C)(B | D), where | multiplies the columns of each row pair.

Shape suffixes: B batch, C channels, H and W height and width, R rank, O channels out, I in; * any leading axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from velatura.adapters.kinds import SMALLEST, Dora, Loha, Lokr
from velatura.adapters.layers import AdaptedLayer, BaseLayer
from velatura.adapters.weights import Array, Change, Lora
from velatura.errors import AdapterError
from velatura.randomness import generator
from velatura.weights.remade import weight_of


class TrainedLayer(AdaptedLayer):
    """A base layer with a change beside it that is trained."""

    starts_at_zero: ClassVar[tuple[str, ...]]
    """Parameters that begin at zero, so that the change is nothing at first."""

    def __init__(self, base: BaseLayer, *, rank: int, alpha: float) -> None:
        """A change of nothing, since all parameters are zeros until they are drawn or loaded."""
        super().__init__()
        self.base = base
        self.rank = rank
        self.alpha = alpha
        self.strength = 1.0
        self.dropout = 0.0
        """Share of the rank's channels that are left out in a step."""
        self.kept_R: Tensor | None = None
        """What the channels are multiplied by in this step."""
        self.open_BR: Tensor | None = None
        """Which channels work for each sample of a batch."""
        self.train(base.training)

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return self.strength * self.alpha / self.rank

    def add(self, name: str, *shape: int) -> None:
        """A parameter of zeros, where the base is."""
        made = torch.zeros(shape, dtype=torch.float32, device=self.base.weight.device)
        self.register_parameter(name, nn.Parameter(made))

    @property
    def own(self) -> dict[str, nn.Parameter]:
        """The parameters of the change alone."""
        return dict(self.named_parameters(recurse=False))

    def change(self) -> Change:
        """A copy of the change as it is now, fp32 on the CPU."""
        raise NotImplementedError

    def values(self, change: Change) -> Mapping[str, Array]:
        """A change's tensors by this layer's parameters.

        Raises:
            AdapterError: it is of another kind.
        """
        raise NotImplementedError

    @torch.no_grad()
    def load(self, change: Change) -> None:
        """Take over another change of this kind and rank, alpha included.

        Raises:
            AdapterError: it is of another kind.
        """
        for which, values in self.values(change).items():
            self.own[which].copy_(torch.from_numpy(values))
        told = change.direction if isinstance(change, Dora) else change
        self.alpha = float(getattr(told, "alpha", self.alpha))

    @torch.no_grad()
    def draw(self, seed: int, name: str) -> None:
        """Kaiming uniform with a = sqrt(5), which comes to +- 1 / sqrt(values that one output sums over)."""
        for which, parameter in self.own.items():
            if which not in self.starts_at_zero:
                bound = 1 / math.sqrt(math.prod(parameter.shape[1:]))
                # of a LoRA, the only one; the name of others is in the stream's
                labels = (name,) if which == "down" else (name, which)
                drawn = generator(seed, "adapter", *labels).random(size=tuple(parameter.shape), dtype=np.float32)
                parameter.copy_(torch.from_numpy((2 * drawn - 1) * np.float32(bound)))

    def begin(self, seed: int, step: int, name: str) -> None:
        """Draw which channels are left out in a step: a function of seed, step and name alone."""
        if not self.dropout:
            return
        kept = generator(seed, "adapter dropout", step, name).random(size=self.rank) >= self.dropout
        scaled = torch.from_numpy(kept.astype(np.float32) / np.float32(1 - self.dropout))
        self.kept_R = scaled.to(self.base.weight.device)

    def end(self) -> None:
        """No channel is left out."""
        self.kept_R = self.open_BR = None

    def with_dropout(self, factor: Tensor) -> Tensor:
        """A factor of shape (R, ...) with this step's channels left out."""
        return factor if self.kept_R is None else factor * self.kept_R.view(-1, *[1] * (factor.dim() - 1))

    def opened(self, low: Tensor) -> Tensor:
        """The channels of the rank, (B, *, R) or (B, R, H, W), those alone that work for each sample.

        Raises:
            AdapterError: the samples of a batch go through this layer as one.
        """
        if self.open_BR is None:
            return low
        if len(low) != len(self.open_BR):
            raise AdapterError(
                "this layer is given the samples of a batch in one piece, so they cannot have ranks of their own",
                fix="leave out adapter.timestep_rank, or set train.batch to 1",
            )
        between = [1] * (low.dim() - 2)
        shape = (*self.open_BR.shape, *between) if self.convolution else (len(low), *between, self.rank)
        return low * self.open_BR.to(low.dtype).view(shape)

    @property
    def convolution(self) -> bool:
        """Whether the base is one."""
        return isinstance(self.base, nn.Conv2d)

    def through_base(self, x: Tensor, weight: Tensor) -> Tensor:
        """As the base layer with another weight and no bias: its stride and padding."""
        if isinstance(self.base, nn.Conv2d):
            made: Tensor = self.base._conv_forward(x, weight, None)
            return made
        return F.linear(x, weight)


class LoraLayer(TrainedLayer):
    """A low-rank change."""

    starts_at_zero = ("up",)
    down: nn.Parameter
    up: nn.Parameter

    def __init__(self, base: BaseLayer, *, rank: int, alpha: float) -> None:
        """As `TrainedLayer`."""
        super().__init__(base, rank=rank, alpha=alpha)
        self.add("down", rank, *base.weight.shape[1:])
        self.add("up", base.weight.shape[0], rank, *[1] * (base.weight.dim() - 2))

    def forward(self, x: Tensor) -> Tensor:
        """As the base layer's, x (*, C) or (B, C, H, W)."""
        if self.scale == 0:
            return self.base(x)  # type: ignore[no-any-return]
        # The change is added into the base's own output, which nothing else holds. That must be no view, or autograd
        # copies the whole of it, and of its gradient, several times: so rows go into a linear layer.
        up = self.up.flatten(1)
        if self.convolution:
            y: Tensor = self.base(x)
            low = self._low(x.to(y.dtype)).flatten(2)
            return y.add_((up.to(y.dtype) @ low).view_as(y), alpha=self.scale)
        rows: Tensor = self.base(x.reshape(-1, x.shape[-1]))
        low = self._low(x.to(rows.dtype)).reshape(-1, self.rank)
        return rows.addmm_(low, up.to(rows.dtype).t(), alpha=self.scale).view(*x.shape[:-1], -1)

    def _low(self, x: Tensor) -> Tensor:
        """The channels of the rank, (*, R) or (B, R, H, W)."""
        return self.opened(self.through_base(x, self.with_dropout(self.down).to(x.dtype)))

    def change(self) -> Change:
        """As in `TrainedLayer`."""
        return Lora(copied(self.down), copied(self.up), self.alpha)

    def values(self, change: Change) -> Mapping[str, Array]:
        """As in `TrainedLayer`."""
        if not isinstance(change, Lora) or change.mid is not None:
            raise _other(change, "LoRA")
        return {"down": change.down, "up": change.up}


class LoconLayer(LoraLayer):
    """A low-rank change of a convolution whose kernel lies in a core: 1 x 1, kernel, 1 x 1."""

    def __init__(self, base: BaseLayer, *, rank: int, alpha: float) -> None:
        """As `TrainedLayer`."""
        super().__init__(base, rank=rank, alpha=alpha)
        self.add("down", rank, base.weight.shape[1], 1, 1)
        self.add("mid", rank, rank, *base.weight.shape[2:])

    mid: nn.Parameter

    def _low(self, x: Tensor) -> Tensor:
        first = self.opened(F.conv2d(x, self.with_dropout(self.down).to(x.dtype)))
        return self.through_base(first, self.mid.to(x.dtype))

    def change(self) -> Change:
        """As in `TrainedLayer`."""
        return Lora(copied(self.down).reshape(self.rank, -1), copied(self.up), self.alpha, copied(self.mid))

    def values(self, change: Change) -> Mapping[str, Array]:
        """As in `TrainedLayer`."""
        if not isinstance(change, Lora) or change.mid is None:
            raise _other(change, "LoCon with a core")
        return {"down": change.down.reshape(*change.down.shape[:2], 1, 1), "up": change.up, "mid": change.mid}


class DoraLayer(LoraLayer):
    """A low-rank change, after which each output of the weight is brought to a trained length.

    As in section 4.3 of the paper, gradients take the length of the changed weight for a constant.
    """

    magnitude: nn.Parameter

    def __init__(self, base: BaseLayer, *, rank: int, alpha: float) -> None:
        """As `TrainedLayer`; the lengths are the base's own."""
        super().__init__(base, rank=rank, alpha=alpha)
        self.add("magnitude", base.weight.shape[0])
        with torch.no_grad():
            flat = weight_of(base).float().flatten(1)
            self.register_buffer("_squares", flat.square().sum(dim=1), persistent=False)
            self.magnitude.copy_(self._lengths())

    _squares: Tensor

    def draw(self, seed: int, name: str) -> None:
        """As in `TrainedLayer`; the lengths stay the base's own."""
        lengths = self.magnitude.detach().clone()
        super().draw(seed, name)
        with torch.no_grad():
            self.magnitude.copy_(lengths)

    def forward(self, x: Tensor) -> Tensor:
        """As the base layer's, x (*, C) or (B, C, H, W)."""
        y: Tensor = self.base(x)
        if self.strength == 0:
            return y
        low, up = self._low(x.to(y.dtype)), self.up.to(y.dtype)
        added = F.conv2d(low, up) if self.convolution else F.linear(low, up)
        across = (1, -1, 1, 1) if self.convolution else (-1,)
        ratio = (self.magnitude / self._lengths()).to(y.dtype).view(across)
        plain = y if self.base.bias is None else y - self.base.bias.view(across)
        return y + self.strength * ((ratio - 1) * plain + ratio * (self.alpha / self.rank) * added)

    @torch.no_grad()
    def _lengths(self) -> Tensor:
        """|W + delta| of each output, from products with the factors alone: (O,)."""
        scale = self.alpha / self.rank
        up, down = self.up.flatten(1), self.down.flatten(1)
        cross = (weight_of(self.base).float().flatten(1) @ down.t() * up).sum(dim=1)
        square = (up @ (down @ down.t()) * up).sum(dim=1)
        return (self._squares + 2 * scale * cross + scale**2 * square).clamp(min=0).sqrt() + float(SMALLEST)

    def change(self) -> Change:
        """As in `TrainedLayer`."""
        ones = [1] * (self.base.weight.dim() - 1)
        return Dora(super().change(), copied(self.magnitude).reshape(-1, *ones))

    def values(self, change: Change) -> Mapping[str, Array]:
        """As in `TrainedLayer`."""
        if not isinstance(change, Dora) or not change.by_output:
            raise _other(change, "DoRA with a length for each output")
        return {**super().values(change.direction), "magnitude": change.magnitude.reshape(-1)}


class LohaLayer(TrainedLayer):
    """The product by elements of two low-rank changes."""

    starts_at_zero = ("second_up",)
    first_up: nn.Parameter
    first_down: nn.Parameter
    second_up: nn.Parameter
    second_down: nn.Parameter

    def __init__(self, base: BaseLayer, *, rank: int, alpha: float) -> None:
        """As `TrainedLayer`."""
        super().__init__(base, rank=rank, alpha=alpha)
        columns = math.prod(base.weight.shape[1:])
        for half in ("first", "second"):
            self.add(f"{half}_up", base.weight.shape[0], rank)
            self.add(f"{half}_down", rank, columns)

    def forward(self, x: Tensor) -> Tensor:
        """As the base layer's, x (*, C) or (B, C, H, W)."""
        y: Tensor = self.base(x)
        if self.scale == 0:
            return y
        x, shape, rank = x.to(y.dtype), self.base.weight.shape, self.rank
        down = self.with_dropout(self.first_down)
        if 2 * rank**2 > min(shape[0], math.prod(shape[1:])):
            delta = (self.first_up @ down) * (self.second_up @ self.second_down)
            return y + self.scale * self.through_base(x, delta.view(shape).to(y.dtype))
        up = (self.first_up[:, :, None] * self.second_up[:, None, :]).flatten(1).to(y.dtype)
        both = (down[:, None] * self.second_down[None]).view(rank**2, *shape[1:]).to(y.dtype)
        low = self.through_base(x, both)
        added = F.conv2d(low, up[..., None, None]) if self.convolution else F.linear(low, up)
        return y + self.scale * added

    def change(self) -> Change:
        """As in `TrainedLayer`."""
        first, second = ((copied(self.own[f"{half}_up"]), copied(self.own[f"{half}_down"])) for half in HALVES)
        return Loha(first, second, self.alpha, tuple(self.base.weight.shape[2:]))

    def values(self, change: Change) -> Mapping[str, Array]:
        """As in `TrainedLayer`."""
        if not isinstance(change, Loha) or change.cores is not None:
            raise _other(change, "LoHa without cores")
        (a, b), (c, d) = change.first, change.second
        return {"first_up": a, "first_down": b, "second_up": c, "second_down": d}


class LokrLayer(TrainedLayer):
    """A Kronecker product: a small matrix, and a large one that is of low rank where that is smaller."""

    starts_at_zero = ("second", "second_up")
    first: nn.Parameter

    def __init__(self, base: BaseLayer, *, rank: int, alpha: float, factor: int | None = None) -> None:
        """As `TrainedLayer`.

        Args:
            factor: the largest side of the small matrix; None: the nearest to a square.
        """
        super().__init__(base, rank=rank, alpha=alpha)
        (a, b), (c, d) = (divided(int(side), factor) for side in base.weight.shape[:2])
        kernel = base.weight.shape[2:]
        self.add("first", a, c)
        self.low_rank = 2 * rank < max(b, d)
        if self.low_rank:
            self.add("second_up", b, rank)
            self.add("second_down", rank, d * math.prod(kernel))
        else:
            self.add("second", b, d, *kernel)
        self.sides = (a, b, c, d)

    @property
    def scale(self) -> float:
        """As in `TrainedLayer`; of two full factors alpha says nothing."""
        return super().scale if self.low_rank else self.strength

    def forward(self, x: Tensor) -> Tensor:
        """As the base layer's, x (*, C) or (B, C, H, W)."""
        y: Tensor = self.base(x)
        if self.scale == 0:
            return y
        _, _, c, d = self.sides
        x, first, second = x.to(y.dtype), self.first.to(y.dtype), self._second().to(y.dtype)
        if self.convolution:
            inner = self.through_base(x.reshape(-1, d, *x.shape[2:]), second)
            inner = inner.view(len(x), c, *inner.shape[1:])
            added = torch.einsum("ac,ncbhw->nabhw", first, inner).flatten(1, 2)
        else:
            inner = F.linear(x.view(*x.shape[:-1], c, d), second)
            added = torch.einsum("ac,...cb->...ab", first, inner).flatten(-2)
        return y + self.scale * added

    def _second(self) -> Tensor:
        held = self.own
        if not self.low_rank:
            return held["second"]
        _, b, _, d = self.sides
        return (held["second_up"] @ self.with_dropout(held["second_down"])).view(b, d, *self.base.weight.shape[2:])

    def change(self) -> Change:
        """As in `TrainedLayer`."""
        held = {name: copied(parameter) for name, parameter in self.own.items()}
        second = (held["second_up"], held["second_down"]) if self.low_rank else held["second"]
        alpha = self.alpha if self.low_rank else 1.0
        return Lokr(held["first"], second, alpha, tuple(self.base.weight.shape[2:]))

    def values(self, change: Change) -> Mapping[str, Array]:
        """As in `TrainedLayer`."""
        wrong = not isinstance(change, Lokr) or isinstance(change.first, tuple) or change.core is not None
        if wrong or isinstance(change.second, tuple) != self.low_rank:  # type: ignore[attr-defined]
            raise _other(change, "LoKr of these factors")
        assert isinstance(change, Lokr)
        second: Any = change.second
        rest = {"second_up": second[0], "second_down": second[1]} if self.low_rank else {"second": second}
        first: Any = change.first
        return {"first": first, **rest}


HALVES = ("first", "second")

LAYERS: Mapping[str, type[TrainedLayer]] = {
    "lora": LoraLayer,
    "locon": LoconLayer,
    "dora": DoraLayer,
    "loha": LohaLayer,
    "lokr": LokrLayer,
}
"""A kind in a recipe -> its layer."""


def made(kind: str, base: BaseLayer, *, rank: int, alpha: float, factor: int | None = None) -> TrainedLayer:
    """A layer of some kind beside a base layer.

    Args:
        factor: of a LoKr.
    """
    if kind == "lokr":
        return LokrLayer(base, rank=rank, alpha=alpha, factor=factor)
    if kind == "locon" and math.prod(base.weight.shape[2:]) == 1:
        return LoraLayer(base, rank=rank, alpha=alpha)  # a kernel of one value needs no core
    return LAYERS[kind](base, rank=rank, alpha=alpha)


def divided(side: int, factor: int | None = None) -> tuple[int, int]:
    """A side as the product of two, the smaller first: as near to a square as there are divisors, up to `factor`."""
    most = min(factor or side, math.isqrt(side))
    small = next(number for number in range(most, 0, -1) if side % number == 0)
    return small, side // small


def copied(parameter: Tensor) -> Array:
    """A parameter's values, fp32 on the CPU, of their own."""
    found: Array = parameter.detach().to("cpu", torch.float32, copy=True).contiguous().numpy()
    return found


def _other(change: Change, kind: str) -> AdapterError:
    return AdapterError(f"these weights are a {change.kind}, and what is trained is a {kind}")
