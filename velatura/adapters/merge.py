"""Adapters merged into a model's weights, for generation: always from the pristine weights, so nothing drifts.

weight = pristine + sum over adapters of what each makes of the pristine weight at its strength, computed in fp32
and rounded once to the model's type. For LoRAs that is strength * alpha / rank * up @ down, and all on one layer are
one product. A layer's bits are a function of its pristine weight and of the adapters on it in their order, never
of what was merged before; another order of the adapters changes them by fp32 rounding only. Without adapters, or at
strength 0, the weight is the pristine one bit for bit.

Every adapter changes the base and not another's result: what a DoRA brings to its length is the base with its own
change, whatever else is merged. (A1111 and ComfyUI apply adapters one after the other there.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from velatura.adapters.kinds import Full, plain
from velatura.adapters.layers import BaseLayer, changeable, weight
from velatura.adapters.weights import Array, Change, Lora, part_of
from velatura.errors import AdapterError, ModelError

MERGED = "merged_adapters"
"""The attribute in which a layer remembers what is merged into it."""

CACHED = 1 << 20
"""Bytes of a weight that are worked on at a time by each thread: half of a core's second cache, or less."""

Told = tuple[Change, float]
"""One adapter's change of a layer, and its strength there."""


@dataclass(frozen=True)
class Applied:
    """An adapter in use."""

    layers: Mapping[str, Change]
    denoiser_strength: float
    text_strength: float
    blocks: Mapping[str, float] = field(default_factory=dict)
    """Layer -> what the strength is multiplied by there; layers that are not named, by 1."""
    name: str = ""
    """By which `Beside.strengths` knows it."""
    start: int | None = None
    """The first sampling step in which it acts on the denoiser, from 1; None: from the first on."""
    stop: int | None = None
    """The last one; None: to the end."""

    def strength(self, name: str) -> float:
        """The strength on one layer."""
        own = self.text_strength if part_of(name).startswith("text_encoder") else self.denoiser_strength
        return own * self.blocks.get(name, 1.0)


def merge(parts: Mapping[str, nn.Module], pristine: Mapping[str, Tensor], uses: Sequence[Applied]) -> list[str]:
    """Make the model's weights the pristine ones with these adapters, and no others, merged in.

    Only layers whose adapters or strengths changed since the last call are written, each in one pass.

    Args:
        parts: the model, by part.
        pristine: "<layer name>.weight", and ".bias" where adapters change it -> the tensor as its file holds it, any
            type, mapped or not.
        uses: adapters in order. An adapter object must not be changed after use.

    Returns:
        The layers that were written.

    Raises:
        AdapterError: an adapter does not fit the model; nothing was written.
        ModelError: the pristine weight of a layer is missing or not the model's; nothing was written.
    """
    known = changeable(parts)
    wanted = changes(known, uses)
    stale = [name for name, layer in known.items() if vars(layer).get(MERGED, ()) != wanted.get(name, ())]
    biased = {name for name in stale if _changes_bias((*(vars(known[name]).get(MERGED) or ()), *wanted.get(name, ())))}
    weighed = {name for name in stale if _changes_weight(vars(known[name]).get(MERGED, ()), wanted.get(name, ()))}
    for name in stale:
        if name in weighed:
            _check(f"{name}.weight", weight(known[name]), pristine)
        if name in biased:
            _check(f"{name}.bias", _bias(known[name], name), pristine)
    for name in stale:
        layer, told = known[name], wanted.get(name, ())
        vars(layer)[MERGED] = None  # unlike any tuple: written anew should this be cut short
        if name in weighed:
            _write(weight(layer).detach(), pristine[f"{name}.weight"], told)
        if name in biased:
            _write_bias(_bias(layer, name).detach(), pristine[f"{name}.bias"], told)
        vars(layer)[MERGED] = told
    return stale


def changes(
    known: Mapping[str, BaseLayer] | Mapping[str, nn.Module], uses: Sequence[Applied]
) -> dict[str, tuple[Told, ...]]:
    """For every layer what adapters change of it; strength 0 is nothing at all.

    Raises:
        AdapterError: an adapter does not fit the model.
    """
    wanted: dict[str, tuple[Told, ...]] = {}
    for use in uses:
        for name, change in use.layers.items():
            strength = use.strength(name)
            if strength == 0:
                continue
            if name not in known:
                raise AdapterError(f"this base has no layer {name}", fix="use the base that the adapter was made for")
            shape = tuple(weight(known[name]).shape)
            if not change.fits(shape):
                theirs = getattr(change, "shape", None)
                about = f"the adapter's is {theirs}" if theirs is not None else "the adapter's is of another size"
                raise AdapterError(f"{name} is {shape} in this base, {about}")
            if change.bias_change is not None and known[name].bias is None:
                raise AdapterError(f"the adapter changes the bias of {name}, and this base has none there")
            wanted[name] = (*wanted.get(name, ()), (change, strength))
    return wanted


def _check(key: str, own: Tensor, pristine: Mapping[str, Tensor]) -> None:
    source = pristine.get(key)
    if source is None or source.numel() != own.numel():
        path, _, kind = key.rpartition(".")
        raise ModelError(f"the base's own {kind} of {path} is not at hand", fix="load the base again")
    if source.data_ptr() == own.data_ptr():
        raise ValueError(f"the pristine {key} is the model's own tensor, which merging overwrites")


def _changes_weight(before: Sequence[Told] | None, told: Sequence[Told]) -> bool:
    """Whether the weight is another than before; a weight that is stored elsewhere cannot be written, only its bias."""
    if before is None:  # a merge that was cut short
        return True
    return any(not (isinstance(change, Full) and change.weight is None) for change, _ in (*before, *told))


def _changes_bias(told: Sequence[Told]) -> bool:
    return any(change.bias_change is not None for change, _ in told)


def _bias(layer: nn.Module, name: str) -> Tensor:
    held = layer.bias
    if not isinstance(held, Tensor):
        raise AdapterError(f"an adapter changes the bias of {name}, and this base has none there")
    return held


@torch.no_grad()
def _write(weight: Tensor, source: Tensor, told: Sequence[Told]) -> None:
    start = source.reshape(weight.shape)
    if not told:
        weight.copy_(start)
        return
    loras = [(lora, strength) for change, strength in told if (lora := plain(change)) is not None]
    others = [(change, strength) for change, strength in told if not isinstance(change, Lora)]
    if not others:
        _write_sum(weight, start, *_together(loras, weight.device))
        return
    start = start.to(weight.device, torch.float32)
    total = start
    if loras:
        total = torch.addmm(start.flatten(1), *_together(loras, weight.device)).view(start.shape)
    for change, strength in others:
        total = total + _difference(change, start, strength)
    weight.copy_(total)


def _write_sum(weight: Tensor, start: Tensor, up: Tensor, down: Tensor) -> None:
    """weight = start + up @ down, in fp32 and rounded once.

    On a processor so few rows at a time that they stay in its cache between the copy and the product. A convolution
    is the same product: its up is 1x1, so (out, rank) @ (rank, in * kernel) is its delta.
    """
    in_place = weight.dtype == torch.float32 and weight.is_contiguous()
    rows = len(weight)
    if weight.device.type == "cpu":
        rows = max(1, CACHED * torch.get_num_threads() // (4 * down.shape[1]))
    for first in range(0, len(weight), rows):
        part = slice(first, first + rows)
        into = weight[part]
        total = into if in_place else torch.empty(into.shape, dtype=torch.float32, device=weight.device)
        total.copy_(start[part])
        total.flatten(1).addmm_(up[part], down)
        if not in_place:
            into.copy_(total)


def _together(loras: Sequence[tuple[Lora, float]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Several LoRAs as one of their ranks' sum: (out, ranks) with the strengths in it, and (ranks, in * kernel)."""
    ups = [torch.from_numpy(lora.up).to(device).flatten(1) * (strength * lora.scale) for lora, strength in loras]
    downs = [torch.from_numpy(lora.down).to(device).flatten(1) for lora, _ in loras]
    return (ups[0], downs[0]) if len(loras) == 1 else (torch.cat(ups, dim=1), torch.cat(downs))


def _difference(change: Change, start: Tensor, strength: float) -> Tensor:
    """What another kind changes of the pristine weight."""
    held: Array = start.cpu().numpy()
    return torch.from_numpy(change.applied(held, strength) - held).to(start.device)


@torch.no_grad()
def _write_bias(bias: Tensor, source: Tensor, told: Sequence[Told]) -> None:
    if not _changes_bias(told):
        bias.copy_(source)
        return
    total = source.to(bias.device, torch.float32)
    for change, strength in told:
        if change.bias_change is not None:
            total = total + strength * torch.from_numpy(change.bias_change).to(bias.device)
    bias.copy_(total)
