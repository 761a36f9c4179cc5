"""A base as files in its authors' layout, which ComfyUI reads: all in one, or one for each part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from velatura import tensorfile
from velatura.bases import Base, BaseFiles, locate
from velatura.errors import ModelError
from velatura.families.flux1 import configuration, layout
from velatura.families.flux1.configuration import PARTS
from velatura.files import disk_problems
from velatura.tensorfile import RawTensor
from velatura.text import clip_tokens
from velatura.weights.layouts import Place, stable_diffusion
from velatura.weights.parts import CONFIG

PREFIXES = {
    "denoiser": "model.diffusion_model.",
    "text_encoder": "text_encoders.clip_l.transformer.",
    "text_encoder_2": "text_encoders.t5xxl.transformer.",
    "vae": "vae.",
}
"""Part -> what its keys begin with where all are in one file; a file of its own has no prefix."""


def to_single_file(folder: Path) -> bytes:
    """The whole file of a base that is a diffusers folder; its settings and tokenizers stand in the metadata.

    Raises:
        ModelError: the folder is incomplete, or has a part that the layout has no names for.
    """
    base = locate(BaseFiles(folder))
    tensors = {
        f"{prefix}{key}": tensor for part, prefix in PREFIXES.items() for key, tensor in _part(base, part).items()
    }
    return tensorfile.to_bytes(tensors, _metadata(base))


def to_part_file(folder: Path, part: str) -> bytes:
    """One part of such a base as a file of its own: "denoiser", "text_encoder", "text_encoder_2" or "vae".

    Raises:
        ModelError: the folder is incomplete, or the layout has no names for the part.
    """
    base = locate(BaseFiles(folder))
    return tensorfile.to_bytes(_part(base, part), _metadata(base))


def _part(base: Base, part: str) -> dict[str, RawTensor]:
    """A part's tensors under the names of the authors' layout."""
    held: dict[str, RawTensor] = {}
    for path in base.parts[part].files:
        held |= tensorfile.read(path)[0]
    if part == "text_encoder":
        return {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in held.items()}
    if part == "text_encoder_2":
        return held
    if part == "vae":
        return _laid(held, stable_diffusion.autoencoder(held))
    return _laid(held, layout.transformer({name: tensor.shape for name, tensor in held.items()}))


def _laid(held: Mapping[str, RawTensor], places: Mapping[str, Place]) -> dict[str, RawTensor]:
    """Tensors where their places say: those of a fused one, one below the other."""
    shares: dict[str, list[tuple[Place, RawTensor]]] = {}
    for name, place in places.items():
        shares.setdefault(place.key, []).append((place, held[name]))
    laid = {}
    for key, given in shares.items():
        ordered = [tensor for _, tensor in sorted(given, key=lambda one: one[0].rows or (0, 0))]
        place, first = given[0]
        data = b"".join(bytes(tensor.data) for tensor in ordered)
        if place.halves_swapped:
            data = data[len(data) // 2 :] + data[: len(data) // 2]
        shape = (sum(tensor.shape[0] for tensor in ordered), *first.shape[1:])
        laid[key] = RawTensor(first.dtype, (*shape, 1, 1) if place.pointwise else shape, data)
    return laid


def _metadata(base: Base) -> dict[str, str]:
    told = configuration.read(base)
    settings: dict[str, Any] = {
        "family": base.variant.family,
        **{kind.folder: told.parts[kind.name] for kind in PARTS},
        "scheduler": told.scheduler,
        "tokenizer": clip_tokens.read_vocabulary(base.source / "tokenizer")._asdict(),
        "tokenizer_2": _pieces(base.source / "tokenizer_2" / "tokenizer.json"),
    }
    return {"format": "pt", CONFIG: json.dumps(settings, sort_keys=True, separators=(",", ":"))}


def _pieces(path: Path) -> object:
    if not path.exists():
        raise ModelError("the base lacks tokenizer_2/tokenizer.json", where=path.parent, fix="put the one of T5 there")
    with disk_problems(path):
        text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError as error:
        raise ModelError("the T5 tokenizer is damaged", where=path, fix="fetch it again") from error
