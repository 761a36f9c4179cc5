"""The memory policy of a call: what suits the base and this machine, and what the user asks for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Literal

from velatura import bases
from velatura.bases import FAMILIES, BaseFiles
from velatura.recipe import MemorySettings

if TYPE_CHECKING:
    from velatura.weights.policy import Choice


def chosen(files: BaseFiles, told: MemorySettings, *, task: Literal["train", "paint"]) -> Choice:
    """The policy for a base, from its headers and from this machine; no weights are read.

    Raises:
        SettingsError: what the user asks for is not possible on this machine.
        ModelError: the base is not known, or damaged.
    """
    from velatura.doctor.devices import devices
    from velatura.weights import policy

    base = bases.locate(files)
    configuration = importlib.import_module(f"{FAMILIES[base.variant.family]}.configuration")
    facts = policy.BaseFacts(
        policy.counted(base.parts),
        fp16_overflows=configuration.FP16_OVERFLOWS,
        vae_overflows=bool(configuration.read(base).parts["vae"].get("force_upcast", False)),
    )
    return policy.choose(devices(), facts, told, task=task)
