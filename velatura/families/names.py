"""What a family's adapter files are read and written with, without its networks: no torch.

The key map and the table of layers stand in each family's `keys` and `layers`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from velatura.adapters.formats import KeyMap
from velatura.adapters.signatures import made_for
from velatura.adapters.weights import Shape
from velatura.bases import FAMILIES, Base


def keys(family: str) -> KeyMap:
    """The names of a family's layers, by its name in `bases.FAMILIES`."""
    found: KeyMap = importlib.import_module(f"{FAMILIES[family]}.keys").KEYS
    return found


def layers(family: str, settings: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Shape]:
    """The layers of the family's published networks, or of those with other settings."""
    module = importlib.import_module(f"{FAMILIES[family]}.layers")
    found: dict[str, Shape] = module.layers() if settings is None else module.layers(settings)
    return found


def layers_of(base: Base) -> dict[str, Shape]:
    """The layers of one base, from its headers and settings.

    Raises:
        ModelError: its settings are missing or damaged.
    """
    configuration = importlib.import_module(f"{FAMILIES[base.variant.family]}.configuration")
    return layers(base.variant.family, configuration.read(base).parts)


def told(names: Iterable[str]) -> str | None:
    """The family whose adapter a file's keys name, by its name in `bases.FAMILIES`; None where it is none of these."""
    title = made_for(names)
    return next((family for family in FAMILIES if keys(family).family == title), None)
