"""Which family a base model belongs to, and its size: from settings or a file's header alone, without torch.

A family is one package of `velatura.families`, with the same file names in each. Of these,
`recognise` (`recognise(source)`) and `configuration` (`read(source).resolution`) answer here, and
`model` (`FAMILY`) is what `velatura.family` loads.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from velatura.errors import ModelError

FAMILIES = {"sd15": "velatura.families.sd15"}
"""Name of a family -> its package."""


@dataclass(frozen=True)
class Variant:
    """What a base was recognised as."""

    family: str
    name: str
    """The variant as `ss_base_model_version` names it: "sd_v1"..."""
    architecture: str
    """As modelspec names it: "stable-diffusion-v1"..."""


def recognise(source: Path) -> Variant:
    """What a base is; the first family that knows it decides.

    Raises:
        ModelError: none does.
        FileProblem: a safetensors file that is cut off or damaged.
    """
    for package in FAMILIES.values():
        found: Variant | None = importlib.import_module(f"{package}.recognise").recognise(source)
        if found is not None:
            return found
    raise ModelError(
        "this is not a base model that is known here",
        where=source,
        fix=f"known families are {', '.join(FAMILIES)}; a LoRA is given with --lora",
    )


def resolution(source: Path) -> int:
    """Side of the square that a base was made for, in pixels.

    Raises:
        ModelError: no family knows it, or its settings are damaged.
    """
    package = FAMILIES[recognise(source).family]
    side: int = importlib.import_module(f"{package}.configuration").read(source).resolution
    return side
