"""Adapters merged into a model's weights, for generation: always from the pristine weights, so nothing drifts.

weight = pristine + sum over adapters of strength * alpha / rank * up @ down, computed in fp32 and
rounded once to the model's type. A layer's bits are a function of its pristine weight and of
the adapters on it in their order, never of what was merged before; another order of the adapters changes
them by fp32 rounding only. Without adapters, or at strength 0, the weight is the pristine one bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from velatura.adapters.layers import BaseLayer, find
from velatura.adapters.weights import LayerWeights, part_of
from velatura.errors import AdapterError, ModelError

MERGED = "merged_adapters"
"""The attribute in which a layer remembers what is merged into it."""

Change = tuple[LayerWeights, float]
"""One adapter's weights on a layer, and its strength there."""


@dataclass(frozen=True)
class Applied:
    """An adapter in use."""

    layers: Mapping[str, LayerWeights]
    denoiser_strength: float
    text_strength: float

    def strength(self, name: str) -> float:
        """The strength on one layer."""
        return self.text_strength if part_of(name).startswith("text_encoder") else self.denoiser_strength


def merge(parts: Mapping[str, nn.Module], pristine: Mapping[str, Tensor], uses: Sequence[Applied]) -> list[str]:
    """Make the model's weights the pristine ones with these adapters, and no others, merged in.

    Only layers whose adapters or strengths changed since the last call are written, each in one pass.

    Args:
        parts: the model, by part.
        pristine: "<layer name>.weight" -> the weight as its file holds it, any type, mapped or not.
        uses: adapters in order. An adapter object must not be changed after use.

    Returns:
        The layers that were written.

    Raises:
        AdapterError: an adapter does not fit the model; nothing was written.
        ModelError: the pristine weight of a layer is missing or not the model's; nothing was written.
    """
    known = find(parts)
    wanted = changes(known, uses)
    stale = [name for name, layer in known.items() if vars(layer).get(MERGED, ()) != wanted.get(name, ())]
    for name in stale:
        source = pristine.get(f"{name}.weight")
        if source is None or source.numel() != known[name].weight.numel():
            raise ModelError(f"the base's own weight of {name} is not at hand", fix="load the base again")
        if source.data_ptr() == known[name].weight.data_ptr():
            raise ValueError(f"the pristine weight of {name} is the model's own tensor, which merging overwrites")
    for name in stale:
        told = wanted.get(name, ())
        vars(known[name])[MERGED] = None  # unlike any tuple: written anew should this be cut short
        _write(known[name].weight.detach(), pristine[f"{name}.weight"], told)
        vars(known[name])[MERGED] = told
    return stale


def changes(known: Mapping[str, BaseLayer], uses: Sequence[Applied]) -> dict[str, tuple[Change, ...]]:
    """For every layer what adapters change of it; strength 0 is nothing at all.

    Raises:
        AdapterError: an adapter does not fit the model.
    """
    wanted: dict[str, tuple[Change, ...]] = {}
    for use in uses:
        for name, weights in use.layers.items():
            strength = use.strength(name)
            if strength == 0:
                continue
            if name not in known:
                raise AdapterError(f"this base has no layer {name}", fix="use the base that the adapter was made for")
            shape = tuple(known[name].weight.shape)
            if weights.shape != shape:
                raise AdapterError(f"{name} is {shape} in this base, the adapter's is {weights.shape}")
            wanted[name] = (*wanted.get(name, ()), (weights, strength))
    return wanted


@torch.no_grad()
def _write(weight: Tensor, source: Tensor, told: Sequence[Change]) -> None:
    if not told:
        weight.copy_(source.reshape(weight.shape))
        return
    # A convolution is the same product: its up is 1x1, so (out, rank) @ (rank, in * kernel) is its delta.
    start = source.reshape(weight.shape).to(weight.device, torch.float32).flatten(1)
    in_place = weight.dtype == torch.float32 and weight.is_contiguous()
    total = weight.flatten(1) if in_place else torch.empty_like(start)
    for index, (layer, strength) in enumerate(told):
        up = torch.from_numpy(layer.up).to(weight.device).flatten(1)
        down = torch.from_numpy(layer.down).to(weight.device).flatten(1)
        torch.addmm(total if index else start, up, down, alpha=strength * layer.scale, out=total)
    if not in_place:
        weight.copy_(total.view(weight.shape))
