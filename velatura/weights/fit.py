"""How a base's weights are made to fit: parts in turn, fewer bits, blocks that wait elsewhere.

In this order, each only where what came before is not enough: parts in turn compute the same in the same time but for
loading; 8 bits change the weights by half a percent; blocks that wait cost a copy in every step. The last two are
chosen on graphics cards alone, where the machine's memory is another than the card's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from velatura.doctor.devices import Device
from velatura.errors import SettingsError
from velatura.recipe import MemorySettings
from velatura.weights.quantise import BITSANDBYTES, LARGE, Kind, missing

ROOM = 3 / 4
"""Share of the memory that weights may fill; the rest is for what is computed."""

PACKED_BYTES = {"int8": 8.25 / 8, "int4": 4.5 / 8, "fp8": 1.0, "half": 2.0, "large": 2.0}
"""Of one number."""

PRESENT = 2
"""Swapped blocks that are on the device at a time."""

CONTROLNETS = "controlnets"
"""What ControlNets are called among a base's parts: they are always there, as they are."""

HALF = 2
"""Bytes of a number in 16 bits."""

GIGABYTE = 1e9


@dataclass(frozen=True)
class Sizes:
    """Bytes of a base's weights."""

    parameters: Mapping[str, int]
    """Part -> how many numbers."""
    item: int
    """Bytes of each."""
    vae_item: int
    quantised: Kind | None = None
    packable: float = 1.0
    """Share of the denoiser's that can be quantised."""

    def part(self, name: str) -> float:
        """Bytes of one part."""
        count = self.parameters[name]
        if name == "vae":
            return count * self.vae_item
        if name == CONTROLNETS:
            return count * self.item
        if self.quantised is None or (name != "denoiser" and count < LARGE):
            return count * self.item
        share = self.packable if name == "denoiser" else 1.0
        packed = PACKED_BYTES["int8" if name != "denoiser" and self.quantised == "int4" else self.quantised]
        return count * (share * packed + (1 - share) * self.item)

    @property
    def texts(self) -> float:
        """Of all text encoders."""
        return sum(self.part(name) for name in self.parameters if name.startswith("text_encoder"))

    @property
    def always(self) -> float:
        """Of what does not take turns."""
        return sum(self.part(name) for name in self.parameters if name in ("vae", CONTROLNETS))

    def held(self, *, in_turn: bool) -> float:
        """The most that is in memory at a time."""
        denoiser = self.part("denoiser")
        return self.always + (max(denoiser, self.texts) if in_turn else denoiser + self.texts)


class Facts(Protocol):
    """What this needs to know of a base."""

    @property
    def small(self) -> bool:
        """Whether every machine has room for it."""

    @property
    def blocks(self) -> Callable[[], Sequence[int]]:
        """How many numbers each of the denoiser's blocks is."""

    @property
    def packable(self) -> Callable[[Kind], float]:
        """Share of the denoiser's numbers that can be quantised."""


@dataclass(frozen=True)
class Fit:
    """What is done."""

    in_turn: bool
    quantised: Kind | None
    swapped_blocks: int
    held: int
    """Bytes of weights on the device at a time, at most."""
    reasons: tuple[str, ...]


def fit(device: Device, base: Facts, told: MemorySettings, sizes: Sizes, quantiser: bool) -> Fit:
    """What is asked for, and where nothing is, as little as makes the weights fit.

    Args:
        sizes: nothing quantised.
        quantiser: whether the package is installed that stores weights in fewer bits.

    Raises:
        MissingExtra: it is asked for, and not installed.
        SettingsError: blocks are to be swapped, and there are none.
    """
    room = None if device.total is None or base.small else device.total * ROOM
    roomy = room is None
    reasons = []

    least = sizes.held(in_turn=told.in_turn is not False)
    if told.quantised is not None:
        kind: Kind | None = None if told.quantised == "off" else told.quantised
        if kind in ("half", "large") and sizes.item == HALF:
            raise SettingsError(
                "weights in 16 bits are what this precision has anyway",
                where="memory.quantised",
                fix="set it to off, or memory.precision to fp32",
            )
        if kind in BITSANDBYTES and not quantiser:
            raise missing()
        if kind == "fp8" and device.kind == "mps":
            raise SettingsError(
                "Apple's graphics know no numbers of 8 bits with a point",
                where="memory.quantised",
                fix="use int8, or leave it out",
            )
        stored = {"half": "stored in 16 bits", "large": "of large convolutions stored in 16 bits"}
        reasons += [f"weights {stored.get(kind, f'stored in {kind}')}: asked for"] if kind else []
    elif device.kind == "cuda" and room is not None and least > room:
        kind = "int8" if quantiser else None
        without = '; in 8 bits they are stored with pip install "velatura[quantise]", or without it by fp8'
        asked = "" if quantiser else without
        reasons.append(f"weights {'stored in int8' if kind else 'not quantised'}: {_full(least, device)}{asked}")
    else:
        kind = None
    if kind is not None:
        sizes = replace(sizes, quantised=kind, packable=base.packable(kind))

    together = sizes.held(in_turn=False)
    in_turn = (not roomy and room is not None and together > room) if told.in_turn is None else told.in_turn
    if told.in_turn is not None:
        reasons.append(f"parts in turn {'on' if in_turn else 'off'}: asked for")
    elif in_turn:
        reasons.append(f"parts in turn: all together, {_full(together, device)}")

    held = sizes.held(in_turn=in_turn)
    swapped, why = _swapped(device, base, told, sizes, held - room if room is not None else 0.0)
    reasons += [why] if why else []
    if swapped:
        shares = [count / sum(base.blocks()) for count in base.blocks()]
        resting = sizes.part("denoiser") * (sum(shares[-swapped:]) - sum(shares[-PRESENT:]))
        others = held - sizes.part("denoiser") if not in_turn else sizes.always
        held = max(others + sizes.part("denoiser") - max(resting, 0), sizes.texts + sizes.always if in_turn else 0)
    return Fit(in_turn, kind, swapped, round(held), tuple(reasons))


def _swapped(device: Device, base: Facts, told: MemorySettings, sizes: Sizes, over: float) -> tuple[int, str]:
    """How many blocks wait, and why.

    Args:
        over: bytes that there are too many.
    """
    if told.swapped_blocks == 0 or (told.swapped_blocks is None and (device.kind != "cuda" or over <= 0)):
        return 0, ""
    blocks = base.blocks()
    if told.swapped_blocks is not None:
        if not blocks:
            raise SettingsError(
                "no blocks are known of this denoiser", where="memory.swapped_blocks", fix="set it to 0"
            )
        count, why = min(told.swapped_blocks, len(blocks)), "asked for"
    else:
        item = sizes.part("denoiser") / sizes.parameters["denoiser"]
        count = 0
        while count < len(blocks) and item * (sum(blocks[-count:] if count else ()) - PRESENT * max(blocks)) < over:
            count += 1
        why = f"all in the card's memory, {_full(over + (device.total or 0) * ROOM, device)}"
    if not count:
        return 0, ""
    where = "the machine's memory" if device.kind == "cuda" else "a file of the cache folder"
    return count, f"{count} of the denoiser's {len(blocks)} blocks wait in {where}: {why}"


def _full(size: float, device: Device) -> str:
    return f"the weights would fill {gigabytes(size)} of {gigabytes(device.total or 0)}"


def gigabytes(size: float) -> str:
    """As a person reads it."""
    return f"{size / GIGABYTE:.1f} GB"
