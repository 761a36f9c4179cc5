"""Whether a file or folder is a FLUX.1 base, and which, from its settings or its header alone; no weights.

Relatives of FLUX.1 that this family cannot train are refused here, by what they are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from velatura.bases import Variant
from velatura.errors import ModelError
from velatura.families.flux1 import configuration
from velatura.families.flux1.configuration import CLASSES, PARTS, filling
from velatura.settings import INDEX, WEIGHT_ENDINGS
from velatura.weights import parts
from velatura.weights.containers import read_header
from velatura.weights.source import BaseFolder

DEV = Variant("flux1", "flux1", "flux-1-dev")
SCHNELL = Variant("flux1", "flux1", "flux-1-schnell")

DENOISER = PARTS[0]

RELATIVES = {
    "FLUX.2": re.compile(r"(^|\.)double_stream_modulation_img\.lin(ear)?\.weight$"),
    "Chroma": re.compile(r"(^|\.)distilled_guidance_layer\.in_proj\.weight$"),
}
"""What a file is -> a key by which it is told."""

PIPELINES = {"Flux2": "FLUX.2", "Chroma": "Chroma"}
"""How the names of diffusers' pipelines begin -> what the folder is."""


def recognise(source: Path) -> Variant | None:
    """The variant, or None where this is something else. Kontext cannot be told from dev, and is read as dev.

    Raises:
        FileProblem: a file that is cut off or damaged.
        ModelError: FLUX.2, Chroma, or a base for control.
    """
    settings = _file(source) if source.is_file() else _folder(source)
    if settings is None:
        return None
    given, taken = settings.get("out_channels"), settings.get("in_channels")
    if given is not None and taken not in (given, filling(given)):
        raise _refused(f"this is FLUX.1 for control: its denoiser takes {taken} channels, not {given}", source)
    return DEV if settings.get("guidance_embeds", False) else SCHNELL


def _file(path: Path) -> dict[str, Any] | None:
    """What is to be known of the denoiser; None where there is none of this family."""
    if path.suffix.lower() not in WEIGHT_ENDINGS:
        return None
    header = read_header(path)
    if parts.CONFIG in header.metadata:
        told = parts.told(header, path)
        return _dictionary(told.get(DENOISER.folder)) if told["family"] == DEV.family else None
    for name, sign in RELATIVES.items():
        if any(sign.search(key) for key in header.entries):
            raise _refused(f"this is {name}, which has no modulation of its own in each block", path)
    found = parts.find(header, DENOISER)
    return None if found is None else configuration.counted(header, found[0])


def _folder(source: Path) -> dict[str, Any] | None:
    held = BaseFolder(source).known("", INDEX)
    for beginning, name in PIPELINES.items():
        if str(held.get("_class_name", "")).startswith(beginning):
            raise _refused(f"this is {name}, which has no modulation of its own in each block", source)
    for kind in PARTS:
        given = held.get(kind.folder)
        if not isinstance(given, list) or given[-1:] != [CLASSES[kind.name]]:
            return None
    return BaseFolder(source).known(DENOISER.folder)


def _refused(what: str, where: Path) -> ModelError:
    return ModelError(what, where=where, fix="use FLUX.1-dev or FLUX.1-schnell")


def _dictionary(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
