"""The settings of a base's networks: a folder's own, a file's own under `velatura.config`, else the published ones.

No torch here; each family reads what it needs through these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from velatura.bases import Base, kinds
from velatura.weights import parts
from velatura.weights.containers import read_header
from velatura.weights.source import BaseFolder


@dataclass(frozen=True)
class Configuration:
    """The settings of a base's networks and of its noise schedule, as diffusers writes them down."""

    parts: dict[str, dict[str, Any]]
    """By the names of the family's `PARTS`."""
    scheduler: dict[str, Any]

    @property
    def latent_factor(self) -> int:
        """Pixels per latent, in each direction."""
        factor: int = 2 ** (len(self.parts["vae"]["block_out_channels"]) - 1)
        return factor


def settings_of(base: Base, published: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each part's settings: a folder's own, a file's own under `velatura.config`, else the published ones.

    Raises:
        ModelError: they are missing in a folder, or damaged.
    """
    if base.source.is_dir():
        folder = BaseFolder(base.source)
        return {kind.name: folder.config(kind.folder) for kind in kinds(base.variant.family)}
    found = {}
    for kind in kinds(base.variant.family):
        path = base.parts[kind.name].files[0]
        told = parts.told(read_header(path), path)
        settings = told.get(kind.folder) if told else published[kind.name]
        if not isinstance(settings, dict) or not settings:
            raise parts.damaged(path)
        found[kind.name] = dict(settings)
    return found


def scheduler_of(base: Base, published: dict[str, Any]) -> dict[str, Any]:
    """The settings of a base's noise schedule, from the same places.

    Raises:
        ModelError: they are missing in a folder, or damaged.
    """
    if base.source.is_dir():
        return BaseFolder(base.source).config("scheduler", "scheduler_config.json")
    told = parts.told(read_header(base.source), base.source).get("scheduler", published)
    if not isinstance(told, dict):
        raise parts.damaged(base.source)
    return dict(told)
