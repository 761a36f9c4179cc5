"""The memory policy of a call: what suits the base and this machine, and what the user asks for."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from velatura import bases
from velatura.bases import FAMILIES, BaseFiles
from velatura.recipe import MemorySettings

if TYPE_CHECKING:
    from torch import nn

    from velatura.controlnets import ControlFiles
    from velatura.weights.policy import Choice
    from velatura.weights.quantise import Kind


def chosen(
    files: BaseFiles, told: MemorySettings, *, task: Literal["train", "paint"], controls: Sequence[ControlFiles] = ()
) -> Choice:
    """The policy for a base, from its headers and from this machine; no weights are read.

    Args:
        files: of the base.
        told: what the user asks for.
        task: what is done with it.
        controls: ControlNets that lie beside it.

    Raises:
        SettingsError: what the user asks for is not possible on this machine.
        MissingExtra: it needs a package that is not installed.
        ModelError: the base is not known, or damaged.
    """
    from velatura.doctor.devices import devices
    from velatura.weights import policy
    from velatura.weights.fit import CONTROLNETS
    from velatura.weights.networks import build
    from velatura.weights.quantise import available

    base = bases.locate(files)
    configuration = importlib.import_module(f"{FAMILIES[base.variant.family]}.configuration")
    settings = configuration.read(base).parts

    @functools.cache
    def empty() -> nn.Module:
        """The denoiser, built without memory."""
        return build(configuration.CLASSES["denoiser"], settings["denoiser"], base.source)

    beside = sum(policy.counted({str(one.path): one.lies for one in controls}).values())
    facts = policy.BaseFacts(
        {**policy.counted(base.parts), **({CONTROLNETS: beside} if beside else {})},
        fp16_overflows=configuration.FP16_OVERFLOWS,
        vae_overflows=bool(settings["vae"].get("force_upcast", False)),
        blocks=lambda: _blocks(empty()),
        packable=lambda kind: _packable(empty(), kind),
    )
    return policy.choose(devices(), facts, told, task=task, quantiser=available())


def _blocks(denoiser: nn.Module) -> list[int]:
    """How many numbers each block is."""
    from velatura.weights.swap import blocks_of

    return [sum(one.numel() for one in block.parameters()) for block in blocks_of(denoiser)]


def _packable(denoiser: nn.Module, kind: Kind) -> float:
    """Share of the numbers that can be quantised."""
    from velatura.weights.quantise import planned

    layers = planned(denoiser.requires_grad_(False), kind)
    packed = sum(one.numel() for name, one in denoiser.named_parameters() if name.removesuffix(".weight") in layers)
    return packed / sum(one.numel() for one in denoiser.parameters())
