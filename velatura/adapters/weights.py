"""An adapter as data: for each layer of the base a change, named as the base names its layers.

A layer's name is the part of the model and the path of the module in it, as diffusers and
transformers call them: "denoiser.mid_block.attentions.0.proj_in",
"text_encoder.text_model.encoder.layers.0.self_attn.q_proj".

What all kinds of change have in common is here, and the kind that matters most, the LoRA; the others are in `kinds`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from velatura.errors import AdapterError

Array = NDArray[np.float32]

Shape = tuple[int, ...]
"""A layer's weight: (out, in) of a linear layer, (out, in, kernel height, kernel width) of a convolution, (features,)
of a norm."""

FLATTENED_CLIP = ("encoder.layers.", "embeddings.", "final_layer_norm.")
"""How paths in a CLIP text encoder begin where transformers (5.6 and later) leaves out `text_model.`"""


class Change(ABC):
    """What an adapter does to one layer. All values are fp32; a change is never altered once it is made."""

    kind: ClassVar[str]
    """What users call it."""
    needs_weight: ClassVar[bool] = False
    """Whether the change depends on the weight that it changes."""

    @property
    @abstractmethod
    def tensors(self) -> Mapping[str, Array]:
        """What defines the change, by the ends of the keys under which LyCORIS and kohya store it."""

    @abstractmethod
    def fits(self, weight: Shape) -> bool:
        """Whether this can change a weight of that shape; of a pointwise convolution the kernel may be left out."""

    @abstractmethod
    def rows(self, chosen: NDArray[np.intp]) -> Change:
        """The change of some of the weight's rows alone, in the order given.

        Raises:
            AdapterError: what this kind does to some rows is not of a known kind.
        """

    def delta(self) -> Array:
        """The change at strength 1, in full, where it does not depend on the weight.

        Raises:
            AdapterError: it does; `applied` is to be used.
        """
        raise AdapterError(f"a change of kind {self.kind} depends on the base's weight", fix="give the base")

    def applied(self, weight: Array, strength: float = 1.0) -> Array:
        """The weight with the change in it; at strength 0 the weight itself."""
        return weight + np.float32(strength) * self.delta().reshape(weight.shape)

    @property
    def bias_change(self) -> Array | None:
        """What is added to the layer's bias at strength 1, (out,), or None."""
        return None

    @property
    def rank(self) -> int | None:
        """The rank of the factors, or None where there are none."""
        return None

    @property
    def parameters(self) -> int:
        """How many numbers define it."""
        return sum(tensor.size for name, tensor in self.tensors.items() if name != "alpha")

    @property
    def proportional(self) -> bool:
        """Whether twice the strength is twice the change."""
        return True

    @property
    def finite(self) -> bool:
        """Whether every value is a number."""
        return all(bool(np.isfinite(tensor).all()) for tensor in self.tensors.values())


@dataclass(frozen=True, eq=False)
class Lora(Change):
    """delta = alpha / rank * up @ down, with LoCon's Tucker core between them where there is one.

    Sources: Hu et al. 2021, arXiv:2106.09685; for convolutions and Tucker cores LyCORIS (Yeh et al. 2023,
    arXiv:2309.14859).
    """

    kind: ClassVar[str] = "LoRA"

    down: Array
    """(rank, in), or (rank, in, kernel height, kernel width); (rank, in) before a Tucker core."""
    up: Array
    """(out, rank), or (out, rank, 1, 1)."""
    alpha: float
    mid: Array | None = None
    """The Tucker core, (rank, rank, kernel height, kernel width)."""
    bias: Array | None = None
    """PEFT's bias of up, (out,)."""

    @property
    def rank(self) -> int:
        """How many channels the change passes through."""
        return int(self.down.shape[0])

    @property
    def scale(self) -> float:
        """What up @ down is multiplied by."""
        return self.alpha / self.rank

    @property
    def shape(self) -> Shape:
        """The shape of the weight that this changes."""
        kernel = self.down.shape[2:] if self.mid is None else self.mid.shape[2:]
        return (int(self.up.shape[0]), int(self.down.shape[1]), *(int(length) for length in kernel))

    @property
    def tensors(self) -> Mapping[str, Array]:
        """As in `Change`."""
        held = {"lora_down.weight": self.down, "lora_up.weight": self.up, "alpha": scalar(self.alpha)}
        if self.mid is not None:
            held["lora_mid.weight"] = self.mid
        if self.bias is not None:
            held["lora_up.bias"] = self.bias
        return held

    def fits(self, weight: Shape) -> bool:
        """As in `Change`."""
        right = self.bias is None or self.bias.shape == weight[:1]
        return right and same_weight(self.shape, weight)

    def rows(self, chosen: NDArray[np.intp]) -> Lora:
        """As in `Change`."""
        bias = None if self.bias is None else self.bias[chosen]
        return Lora(self.down, self.up[chosen], self.alpha, self.mid, bias)

    def delta(self) -> Array:
        """As in `Change`."""
        scale = np.float32(self.scale)
        if self.mid is None:
            product = self.up.reshape(-1, self.rank) @ self.down.reshape(self.rank, -1)
        else:
            product = tucker(self.mid, self.up.reshape(-1, self.rank).T, self.down.reshape(self.rank, -1))
        return np.asarray((scale * product).reshape(self.shape), np.float32)

    @property
    def bias_change(self) -> Array | None:
        """As in `Change`."""
        return None if self.bias is None else np.asarray(np.float32(self.scale) * self.bias, np.float32)

    def without_core(self) -> Lora:
        """The same change as two factors: the core multiplied into down, which gets the kernel."""
        if self.mid is None:
            return self
        core = self.mid.reshape(self.rank, self.rank, -1)
        down = np.einsum("ijk,jr->irk", core, self.down.reshape(self.rank, -1), optimize=True)
        shaped = np.ascontiguousarray(down.reshape(self.rank, self.down.shape[1], *self.mid.shape[2:]), np.float32)
        return Lora(shaped, self.up.reshape(*self.up.shape[:2], 1, 1), self.alpha, None, self.bias)


@dataclass(frozen=True)
class AdapterFile:
    """What an adapter file holds."""

    layers: Mapping[str, Change]
    """By the layer's name."""
    metadata: dict[str, str] = field(default_factory=dict)
    embeddings: dict[str, dict[str, Array]] = field(default_factory=dict)
    """Textual inversions that came with it: word -> part of the base's text ("clip_l", "clip_g") -> (vectors, width)"""
    passed_over: tuple[str, ...] = ()
    """Keys of the file that attach to nothing, where the user asked for the rest."""


def layer_name(part: str, path: str) -> str:
    """The name of a layer, the same whichever version of transformers lays out the text encoder."""
    if part.startswith("text_encoder") and f"{path}.".startswith(FLATTENED_CLIP):
        path = f"text_model.{path}"
    return f"{part}.{path}"


def part_of(name: str) -> str:
    """The part of the model that a layer belongs to: "denoiser", "text_encoder"..."""
    return name.split(".", 1)[0]


def same_weight(changed: Shape, weight: Shape) -> bool:
    """Whether a change of one shape fits a weight of another: a 1 x 1 kernel may be written or left out."""
    return _with_kernel(changed) == _with_kernel(weight)


def scalar(value: float) -> Array:
    """One number as stored."""
    return np.array(value, np.float32)


def tucker(core: Array, first: Array, second: Array) -> Array:
    """A weight from a Tucker core: core (R, R, kernel...), first (R, out), second (R, in) -> (out, in, kernel...)."""
    flat = core.reshape(*core.shape[:2], -1)
    inner = np.einsum("ijk,jr->irk", flat, second, optimize=True)
    product = first.T @ inner.reshape(len(inner), -1)
    return np.asarray(product.reshape(first.shape[1], second.shape[1], *core.shape[2:]), np.float32)


def _with_kernel(shape: Shape) -> Shape:
    return (*shape, 1, 1) if len(shape) == 2 else shape
