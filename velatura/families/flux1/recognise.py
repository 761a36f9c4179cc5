"""Whether a file or folder is a FLUX.1 base, and which, from its settings or its header alone; no weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from velatura.bases import Variant
from velatura.families.flux1 import configuration
from velatura.families.flux1.configuration import CLASSES, PARTS
from velatura.settings import WEIGHT_ENDINGS
from velatura.weights import parts
from velatura.weights.containers import read_header

DEV = Variant("flux1", "flux1", "flux-1-dev")
SCHNELL = Variant("flux1", "flux1", "flux-1-schnell")


def recognise(source: Path) -> Variant | None:
    """The variant, or None where this is something else. Kontext cannot be told from dev.

    Raises:
        FileProblem: a safetensors file that is cut off or damaged.
    """
    settings = _file(source) if source.is_file() else _folder(source)
    if settings is None:
        return None
    return DEV if settings.get("guidance_embeds", False) else SCHNELL


def _file(path: Path) -> dict[str, Any] | None:
    """What is to be known of the denoiser; None where there is none of this family."""
    if path.suffix.lower() not in WEIGHT_ENDINGS:
        return None
    header = read_header(path)
    if parts.CONFIG in header.metadata:
        told = parts.told(header, path)
        return _dictionary(told.get(PARTS[0].folder)) if told["family"] == DEV.family else None
    found = parts.find(header, PARTS[0])
    return None if found is None else configuration.counted(header, found[0])


def _folder(source: Path) -> dict[str, Any] | None:
    held = _settings(source / "model_index.json")
    for kind in PARTS:
        given = held.get(kind.folder)
        if not isinstance(given, list) or given[-1:] != [CLASSES[kind.name]]:
            return None
    return _settings(source / PARTS[0].folder / "config.json")


def _settings(path: Path) -> dict[str, Any]:
    """A settings file; empty where it is missing or damaged, which loading will tell."""
    try:
        return _dictionary(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _dictionary(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
