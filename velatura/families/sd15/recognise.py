"""Whether a file or folder is a Stable Diffusion 1.x base, from its settings alone; no torch."""

from __future__ import annotations

import json
from pathlib import Path

from velatura.family import Variant

VARIANT = Variant("sd15", "sd_v1", "stable-diffusion-v1")


def recognise(source: Path) -> Variant | None:
    """The variant, or None where this is something else."""
    index = source / "model_index.json"
    if not index.is_file():
        return None
    try:
        parts = json.loads(index.read_text(encoding="utf-8"))
    except ValueError:
        return None
    known = {"unet", "vae", "text_encoder", "tokenizer"} <= set(parts) and "text_encoder_2" not in parts
    text_encoder = parts.get("text_encoder") or [None, None]
    return VARIANT if known and text_encoder[1] == "CLIPTextModel" else None
