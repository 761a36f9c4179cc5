"""A base as one safetensors file in the original layout, which A1111, ComfyUI and kohya's scripts read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np

from velatura import tensorfile
from velatura.errors import ModelError
from velatura.families.sd15 import configuration
from velatura.families.sd15.configuration import CONFIG, FOLDERS
from velatura.families.sd15.keys import original_names
from velatura.tensorfile import RawTensor
from velatura.text import clip_tokens
from velatura.weights.source import BaseFolder

Precision = Literal["F16", "F32"]


def to_single_file(folder: Path, precision: Precision | None = None) -> bytes:
    """The whole file of a base that is a diffusers folder; its settings and tokenizer stand in the metadata.

    Args:
        precision: what the weights are written in; None: as the folder holds them.

    Raises:
        ModelError: the folder is incomplete, has an autoencoder that the layout has no names for, or a weight
            that is too large for fp16.
    """
    source = BaseFolder(folder)
    told = configuration.read(folder)
    tensors: dict[str, RawTensor] = {}
    for part, place in FOLDERS.items():
        held, _ = tensorfile.read(source.weight_file(place))
        kept = {name: tensor for name, tensor in held.items() if not name.endswith("position_ids")}
        for name, there in original_names(part, kept).items():
            tensor = _in_precision(kept[name], precision, name)
            linear = there.pointwise and len(tensor.shape) == 2
            shape = (*tensor.shape, 1, 1) if linear else tensor.shape
            tensors[there.key] = RawTensor(tensor.dtype, shape, tensor.data)
    settings = {
        **{place: told.parts[part] for part, place in FOLDERS.items()},
        "scheduler": told.scheduler,
        "tokenizer": clip_tokens.read_vocabulary(folder / "tokenizer")._asdict(),
    }
    metadata = {"format": "pt", CONFIG: json.dumps(settings, sort_keys=True, separators=(",", ":"))}
    return tensorfile.to_bytes(tensors, metadata)


def _in_precision(tensor: RawTensor, precision: Precision | None, name: str) -> RawTensor:
    if precision is None or tensor.dtype == precision:
        return tensor
    values = tensorfile.as_float32(tensor)
    if precision == "F32":
        return tensorfile.raw(values)
    if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
        raise ModelError(f"{name} is too large for fp16", fix="write the file in fp32")
    return tensorfile.raw(values.astype(np.float16))
