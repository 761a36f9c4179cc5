"""An adapter as data: for each layer of the base a low-rank change, named as the base names its layers.

A layer's name is the part of the model and the path of the module in it, as diffusers and
transformers call them: "denoiser.mid_block.attentions.0.proj_in",
"text_encoder.text_model.encoder.layers.0.self_attn.q_proj".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]
"""A layer's weight: (out, in) of a linear layer, (out, in, kernel height, kernel width) of a convolution."""

FLATTENED_CLIP = ("encoder.layers.", "embeddings.", "final_layer_norm.")
"""How paths in a CLIP text encoder begin where transformers (5.6 and later) leaves out `text_model.`."""


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """One layer's change: delta = alpha / rank * up @ down, fp32."""

    down: NDArray[np.float32]
    """(rank, in), or (rank, in, kernel height, kernel width)."""
    up: NDArray[np.float32]
    """(out, rank), or (out, rank, 1, 1)."""
    alpha: float

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
        return (int(self.up.shape[0]), *(int(length) for length in self.down.shape[1:]))

    @property
    def finite(self) -> bool:
        """Whether every value is a number."""
        return bool(np.isfinite(self.down).all() and np.isfinite(self.up).all() and math.isfinite(self.alpha))

    def delta(self) -> NDArray[np.float32]:
        """The change at strength 1, in full."""
        product = self.up.reshape(-1, self.rank) @ self.down.reshape(self.rank, -1)
        return (np.float32(self.scale) * product).reshape(self.shape)


@dataclass(frozen=True)
class AdapterFile:
    """What an adapter file holds."""

    layers: dict[str, LayerWeights]
    """By the layer's name."""
    metadata: dict[str, str] = field(default_factory=dict)


def layer_name(part: str, path: str) -> str:
    """The name of a layer, the same whichever version of transformers lays out the text encoder."""
    if part.startswith("text_encoder") and path.startswith(FLATTENED_CLIP):
        path = f"text_model.{path}"
    return f"{part}.{path}"


def part_of(name: str) -> str:
    """The part of the model that a layer belongs to: "denoiser", "text_encoder"..."""
    return name.split(".", 1)[0]
