"""The kinds of change beside the LoRA: what each stores and makes of a weight. Those that turn it are in `turned`.

Sources: LyCORIS (Yeh et al. 2023, arXiv:2309.14859) for LoHa, LoKr, GLoRA's files, IA3, full and norm; Liu et al.
2024, arXiv:2402.09353 (DoRA); Chavan et al. 2023, arXiv:2306.07967 (GLoRA); Liu et al. 2022, arXiv:2205.05638 (IA3).

Shapes: O out, I in, R rank, K a kernel's axes or nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from velatura.adapters.weights import Array, Change, Lora, Shape, same_weight, scalar, tucker
from velatura.errors import AdapterError

Rows = NDArray[np.intp]

SMALLEST = np.float32(np.finfo(np.float32).eps)
"""Added to norms that are divided by, as LyCORIS does."""


@dataclass(frozen=True, eq=False)
class Loha(Change):
    """delta = alpha / rank * (first_up @ first_down) * (second_up @ second_down), the last product by elements."""

    kind: ClassVar[str] = "LoHa"

    first: tuple[Array, Array]
    """(O, R) and (R, I * K); with cores (R, O) and (R, I)."""
    second: tuple[Array, Array]
    alpha: float
    kernel: Shape = ()
    cores: tuple[Array, Array] | None = None
    """Tucker cores, (R, R, K)."""

    @property
    def rank(self) -> int:
        """As in `Change`."""
        return int(self.first[1].shape[0])

    @property
    def shape(self) -> Shape:
        """The shape of the weight that this changes."""
        up, down = self.first
        if self.cores is not None:
            return (int(up.shape[1]), int(down.shape[1]), *self.cores[0].shape[2:])
        return (int(up.shape[0]), int(down.shape[1]) // math.prod(self.kernel), *self.kernel)

    @property
    def tensors(self) -> Mapping[str, Array]:
        """As in `Change`."""
        held = {f"hada_w{number}_{half}": pair["ab".index(half)] for number, pair in self._pairs() for half in "ab"}
        if self.cores is not None:
            held |= {f"hada_t{number + 1}": core for number, core in enumerate(self.cores)}
        return {**held, "alpha": scalar(self.alpha)}

    def fits(self, weight: Shape) -> bool:
        """As in `Change`."""
        return same_weight(self.shape, weight)

    def rows(self, chosen: Rows) -> Loha:
        """As in `Change`."""
        at = (slice(None), chosen) if self.cores is not None else (chosen,)
        first, second = ((pair[0][at], pair[1]) for _, pair in self._pairs())
        return dataclasses.replace(self, first=first, second=second)

    def delta(self) -> Array:
        """As in `Change`."""
        if self.cores is None:
            one, other = (up @ down for _, (up, down) in self._pairs())
        else:
            one, other = (tucker(core, *pair) for core, (_, pair) in zip(self.cores, self._pairs(), strict=True))
        return np.asarray((np.float32(self.alpha / self.rank) * one * other).reshape(self.shape), np.float32)

    def _pairs(self) -> tuple[tuple[int, tuple[Array, Array]], ...]:
        return ((1, self.first), (2, self.second))


@dataclass(frozen=True, eq=False)
class Lokr(Change):
    """delta = scale * kron(first, second), where either factor may itself be of low rank.

    The scale is alpha / rank. Where neither factor is, files' alpha says nothing, as in LyCORIS; alpha is then the
    scale itself, which PEFT has.
    """

    kind: ClassVar[str] = "LoKr"

    first: Array | tuple[Array, Array]
    """(a, c), or (a, R) and (R, c)."""
    second: Array | tuple[Array, Array]
    """(b, d, K), or (b, R) and (R, d * K); with a core (R, b) and (R, d)."""
    alpha: float
    kernel: Shape = ()
    core: Array | None = None
    """Tucker core of the second factor, (R, R, K)."""

    @property
    def rank(self) -> int | None:
        """As in `Change`."""
        held = self.first if isinstance(self.first, tuple) else self.second
        return int(held[1].shape[0]) if isinstance(held, tuple) else None

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return self.alpha if self.rank is None else self.alpha / self.rank

    @property
    def factors(self) -> tuple[Array, Array]:
        """Both factors in full: (a, c) and (b, d, K)."""
        first = self.first[0] @ self.first[1] if isinstance(self.first, tuple) else self.first
        if not isinstance(self.second, tuple):
            return first, self.second
        if self.core is not None:
            return first, tucker(self.core, *self.second)
        second = self.second[0] @ self.second[1]
        return first, second.reshape(len(second), -1, *self.kernel) if self.kernel else second

    @property
    def shape(self) -> Shape:
        """The shape of the weight that this changes."""
        first = self.first if not isinstance(self.first, tuple) else None
        a, c = first.shape if first is not None else (self.first[0].shape[0], self.first[1].shape[1])
        if not isinstance(self.second, tuple):
            b, d, *kernel = self.second.shape
        elif self.core is not None:
            b, d, *kernel = self.second[0].shape[1], self.second[1].shape[1], *self.core.shape[2:]
        else:
            b, d, kernel = len(self.second[0]), self.second[1].shape[1] // math.prod(self.kernel), list(self.kernel)
        return (int(a * b), int(c * d), *kernel)

    @property
    def tensors(self) -> Mapping[str, Array]:
        """As in `Change`."""
        held: dict[str, Array] = {}
        first = self.first
        if self.rank is None and not isinstance(first, tuple) and self.scale != 1:
            first = np.float32(self.scale) * first
        for name, factor in (("lokr_w1", first), ("lokr_w2", self.second)):
            held |= {f"{name}_a": factor[0], f"{name}_b": factor[1]} if isinstance(factor, tuple) else {name: factor}
        if self.core is not None:
            held["lokr_t2"] = self.core
        return {**held, "alpha": scalar(self.alpha)}

    def fits(self, weight: Shape) -> bool:
        """As in `Change`."""
        return same_weight(self.shape, weight)

    def rows(self, chosen: Rows) -> Change:
        """As in `Change`; whole blocks of rows stay a LoKr, others become a full difference."""
        block = self.factors[1].shape[0]
        heads = chosen.reshape(-1, block) if len(chosen) % block == 0 else None
        if heads is None or (heads != (heads[:, :1] // block * block) + np.arange(block)).any():
            return Full(self.delta()[chosen])
        first, at = self.first, heads[:, 0] // block
        taken = (first[0][at], first[1]) if isinstance(first, tuple) else first[at]
        return dataclasses.replace(self, first=taken)

    def delta(self) -> Array:
        """As in `Change`."""
        first, second = self.factors
        spread = first.reshape(*first.shape, *[1] * (second.ndim - 2))
        return np.asarray(np.float32(self.scale) * np.kron(spread, second), np.float32)


@dataclass(frozen=True, eq=False)
class Dora(Change):
    """Another change, after which each row or column of the weight is brought to a length of its own.

    applied = weight + strength * (magnitude * V / |V| - weight), V = weight + delta. Lengths are taken over each
    output's row (PEFT, LyCORIS' wd_on_out) or over each input's column (A1111's first ones): the magnitude's shape
    tells which.
    """

    kind: ClassVar[str] = "DoRA"
    needs_weight: ClassVar[bool] = True

    direction: Change
    """A LoRA, LoHa or LoKr."""
    magnitude: Array
    """(O, 1...) or (1, I, 1...); (O,) is taken as the first."""

    @property
    def rank(self) -> int | None:
        """As in `Change`."""
        return self.direction.rank

    @property
    def by_output(self) -> bool:
        """Whether there is a length for each output."""
        return self.magnitude.ndim == 1 or self.magnitude.shape[0] == self.magnitude.size

    @property
    def tensors(self) -> Mapping[str, Array]:
        """As in `Change`."""
        shape = (-1, 1) if self.magnitude.ndim == 1 else self.magnitude.shape
        return {**self.direction.tensors, "dora_scale": self.magnitude.reshape(shape)}

    def fits(self, weight: Shape) -> bool:
        """As in `Change`."""
        lengths = weight[:1] if self.by_output else weight[1:2]
        return len(weight) > 1 and self.direction.fits(weight) and lengths == (self.magnitude.size,)

    def rows(self, chosen: Rows) -> Dora:
        """As in `Change`; what is scaled by inputs cannot be split."""
        if not self.by_output:
            raise AdapterError("a DoRA with a magnitude for each input cannot be divided between layers")
        return Dora(self.direction.rows(chosen), self.magnitude[chosen])

    def applied(self, weight: Array, strength: float = 1.0) -> Array:
        """As in `Change`."""
        changed = self.direction.applied(weight)
        return weight + np.float32(strength) * (changed * self.lengths(changed) - weight)

    def lengths(self, changed: Array) -> Array:
        """What V is multiplied by, magnitude / |V|, in a shape that spreads over it."""
        axes = tuple(axis for axis in range(changed.ndim) if axis != (0 if self.by_output else 1))
        norm = np.sqrt(np.sum(np.square(changed), axis=axes, keepdims=True, dtype=np.float32)) + SMALLEST
        return np.asarray(self.magnitude.reshape(norm.shape) / norm, np.float32)

    @property
    def bias_change(self) -> Array | None:
        """As in `Change`."""
        return self.direction.bias_change


@dataclass(frozen=True, eq=False)
class Full(Change):
    """The whole difference, of weight and bias."""

    kind: ClassVar[str] = "full difference"

    weight: Array | None
    """(O, I, K), or None where only the bias is changed."""
    bias: Array | None = None
    """(O,)."""

    @property
    def tensors(self) -> Mapping[str, Array]:
        """As in `Change`."""
        held = {"diff": self.weight, "diff_b": self.bias}
        return {name: tensor for name, tensor in held.items() if tensor is not None}

    def fits(self, weight: Shape) -> bool:
        """As in `Change`."""
        right = self.weight is None or same_weight(self.weight.shape, weight)
        return right and (self.bias is None or self.bias.shape == weight[:1])

    def rows(self, chosen: Rows) -> Full:
        """As in `Change`."""
        weight, bias = (None if half is None else half[chosen] for half in (self.weight, self.bias))
        return Full(weight, bias)

    def delta(self) -> Array:
        """As in `Change`; one zero where only the bias is changed."""
        return np.zeros((), np.float32) if self.weight is None else self.weight

    def applied(self, weight: Array, strength: float = 1.0) -> Array:
        """As in `Change`."""
        return weight if self.weight is None else super().applied(weight, strength)

    @property
    def bias_change(self) -> Array | None:
        """As in `Change`."""
        return self.bias


@dataclass(frozen=True, eq=False)
class Norm(Full):
    """The difference of a norm's weight and bias, each (features,)."""

    kind: ClassVar[str] = "norm"

    @property
    def tensors(self) -> Mapping[str, Array]:
        """As in `Change`."""
        held = {"w_norm": self.weight, "b_norm": self.bias}
        return {name: tensor for name, tensor in held.items() if tensor is not None}

    def fits(self, weight: Shape) -> bool:
        """As in `Change`."""
        return len(weight) == 1 and super().fits(weight)


@dataclass(frozen=True, eq=False)
class Ia3(Change):
    """Each output, or each input, multiplied by 1 + strength * factor."""

    kind: ClassVar[str] = "IA3"
    needs_weight: ClassVar[bool] = True

    factor: Array
    """(O,) or (I,)."""
    on_input: bool

    @property
    def tensors(self) -> Mapping[str, Array]:
        """As in `Change`."""
        return {"weight": self.factor, "on_input": scalar(float(self.on_input))}

    def fits(self, weight: Shape) -> bool:
        """As in `Change`."""
        return len(weight) > 1 and self.factor.size == weight[1 if self.on_input else 0]

    def rows(self, chosen: Rows) -> Ia3:
        """As in `Change`."""
        return self if self.on_input else Ia3(self.factor[chosen], False)

    def applied(self, weight: Array, strength: float = 1.0) -> Array:
        """As in `Change`."""
        spread = [1] * weight.ndim
        spread[1 if self.on_input else 0] = -1
        return np.asarray(weight * (1 + np.float32(strength) * self.factor.reshape(spread)), np.float32)


@dataclass(frozen=True, eq=False)
class Glora(Change):
    """delta = alpha / rank * (weight @ a1 @ a2 + b1 @ b2), where a acts on the weight's inputs."""

    kind: ClassVar[str] = "GLoRA"
    needs_weight: ClassVar[bool] = True

    a1: Array
    """(I, R)."""
    a2: Array
    """(R, I)."""
    b1: Array
    """(O, R)."""
    b2: Array
    """(R, I * K)."""
    alpha: float
    kernel: Shape = ()

    @property
    def rank(self) -> int:
        """As in `Change`."""
        return int(self.a2.shape[0])

    @property
    def tensors(self) -> Mapping[str, Array]:
        """As in `Change`."""
        ones = [1] * len(self.kernel)
        held = {f"{name}.weight": getattr(self, name) for name in ("a1", "a2", "b1")}
        held = {name: tensor.reshape(*tensor.shape, *ones) for name, tensor in held.items()}
        held["b2.weight"] = self.b2.reshape(self.rank, -1, *self.kernel) if self.kernel else self.b2
        return {**held, "alpha": scalar(self.alpha)}

    def fits(self, weight: Shape) -> bool:
        """As in `Change`."""
        columns = math.prod(weight[1:])
        ranks = self.a1.shape[1:] + self.b1.shape[1:] + self.b2.shape[:1]
        sides = (self.a1.shape[0], self.a2.shape[1], self.b1.shape[0], self.b2.shape[1])
        return (
            len(weight) > 1
            and sides == (weight[1], weight[1], weight[0], columns)
            and ranks == (self.rank,) * len(ranks)
        )

    def rows(self, chosen: Rows) -> Glora:
        """As in `Change`."""
        return dataclasses.replace(self, b1=self.b1[chosen])

    def applied(self, weight: Array, strength: float = 1.0) -> Array:
        """As in `Change`."""
        inputs = np.moveaxis(weight, 1, -1)
        turned = np.moveaxis((inputs @ self.a1) @ self.a2, -1, 1)
        delta = turned + (self.b1 @ self.b2).reshape(weight.shape)
        return np.asarray(weight + np.float32(strength * self.alpha / self.rank) * delta, np.float32)


def plain(change: Change) -> Lora | None:
    """The change as two factors without a core, or None where it is not a LoRA."""
    return change.without_core() if isinstance(change, Lora) else None
