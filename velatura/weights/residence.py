"""A base's networks in memory: filled as the policy says, and where parts take turns, emptied and filled again.

A network that is not there keeps its modules, so that adapters can stand beside its layers, and its norms and biases,
which are small and may be changed; every other tensor of it is a stand-in of the right shape, type and device that
takes no memory and reads as NaN. It is filled when it is called. So prompts are encoded first, by the text encoders
alone; when the denoiser is called, they leave and it comes. The autoencoder comes when it is called, and leaves only
when it is told to: pictures are decoded between the denoiser's steps, and it is small.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from velatura.weights.networks import check, copied, count_positions, slots
from velatura.weights.policy import MemoryPolicy
from velatura.weights.quantise import LARGE, Kind, halved, planned, quantise_layer
from velatura.weights.remade import PLAIN, Stored, plain, remake, stored
from velatura.weights.shelf import Shelf
from velatura.weights.swap import Swapped, blocks_of, swap


class Resident:
    """A network that is filled from mapped weights, and can be emptied."""

    def __init__(
        self, part: str, network: nn.Module, weights: Mapping[str, Tensor], policy: MemoryPolicy, *, where: Path
    ) -> None:
        """Nothing is filled yet but norms and biases.

        Raises:
            ModelError: weights are missing, or of another shape.
        """
        network.requires_grad_(False)
        self._network, self._weights, self._device = network, weights, policy.device
        self._dtype = policy.vae_dtype if part == "vae" else policy.dtype
        places = slots(network)
        check(places, weights, part=part, where=where)
        for name, slot in places.items():
            if len(slot.shape) < 2:
                slot.put(copied(weights[name], dtype=self._dtype, device=self._device))
        self._slots = {name: slot for name, slot in places.items() if len(slot.shape) > 1}
        self._packed = _packed(part, network, policy)
        blocks = blocks_of(network) if part == "denoiser" else []
        self._waiting = blocks[len(blocks) - policy.swapped_blocks :] if policy.swapped_blocks else []
        self._shelved = {
            layer
            for block in self._waiting
            for layer in block.modules()
            if policy.device != "cuda" and isinstance(layer, nn.Linear | nn.Conv2d)
        }
        self._swapped: Swapped | None = None
        count_positions(network, part=part, device=policy.device)
        self.here = True
        self.leave()

    @torch.inference_mode(False)
    @torch.no_grad()
    def arrive(self) -> None:
        """Fill the network, unless it is."""
        if self.here:
            return
        with Shelf() if self._shelved else nullcontext() as shelf:
            self._fill(shelf)
        if self._waiting:
            self._swapped = swap(self._network, self._waiting, len(self._waiting), device=self._device)
        self.here = True

    def _fill(self, shelf: Shelf | None) -> None:
        for name, slot in self._slots.items():
            layer: Any = slot.holder
            if self._packed.get(name) in ("half", "large") and not self._waiting and self._mapped(name):
                remake(layer, halved(self._weights[name], self._dtype), dtype=self._dtype, device=self._device)
                continue
            slot.put(copied(self._weights[name], dtype=self._dtype, device="cpu" if self._waiting else self._device))
            if slot.name != "weight":
                continue
            if name in self._packed:
                quantise_layer(layer, self._packed[name])
            if shelf is not None and layer in self._shelved:
                _shelve(layer, shelf)

    def _mapped(self, name: str) -> bool:
        """Whether the file's own numbers can stand for a weight: in 16 bits, in the memory that computes."""
        return self._device == "cpu" and self._weights[name].dtype in (torch.float16, torch.bfloat16)

    def retype(self, dtype: torch.dtype) -> None:
        """From now on the network's weights are of another type, those that stay among them."""
        self._dtype = dtype
        self._network.to(dtype)

    @torch.inference_mode(False)
    @torch.no_grad()
    def leave(self) -> None:
        """Empty the network, unless it is."""
        if not self.here:
            return
        nothing = torch.full((), torch.nan, dtype=self._dtype, device=self._device)
        for slot in self._slots.values():
            layer: Any = slot.holder
            if stored(layer) is not None:
                plain(layer, nothing)
            slot.put(nothing.expand(slot.shape))
        self._swapped = None
        self.here = False


class Turns:
    """Which parts are in memory, where they take turns."""

    def __init__(self, residents: Mapping[str, Resident], networks: Mapping[str, nn.Module]) -> None:
        """From now on a part that is called is there."""
        self._residents = dict(residents)
        self._handles = [
            called.register_forward_pre_hook(functools.partial(_called, weakref.ref(self), part))
            for part in residents
            for called in _entered(part, networks[part])
        ]

    @property
    def present(self) -> list[str]:
        """The parts that are in memory."""
        return [part for part, resident in self._residents.items() if resident.here]

    def need(self, part: str) -> None:
        """Have a part in memory; text encoders leave for the denoiser and the denoiser for them."""
        for other, resident in self._residents.items():
            if "vae" not in (part, other) and _of_text(other) != _of_text(part):
                resident.leave()
        self._residents[part].arrive()

    def leave(self, part: str) -> None:
        """Have a part out of memory until it is called."""
        self._residents[part].leave()

    def retype(self, part: str, dtype: torch.dtype) -> None:
        """From now on a part comes in another precision."""
        self._residents[part].retype(dtype)

    def end(self) -> None:
        """All parts are there, and stay."""
        for handle in self._handles:
            handle.remove()
        for resident in self._residents.values():
            resident.arrive()


def _called(turns: weakref.ref[Turns], part: str, *_: Any) -> None:
    here = turns()
    if here is not None:
        here.need(part)


def _entered(part: str, network: nn.Module) -> list[nn.Module]:
    """The modules that are called: a network's own, but the parts of an autoencoder, which only encodes and decodes."""
    return list(network.children()) if part == "vae" else [network]


def _of_text(part: str) -> bool:
    return part.startswith("text_encoder")


def _packed(part: str, network: nn.Module, policy: MemoryPolicy) -> dict[str, Any]:
    """The weights that are quantised as soon as they are there, and how; language models never in less than 8 bits."""
    if policy.quantised is None:
        return {}
    if _of_text(part):
        count = sum(parameter.numel() for parameter in network.parameters())
        kind: Kind = "int8" if policy.quantised == "int4" else policy.quantised
        chosen = planned(network, kind) if count >= LARGE else {}
    else:
        chosen = planned(network, policy.quantised) if part == "denoiser" else {}
    return {f"{name}.weight": kind for name, kind in chosen.items()}


def _shelve(layer: nn.Linear | nn.Conv2d, shelf: Shelf) -> None:
    kept = stored(layer)
    if kept is not None:
        kept.tensors = tuple(shelf.put(tensor) for tensor in kept.tensors)
    elif type(layer) in PLAIN:
        resting, dtype, device = (shelf.put(layer.weight),), layer.weight.dtype, layer.weight.device
        remake(layer, Stored(resting, lambda tensors: tensors[0]), dtype=dtype, device=device)
