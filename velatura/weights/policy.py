"""Where and in which precision a base lives: chosen from facts of machine and base, each choice with its reason.

The choice depends on the machine's memory in all, never on what happens to be free, so that a run is gone on with as
it began; what is free only decides whether the user is warned. No machine is refused for a file's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from velatura.doctor.devices import Device
from velatura.errors import SettingsError
from velatura.recipe import MemorySettings, Precision
from velatura.weights.containers import read_header
from velatura.weights.fit import Sizes, fit, gigabytes
from velatura.weights.parts import PartFiles
from velatura.weights.quantise import Kind

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

SMALL = 500_000_000
"""Bytes in fp32 up to which a base is small: the processor paints with it at once."""

TIGHT = 2
"""Weights that fill more than the machine's memory divided by this leave little room for a picture."""

ROOM_TO_TRAIN = 4
"""Weights that fill more than the machine's memory divided by this leave little room for what gradients need."""


@dataclass(frozen=True)
class MemoryPolicy:
    """Where and in which precision a model lives."""

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    """Of denoiser and text encoders."""
    vae_dtype: torch.dtype = torch.float32
    vae_slicing: bool = False
    """Pictures of a batch go through the autoencoder one by one."""
    vae_tiling: bool = False
    """Pictures larger than the autoencoder was made for go through it in tiles that overlap."""
    checkpointing: bool = False
    """What the denoiser's blocks computed is computed again for the gradients, and not kept."""
    in_turn: bool = False
    """Text encoders leave the memory before the denoiser comes, and the other way round."""
    quantised: Kind | None = None
    """How the frozen weights of the denoiser's layers are stored; a large text encoder's in 8 bits at least."""
    swapped_blocks: int = 0
    """Blocks of the denoiser, the last ones, that wait in the machine's memory until they are needed; where the
    processor or Apple's graphics compute, whose memory that is, in a file of the cache folder."""

    @property
    def merges(self) -> bool:
        """Whether adapters are merged into the weights; beside the layers where rounding the sum would lose of them,
        or the weights are not there to be changed."""
        stored = self.quantised is not None or self.swapped_blocks > 0 or self.in_turn
        return self.dtype != torch.bfloat16 and not stored


@dataclass(frozen=True)
class BaseFacts:
    """What the choice needs to know of a base."""

    parameters: Mapping[str, int]
    """Part -> how many numbers its weights are; with `fit.CONTROLNETS` those of all that are beside it."""
    fp16_overflows: bool = False
    """Its networks compute numbers that fp16 cannot hold."""
    vae_overflows: bool = False
    """So does its autoencoder."""
    blocks: Callable[[], Sequence[int]] = tuple
    """How many numbers each of the denoiser's blocks is, in the order in which they are computed; asked only where
    blocks must be swapped."""
    packable: Callable[[Kind], float] = lambda kind: 1.0
    """Share of the denoiser's numbers that can be quantised so, less where there are convolutions; asked only then."""

    def size(self, precision: Precision, vae: Precision = "fp32") -> int:
        """Bytes of the weights in these precisions."""
        return sum(
            count * DTYPES[vae if part == "vae" else precision].itemsize for part, count in self.parameters.items()
        )

    @property
    def small(self) -> bool:
        """Whether every machine has memory and time for it."""
        return self.size("fp32") <= SMALL


@dataclass(frozen=True)
class Choice:
    """A policy, and why."""

    policy: MemoryPolicy
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def counted(parts: Mapping[str, PartFiles]) -> dict[str, int]:
    """How many numbers each part's weights are, from the headers of its files."""
    return {
        name: sum(
            math.prod(entry.shape)
            for path in part.files
            for key, entry in read_header(path).entries.items()
            if key.startswith(part.prefix)
        )
        for name, part in parts.items()
    }


def choose(
    devices: Sequence[Device],
    base: BaseFacts,
    told: MemorySettings,
    *,
    task: Literal["train", "paint"],
    quantiser: bool = True,
) -> Choice:
    """The policy for a base on a machine.

    Args:
        devices: what there is, the processor last.
        told: what the user asks for; none: what suits.
        quantiser: whether the package is installed that stores weights in fewer bits.

    Raises:
        SettingsError: what the user asks for is not possible here.
        MissingExtra: it needs the package.
    """
    device, why_device = _device(devices, base, told)
    told = preferred(told, device) if task == "train" else told
    chosen, why_precision = _precision(device, base, told)
    tight = device.total is not None and base.size(chosen) > device.total / TIGHT
    vae, why_vae = _vae_precision(chosen, base, told, tight=tight)
    tiles = tight if told.vae_tiling is None else told.vae_tiling
    fitted = fit(device, base, told, Sizes(base.parameters, DTYPES[chosen].itemsize, DTYPES[vae].itemsize), quantiser)
    again, why_again = _checkpointing(device, fitted.held, base, told, train=task == "train")
    policy = MemoryPolicy(
        device=device.kind,
        dtype=DTYPES[chosen],
        vae_dtype=DTYPES[vae],
        vae_slicing=tiles,
        vae_tiling=tiles,
        checkpointing=again,
        in_turn=fitted.in_turn,
        quantised=fitted.quantised,
        swapped_blocks=fitted.swapped_blocks,
    )
    reasons = [
        f"device {device.kind}: {why_device}",
        f"precision {chosen}: {why_precision}",
        f"precision of the autoencoder {vae}: {why_vae}",
    ]
    if tiles:
        why = "asked for" if told.vae_tiling is not None else "the weights fill more than half the memory"
        reasons.append(f"the autoencoder works on large pictures in tiles: {why}")
    reasons += fitted.reasons
    if task == "train":
        reasons.append(f"gradient checkpointing {'on' if again else 'off'}: {why_again}")
    return Choice(policy, tuple(reasons), tuple(_warnings(device, base, chosen, vae, fitted.held)))


def preferred(told: MemorySettings, device: Device) -> MemorySettings:
    """The settings with what `memory.prefer` leans to, where they are none."""
    if told.prefer is None:
        return told
    lean = told.prefer == "lean"
    halves = device.kind == "cpu" and not device.bf16 and told.precision in (None, "fp32")
    leaning = {
        "checkpointing": lean,
        "in_turn": True,
        "precision": "fp32" if halves else None,
        "quantised": ("half" if lean else "large") if halves else "off",
    }
    return told.model_copy(update={name: to for name, to in leaning.items() if getattr(told, name) is None})


def _device(devices: Sequence[Device], base: BaseFacts, told: MemorySettings) -> tuple[Device, str]:
    known = {one.kind: one for one in devices}
    if told.device is not None:
        if told.device not in known:
            raise SettingsError(
                f"torch can use no {told.device} device on this machine",
                where="memory.device",
                fix=f"leave it out, or use {' or '.join(known)}",
            )
        return known[told.device], "asked for"
    if base.small:
        return known["cpu"], "the base is small, and on the processor a run is the same again, bit for bit"
    chosen = devices[0]
    return chosen, f"this machine has {chosen.title}" if len(devices) > 1 else "there is no other"


def _precision(device: Device, base: BaseFacts, told: MemorySettings) -> tuple[Precision, str]:
    if told.precision is not None:
        if told.precision == "bf16" and device.kind == "mps" and not device.bf16:
            raise SettingsError(
                "Apple's graphics know bf16 from macOS 14 on", where="memory.precision", fix="use fp32, or fp16"
            )
        return told.precision, "asked for"
    if base.small:
        return "fp32", "the base is small"
    if device.bf16:
        return "bf16", f"{device.title} computes in it, and weights take half the memory; what is trained stays fp32"
    if device.kind != "cuda":
        return "fp32", f"{device.title} does not compute in bf16 itself"
    if base.fp16_overflows:
        return "fp32", f"{device.title} does not compute in bf16 itself, and fp16 cannot hold this base's numbers"
    return "fp16", f"{device.title} does not compute in bf16 itself, and weights take half the memory"


def _vae_precision(
    precision: Precision, base: BaseFacts, told: MemorySettings, *, tight: bool
) -> tuple[Precision, str]:
    if told.vae_precision is not None:
        return told.vae_precision, "asked for"
    if not tight or precision == "fp32":
        return "fp32", "it is small, and its rounding shows in every picture"
    if precision == "fp16" and base.vae_overflows:
        return "fp32", "fp16 cannot hold its numbers"
    return precision, "the weights fill more than half the memory"


def _checkpointing(
    device: Device, size: int, base: BaseFacts, told: MemorySettings, *, train: bool
) -> tuple[bool, str]:
    if not train:
        return False, "nothing is trained"
    if told.checkpointing is not None:
        return told.checkpointing, "asked for"
    if base.small or device.total is None or size <= device.total / ROOM_TO_TRAIN:
        return False, "there is room for what gradients need"
    return True, f"the weights fill more than a quarter of the memory; {gigabytes(size)} of {gigabytes(device.total)}"


def _warnings(device: Device, base: BaseFacts, precision: Precision, vae: Precision, size: int) -> list[str]:
    found = []
    if device.free is not None and size > device.free:
        found.append(
            f"the base's weights come to {gigabytes(size)} at a time, in {precision}, and {gigabytes(device.free)}"
            f" are free on {device.title}; close other programs, or set memory.in_turn, memory.quantised or"
            " memory.swapped_blocks"
        )
    if precision == "bf16" and not device.bf16:
        found.append(f"{device.title} does not compute in bf16 itself: it saves memory and takes longer")
    if precision == "fp16" and base.fp16_overflows:
        found.append("fp16 cannot hold all numbers of this base; use bf16 or fp32 where pictures or losses break down")
    if vae == "fp16" and base.vae_overflows:
        found.append("this base's autoencoder overflows in fp16; it then goes on in fp32")
    return found


def precision(dtype: torch.dtype) -> Precision:
    """A type of torch's as recipes name it."""
    return next(name for name, one in DTYPES.items() if one == dtype)


def written(policy: MemoryPolicy) -> MemorySettings:
    """The policy as a recipe says it."""
    return MemorySettings(
        device=policy.device,  # type: ignore[arg-type]
        precision=precision(policy.dtype),
        vae_precision=precision(policy.vae_dtype),
        vae_tiling=policy.vae_tiling,
        checkpointing=policy.checkpointing,
        in_turn=policy.in_turn,
        quantised=policy.quantised or "off",
        swapped_blocks=policy.swapped_blocks,
    )


def apply(parts: Mapping[str, nn.Module], policy: MemoryPolicy) -> None:
    """Switch on, in networks of diffusers' kind, what the policy asks for."""
    vae: Any = parts["vae"]
    denoiser: Any = parts["denoiser"]
    if policy.vae_slicing:
        vae.enable_slicing()
    if policy.vae_tiling:
        vae.enable_tiling()
    if policy.checkpointing:
        denoiser.enable_gradient_checkpointing()
