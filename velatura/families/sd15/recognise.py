"""Whether a file or folder is a Stable Diffusion 1.x base, from its settings or its header alone; no weights."""

from __future__ import annotations

from pathlib import Path

from velatura.bases import Variant
from velatura.families.sd15.configuration import PARTS
from velatura.settings import INDEX, WEIGHT_ENDINGS
from velatura.weights import parts
from velatura.weights.containers import read_header
from velatura.weights.source import BaseFolder

VARIANT = Variant("sd15", "sd_v1", "stable-diffusion-v1")

NEEDED = {"unet", "vae", "text_encoder", "tokenizer"}

WIDTH_OF_SD2 = 1024
"""Features of Stable Diffusion 2's text encoder, which otherwise is built of the same classes."""

OF_OTHERS = ("conditioner.", "model.diffusion_model.label_emb.", "cond_stage_model.model.")
"""How keys begin in the single files of SDXL and of Stable Diffusion 2."""


def recognise(source: Path) -> Variant | None:
    """The variant, or None where this is something else.

    Raises:
        FileProblem: a safetensors file that is cut off or damaged.
    """
    known = _file(source) if source.is_file() else _folder(source)
    return VARIANT if known else None


def _file(path: Path) -> bool:
    if path.suffix.lower() not in WEIGHT_ENDINGS:
        return False
    header = read_header(path)
    if parts.CONFIG in header.metadata:
        return bool(parts.told(header, path)["family"] == VARIANT.family)
    if any(key.startswith(OF_OTHERS) for key in header.entries):
        return False
    return parts.find(header, PARTS[0]) is not None


def _folder(source: Path) -> bool:
    held = BaseFolder(source).known("", INDEX)
    if not set(held) >= NEEDED or "text_encoder_2" in held:
        return False
    text_encoder = held["text_encoder"]
    if not isinstance(text_encoder, list) or text_encoder[-1:] != ["CLIPTextModel"]:
        return False
    width = BaseFolder(source).known("unet").get("cross_attention_dim")
    return bool(width != WIDTH_OF_SD2)
