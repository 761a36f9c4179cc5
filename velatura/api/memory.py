"""The memory policy of a call: what suits the base and this machine, and what the user asks for."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from velatura import bases
from velatura.bases import FAMILIES, BaseFiles
from velatura.recipe import MemorySettings

if TYPE_CHECKING:
    from velatura.weights.policy import Choice


def chosen(files: BaseFiles, told: MemorySettings, *, task: Literal["train", "paint"]) -> Choice:
    """The policy for a base, from its headers and from this machine; no weights are read.

    Raises:
        SettingsError: what the user asks for is not possible on this machine.
        MissingExtra: it needs a package that is not installed.
        ModelError: the base is not known, or damaged.
    """
    from velatura.doctor.devices import devices
    from velatura.weights import policy
    from velatura.weights.quantise import available

    base = bases.locate(files)
    configuration = importlib.import_module(f"{FAMILIES[base.variant.family]}.configuration")
    settings = configuration.read(base).parts
    facts = policy.BaseFacts(
        policy.counted(base.parts),
        fp16_overflows=configuration.FP16_OVERFLOWS,
        vae_overflows=bool(settings["vae"].get("force_upcast", False)),
        blocks=functools.partial(_blocks, configuration.CLASSES["denoiser"], settings["denoiser"], base.source),
    )
    return policy.choose(devices(), facts, told, task=task, quantiser=available())


def _blocks(kind: str, settings: Any, where: Path) -> list[int]:
    """How many numbers each block of a denoiser is; it is built for that, without memory."""
    from velatura.weights.networks import build
    from velatura.weights.swap import blocks_of

    return [sum(one.numel() for one in block.parameters()) for block in blocks_of(build(kind, settings, where))]
