"""Whether a file or folder is a Stable Diffusion XL base, from its settings or its header alone; no weights.

Relatives of SDXL that this family cannot train are refused here, by what they are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from velatura.bases import Variant
from velatura.errors import ModelError
from velatura.families.sdxl.configuration import FIRST_LAYER, PARTS
from velatura.settings import INDEX, WEIGHT_ENDINGS
from velatura.tensorfile import Header
from velatura.weights import parts
from velatura.weights.containers import read_header
from velatura.weights.source import BaseFolder

VARIANT = Variant("sdxl", "sdxl_base_v1-0", "stable-diffusion-xl-v1-base")

PIPELINE = "StableDiffusionXL"
"""How the names of diffusers' pipelines for it and its relatives begin."""

NEEDED = {"unet", "vae", "text_encoder_2", "tokenizer_2"}

DENOISER = PARTS[0]

REFINER = replace(DENOISER, signs=tuple(sign._replace(shape=(None, 2560)) for sign in DENOISER.signs))
"""The refiner is told an aesthetic score in place of the target size: 1280 + 5 * 256."""

EDM_MARKS = ("edm_mean", "edm_vpred.sigma_max")
"""Keys by which Playground v2.5 and CosXL are known in single files."""

CHANNELS = {
    8: "an SDXL instruct-pix2pix base, which wants the picture to be edited beside the latents",
}


def recognise(source: Path) -> Variant | None:
    """The variant, or None where this is something else.

    Raises:
        FileProblem: a safetensors file that is cut off or damaged.
        ModelError: the refiner, an editing base, or one with noise levels of EDM.
    """
    known = _file(source) if source.is_file() else _folder(source)
    return VARIANT if known else None


def _file(path: Path) -> bool:
    if path.suffix.lower() not in WEIGHT_ENDINGS:
        return False
    header = read_header(path)
    if parts.CONFIG in header.metadata:
        told = parts.told(header, path)
        unet = told.get("unet")
        if told["family"] != VARIANT.family:
            return False
        _check_channels(unet.get("in_channels") if isinstance(unet, dict) else None, path)
        return True
    if parts.find(header, REFINER) is not None:
        raise _refiner(path)
    found = parts.find(header, DENOISER)
    if found is None:
        return False
    if any(mark in header.entries for mark in EDM_MARKS):
        raise _edm(path)
    _check_channels(_channels(header, *found), path)
    return True


def _channels(header: Header, prefix: str, layout: str) -> int | None:
    first = header.entries.get(prefix + FIRST_LAYER[layout])
    return first.shape[1] if first is not None and len(first.shape) == 4 else None


def _folder(source: Path) -> bool:
    held = BaseFolder(source).known("", INDEX)
    if not set(held) >= NEEDED or not str(held.get("_class_name", "")).startswith(PIPELINE):
        return False
    if held.get("text_encoder") in (None, [None, None]):
        raise _refiner(source)
    scheduler = BaseFolder(source).known("scheduler", "scheduler_config.json")
    if str(scheduler.get("_class_name", "")).startswith("EDM"):
        raise _edm(source)
    _check_channels(BaseFolder(source).known("unet").get("in_channels"), source)
    return True


def _check_channels(channels: object, where: Path) -> None:
    """Refuse a denoiser that takes more than latents; what is not told, loading will tell."""
    if channels in (None, 4, 9):  # 9 channels tell an inpainting base
        return
    known = channels if isinstance(channels, int) else 0
    what = CHANNELS.get(known, f"an SDXL base whose denoiser takes {channels} channels instead of 4")
    raise ModelError(f"this is {what}", where=where, fix="use the base that it was made from")


def _refiner(where: Path) -> ModelError:
    return ModelError(
        "this is the SDXL refiner, which has one text encoder and only finishes what the base began",
        where=where,
        fix="use the SDXL base",
    )


def _edm(where: Path) -> ModelError:
    return ModelError(
        "this SDXL base was trained on noise levels of EDM's kind (Playground v2.5, CosXL), which are not known here",
        where=where,
        fix="use a base with SDXL's own",
    )
