"""Whether a file or folder is a Z-Image base, and which: from its settings, its header and its name; no weights.

Z-Image and Z-Image-Turbo, which was distilled to paint in 8 steps, have the same keys and shapes. So

    a folder    is Turbo where its scheduler's shift is 3, as published; the undistilled base's is 6
    a file      is what its metadata says under `velatura.config` ("variant"); else it is Turbo where its name
                says "turbo", or has "zit" as a word, as it is called for short
    either      is the undistilled base where its name says "de-turbo": Turbo trained until it paints like it again
"""

from __future__ import annotations

import re
from pathlib import Path

from velatura.bases import Variant
from velatura.families.z_image.configuration import PARTS, SHIFTS
from velatura.settings import INDEX, WEIGHT_ENDINGS, base_name
from velatura.weights import parts
from velatura.weights.containers import read_header
from velatura.weights.source import BaseFolder

VARIANTS = {name: Variant("z_image", name, "Z-Image") for name in SHIFTS}

OMNI = "siglip"
"""In the names of what Z-Image-Omni, which is given pictures too, has besides; it is told otherwise."""

NEEDED = {"transformer", "vae", "text_encoder", "tokenizer", "scheduler"}

TURBO = re.compile(r"turbo|(?<![a-z])zit(?![a-z])", re.IGNORECASE)

DE_TURBO = re.compile(r"de[-_ .]?turbo", re.IGNORECASE)


def recognise(source: Path) -> Variant | None:
    """The variant, or None where this is something else.

    Raises:
        FileProblem: a safetensors file that is cut off or damaged.
    """
    return _file(source) if source.is_file() else _folder(source)


def _file(path: Path) -> Variant | None:
    if path.suffix.lower() not in WEIGHT_ENDINGS:
        return None
    header = read_header(path)
    told = parts.told(header, path)
    if told and told["family"] != "z_image":
        return None
    if "variant" in told:
        if told["variant"] not in VARIANTS:
            raise parts.damaged(path)
        return VARIANTS[told["variant"]]
    if any(OMNI in key for key in header.entries):
        return None
    return _variant(path, bool(TURBO.search(path.stem))) if parts.find(header, PARTS[0]) else None


def _folder(source: Path) -> Variant | None:
    held = BaseFolder(source).known("", INDEX)
    if not set(held) >= NEEDED or OMNI in held:
        return None
    classes = [held[part][-1:] if isinstance(held[part], list) else [] for part in ("transformer", "text_encoder")]
    if classes[0] != ["ZImageTransformer2DModel"] or classes[1] not in (["Qwen3Model"], ["Qwen3ForCausalLM"]):
        return None
    shift = BaseFolder(source).known("scheduler", "scheduler_config.json").get("shift")
    return _variant(source, shift == SHIFTS["z_image_turbo"])


def _variant(path: Path, turbo: bool) -> Variant:
    return VARIANTS["z_image_turbo" if turbo and not DE_TURBO.search(base_name(path)) else "z_image"]
