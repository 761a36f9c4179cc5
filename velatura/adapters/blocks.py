"""Strengths of single blocks: lists of weights and their presets, as in the field's `lbw=` in prompts.

A list names no blocks; how many numbers it has tells which are meant (`KeyMap.block_lists`). Layers in blocks that a
list does not name get 0, as in sd-webui-lora-block-weight, whose names and presets these are. `BASE` is the text
encoder.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from velatura.adapters.formats import KeyMap
from velatura.adapters.weights import part_of
from velatura.errors import PromptError
from velatura.weights.layouts import stable_diffusion

SIDES = {"input_blocks": "IN", "middle_block": "M", "output_blocks": "OUT"}


def numbered(letter: str, numbers: Iterable[int]) -> tuple[str, ...]:
    """Names of blocks: "IN", 4 -> "IN04"."""
    return tuple(f"{letter}{number:02}" for number in numbers)


@dataclass(frozen=True)
class UnetKeys(KeyMap):
    """How a family's layers are called whose denoiser is a UNet."""

    lists: tuple[tuple[str, ...], ...] = ()
    """As `KeyMap.block_lists`, the blocks with attention first."""

    @property
    def block_lists(self) -> tuple[tuple[str, ...], ...]:
        """As `KeyMap.block_lists`."""
        return self.lists

    @property
    def block_presets(self) -> Mapping[str, tuple[str, ...]]:
        """As `KeyMap.block_presets`: of the blocks with attention."""
        return unet_presets(self.lists[0])

    def blocks(self, layers: Sequence[str]) -> Mapping[str, str]:
        """As `KeyMap.blocks`."""
        return unet_blocks(layers)


def unet_list(inputs: Iterable[int], outputs: Iterable[int]) -> tuple[str, ...]:
    """A list of blocks in its order."""
    return ("BASE", *numbered("IN", inputs), "M00", *numbered("OUT", outputs))


def unet_presets(blocks: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The presets over a list of blocks: IN, MID and OUT tell the side, S and D its shallow and its deep half.

    For SD 1.x they are those that sd-webui-lora-block-weight comes with, for SDXL those of its page.
    """
    base, middle = "BASE", "M00"
    ins, outs = ([block for block in blocks if block.startswith(side)] for side in ("IN", "OUT"))
    shallow_in, deep_in = ins[: len(ins) // 2], ins[len(ins) // 2 :]
    deep_out, shallow_out = outs[: len(outs) // 2], outs[len(outs) // 2 :]
    return {
        "INS": (base, *shallow_in),
        "IND": (base, *deep_in),
        "INALL": (base, *ins),
        "MID": (base, middle),
        "MIDD": (base, *deep_in, middle, *deep_out),
        "OUTD": (base, *deep_out),
        "OUTS": (base, *shallow_out),
        "OUTALL": (base, *outs),
    }


def unet_blocks(layers: Iterable[str]) -> dict[str, str]:
    """The block of every layer of a UNet and its text encoders; layers outside all blocks are left out."""
    paths = {name.removeprefix("denoiser."): name for name in layers if part_of(name) == "denoiser"}
    found = {name: "BASE" for name in layers if part_of(name) != "denoiser"}
    for path, original in stable_diffusion.layers(paths).items():
        side, _, rest = original.partition(".")
        if side in SIDES:
            number = 0 if side == "middle_block" else int(rest.partition(".")[0])
            found[paths[path]] = f"{SIDES[side]}{number:02}"
    return found


def factors(told: str, *, keys: KeyMap, layers: Sequence[str]) -> dict[str, float]:
    """What the strength is multiplied by on each layer.

    Args:
        told: a preset's name, or numbers with commas between them.
        layers: of the base.

    Raises:
        PromptError: there is no such preset, or no list of so many numbers.
    """
    name = told.strip().upper()
    if name == "ALL":
        return {}
    if name == "NONE":
        return dict.fromkeys(layers, 0.0)
    weights = _preset(name, keys) if name in keys.block_presets else _numbers(told, keys)
    blocks = keys.blocks(layers)
    return {layer: weights.get(blocks.get(layer, ""), 0.0) for layer in layers}


def _preset(name: str, keys: KeyMap) -> dict[str, float]:
    return dict.fromkeys(keys.block_presets[name], 1.0)


def _numbers(told: str, keys: KeyMap) -> Mapping[str, float]:
    counts = " or ".join(str(len(one)) for one in keys.block_lists) or "no"
    presets = ", ".join(("ALL", "NONE", *keys.block_presets))
    fix = f"write {counts} numbers with commas between them, or one of {presets}"
    try:
        numbers = [float(one) for one in told.split(",")]
    except ValueError:
        raise PromptError(f"{told!r} is no list of block weights for {keys.family}", where="lbw", fix=fix) from None
    named = next((one for one in keys.block_lists if len(one) == len(numbers)), None)
    if named is None or not all(math.isfinite(number) for number in numbers):
        raise PromptError(f"there are no {len(numbers)} blocks in {keys.family}", where="lbw", fix=fix)
    return dict(zip(named, numbers, strict=True))
