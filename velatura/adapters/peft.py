"""What PEFT says beside the tensors of an adapter: the settings that decide its scale, and folders that hold it.

PEFT writes no alpha into its tensors. diffusers stores PEFT's settings in the file's metadata, each with the part
before it ("unet.lora_alpha"); a PEFT folder has them in `adapter_config.json` beside `adapter_model.safetensors`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velatura import tensorfile
from velatura.errors import AdapterError, FileProblem
from velatura.files import disk_problems
from velatura.settings import PEFT_PARTS, PEFT_SETTINGS
from velatura.tensorfile import RawTensor

SETTINGS = "lora_adapter_metadata"
"""The metadata key under which diffusers stores PEFT's settings, alpha among them."""

TENSORS = "adapter_model.safetensors"

BEFORE = "base_model.model."
"""What PEFT puts before every key of a folder's."""

ALPHA_NAMES = {"LORA": "lora_alpha", "LOHA": "alpha", "LOKR": "alpha"}
"""Kinds of PEFT's that are read -> what it calls alpha in them."""

WITHOUT_ALPHA = {"IA3", "OFT", "BOFT"}
"""The others that are read."""

KEPT = ("peft_type", "lora_alpha", "alpha_pattern", "use_rslora", "r")
KEPT_OF_OFT = ("use_cayley_neumann", "num_cayley_neumann_terms", "coft", "eps")
"""What decides an adapter's change beside its tensors, of the settings that PEFT writes."""


@dataclass(frozen=True)
class Turning:
    """How PEFT makes a turn of an OFT's numbers."""

    terms: int | None
    """As `turned.InputOft` has it."""
    limit: float | None
    """As `turned.skew_of` has it."""


def alpha(metadata: Mapping[str, str], stem: str, rank: int, where: object) -> float:
    """Alpha of a layer without an alpha key: PEFT's settings where there are any, else the rank (scale 1).

    Args:
        rank: of the factors; 0 where there are none, and the scale itself is asked for.
        stem: the layer as diffusers calls it, part first.

    Raises:
        AdapterError: the settings are damaged.
    """
    if SETTINGS not in metadata:
        return float(rank or 1)
    try:
        settings: dict[str, Any] = json.loads(metadata[SETTINGS])
        part, _, path = stem.partition(".")
        patterns: dict[str, float] = settings.get(f"{part}.alpha_pattern") or {}
        found = float(settings.get(f"{part}.lora_alpha", rank or 1))
        for pattern, value in patterns.items():
            if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", path):
                found = float(value)
                break
        if not rank:
            return found / float(settings.get(f"{part}.r", found))
        # rsLoRA divides by the root of the rank instead (Kalajdzievski 2023, arXiv:2312.03732).
        return found * math.sqrt(rank) if settings.get(f"{part}.use_rslora") else found
    except (ValueError, TypeError, AttributeError, ZeroDivisionError, re.error) as error:
        raise AdapterError(f"the settings under {SETTINGS} in this file are damaged", where=where) from error


def turning(metadata: Mapping[str, str], stem: str, where: object) -> Turning | None:
    """How an OFT of PEFT's turns, or None where no settings of an OFT are there: then it is OneTrainer's.

    Args:
        stem: as `alpha` has it.

    Raises:
        AdapterError: the settings are damaged.
    """
    if SETTINGS not in metadata:
        return None
    try:
        settings: dict[str, Any] = json.loads(metadata[SETTINGS])
        part = stem.partition(".")[0]
        if settings.get(f"{part}.peft_type") != "OFT":
            return None
        terms = int(settings.get(f"{part}.num_cayley_neumann_terms", 5))
        series = bool(settings.get(f"{part}.use_cayley_neumann", True))
        if not 0 < terms < 100:
            raise ValueError("a series of no or of too many terms")
        limit = float(settings.get(f"{part}.eps", 6e-5)) if settings.get(f"{part}.coft") else None
        return Turning(terms if series else None, limit)
    except (ValueError, TypeError, AttributeError) as error:
        raise AdapterError(f"the settings under {SETTINGS} in this file are damaged", where=where) from error


def is_folder(path: Path) -> bool:
    """Whether this is a folder that PEFT wrote, or one with such folders in it, one for each part."""
    return bool(_places(path))


def files(path: Path) -> list[Path]:
    """The files of tensors of an adapter: itself, or those of a folder that PEFT wrote."""
    return [place / TENSORS for place in _places(path)] or [path]


def _places(path: Path) -> list[Path]:
    return [place for place in (path, *(path / part for part in PEFT_PARTS)) if (place / PEFT_SETTINGS).is_file()]


def read_folder(path: Path, *, denoiser: str) -> tuple[dict[str, RawTensor], dict[str, str]]:
    """The tensors of a PEFT folder under diffusers' names, and its settings as diffusers stores them.

    Args:
        denoiser: what diffusers calls the family's denoiser, to which a folder of one adapter belongs unless its
            keys or its own name are a text encoder's.

    Raises:
        AdapterError: the settings are missing or damaged, or of a kind that is not read.
        FileProblem: the tensors are missing or damaged.
    """
    tensors: dict[str, RawTensor] = {}
    settings: dict[str, Any] = {}
    for place in _places(path):
        own, _ = _tensors(place)
        part = place.name if place.name in PEFT_PARTS else denoiser
        if part == denoiser and any(".self_attn.q_proj." in key and "encoder.layers." in key for key in own):
            part = "text_encoder"
        for name, value in _settings(place).items():
            settings[f"{part}.{name}"] = value
        tensors |= {f"{part}.{key.removeprefix(BEFORE)}": tensor for key, tensor in own.items()}
    return tensors, {SETTINGS: json.dumps(settings, sort_keys=True)}


def _tensors(place: Path) -> tuple[dict[str, RawTensor], dict[str, str]]:
    if not (place / TENSORS).is_file():
        raise FileProblem(
            f"this PEFT folder has no {TENSORS}", where=place, fix="save the adapter with safetensors, not as a pickle"
        )
    return tensorfile.read(place / TENSORS)


def _settings(place: Path) -> dict[str, Any]:
    file = place / PEFT_SETTINGS
    with disk_problems(file):
        data = file.read_bytes()
    try:
        told = json.loads(data)
        kind = str(told.get("peft_type", "LORA"))
    except (ValueError, AttributeError, RecursionError) as error:
        raise AdapterError("the settings of this PEFT folder are damaged", where=file) from error
    if kind not in ALPHA_NAMES and kind not in WITHOUT_ALPHA:
        raise AdapterError(f"this PEFT folder holds a {kind}, which cannot be read", where=file)
    if kind in ALPHA_NAMES and "r" in told:
        told["lora_alpha"] = told.get(ALPHA_NAMES[kind], told["r"])
    kept = (*KEPT, *KEPT_OF_OFT) if kind == "OFT" else KEPT
    return {name: told[name] for name in kept if name in told}
