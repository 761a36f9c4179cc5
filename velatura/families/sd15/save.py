"""A base as one safetensors file in the original layout, which A1111, ComfyUI and kohya's scripts read."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np

from velatura import tensorfile
from velatura.bases import BaseFiles, locate
from velatura.errors import ModelError
from velatura.families.sd15 import configuration
from velatura.families.sd15.configuration import PARTS
from velatura.tensorfile import RawTensor
from velatura.text import clip_tokens
from velatura.weights.layouts import Place, stable_diffusion
from velatura.weights.parts import CONFIG

Precision = Literal["F16", "F32"]

PREFIXES = {
    "denoiser": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "cond_stage_model.transformer.",
}
"""Part -> what its keys begin with."""


def to_single_file(folder: Path, precision: Precision | None = None) -> bytes:
    """The whole file of a base that is a diffusers folder; its settings and tokenizer stand in the metadata.

    Args:
        precision: what the weights are written in; None: as the folder holds them.

    Raises:
        ModelError: the folder is incomplete, has an autoencoder that the layout has no names for, or a weight
            that is too large for fp16.
    """
    base = locate(BaseFiles(folder))
    told = configuration.read(base)
    tensors: dict[str, RawTensor] = {}
    for part, prefix in PREFIXES.items():
        held: dict[str, RawTensor] = {}
        for path in base.parts[part].files:
            held |= tensorfile.read(path)[0]
        kept = {name: tensor for name, tensor in held.items() if not name.endswith("position_ids")}
        for name, there in _original(part, kept).items():
            tensor = _in_precision(kept[name], precision, name)
            linear = there.pointwise and len(tensor.shape) == 2
            shape = (*tensor.shape, 1, 1) if linear else tensor.shape
            tensors[f"{prefix}{there.key}"] = RawTensor(tensor.dtype, shape, tensor.data)
    settings = {
        "family": base.variant.family,
        **{kind.folder: told.parts[kind.name] for kind in PARTS},
        "scheduler": told.scheduler,
        "tokenizer": clip_tokens.read_vocabulary(folder / "tokenizer")._asdict(),
    }
    metadata = {"format": "pt", CONFIG: json.dumps(settings, sort_keys=True, separators=(",", ":"))}
    return tensorfile.to_bytes(tensors, metadata)


def _original(part: str, names: Collection[str]) -> dict[str, Place]:
    """Name in the folder, of any year -> where it lies in the file."""
    if part == "denoiser":
        return stable_diffusion.unet(names)
    if part == "vae":
        return stable_diffusion.autoencoder(names)
    return {name: Place(f"text_model.{name.removeprefix('text_model.')}") for name in names}


def _in_precision(tensor: RawTensor, precision: Precision | None, name: str) -> RawTensor:
    if precision is None or tensor.dtype == precision:
        return tensor
    values = tensorfile.as_float32(tensor)
    if precision == "F32":
        return tensorfile.raw(values)
    if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
        raise ModelError(f"{name} is too large for fp16", fix="write the file in fp32")
    return tensorfile.raw(values.astype(np.float16))
