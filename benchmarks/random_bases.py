"""Bases of random weights at their published size, each one file in its authors' layout.

The file repeats a block of random numbers and is written in one stream, so it takes no memory. FLUX.1 is written as
schnell, all parts in one file as ComfyUI keeps them, with a stand-in of T5's tokenizer beside it.
"""

from __future__ import annotations

import importlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

PREFIXES = {
    "sd15": {
        "denoiser": "model.diffusion_model.",
        "vae": "first_stage_model.",
        "text_encoder": "cond_stage_model.transformer.",
    },
    "sdxl": {
        "denoiser": "model.diffusion_model.",
        "vae": "first_stage_model.",
        "text_encoder": "conditioner.embedders.0.transformer.",
        "text_encoder_2": "conditioner.embedders.1.model.",
    },
    "flux1": {
        "denoiser": "model.diffusion_model.",
        "vae": "vae.",
        "text_encoder": "text_encoders.clip_l.transformer.",
        "text_encoder_2": "text_encoders.t5xxl.transformer.",
    },
}
"""Family -> part -> what its keys begin with in a single file."""

TYPES = {"sd15": "F16", "sdxl": "F16", "flux1": "BF16"}

BLOCK = 1 << 24
"""Bytes of random weights; the file repeats them."""


def settings(family: str) -> dict[str, dict[str, Any]]:
    """Part -> the published settings of its network."""
    told = importlib.import_module(f"velatura.families.{family}.configuration")
    if family == "flux1":
        return {**told.PUBLISHED, "denoiser": {**told.TRANSFORMER, "guidance_embeds": False}}
    sizes = {"denoiser": told.UNET, "vae": told.VAE, "text_encoder": told.TEXT_ENCODER}
    return sizes | ({"text_encoder_2": told.TEXT_ENCODER_2} if family == "sdxl" else {})


def published(family: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor in the file."""
    from velatura.weights.networks import build

    classes = importlib.import_module(f"velatura.families.{family}.configuration").CLASSES
    for part, prefix in PREFIXES[family].items():
        told = settings(family)[part]
        own = build(classes[part], told, Path("published")).state_dict()
        own = {name: tensor for name, tensor in own.items() if not name.endswith("position_ids")}
        fused: dict[str, tuple[int, ...]] = {}
        for name, place in _places(family, part, own, told).items():
            shape = tuple(own[name].shape)
            shape = (*shape, 1, 1) if place.pointwise else shape[::-1] if place.transposed else shape
            rows = max(place.rows[1] if place.rows else shape[0], fused.get(place.key, (0,))[0])
            fused[place.key] = (rows, *shape[1:])
        yield from ((prefix + key, shape) for key, shape in fused.items())


def _places(family: str, part: str, own: Mapping[str, Any], told: Mapping[str, Any]) -> Mapping[str, Any]:
    from velatura.weights.layouts import Place, clip, stable_diffusion

    if part == "vae":
        return stable_diffusion.autoencoder(own)
    if part == "text_encoder":
        return {name: Place(f"text_model.{name.removeprefix('text_model.')}") for name in own}
    if family == "flux1":
        layout = importlib.import_module("velatura.families.flux1.layout")
        if part == "denoiser":
            places: Mapping[str, Any] = layout.transformer({name: tuple(one.shape) for name, one in own.items()})
            return places
        return {name: Place(name) for name in own if name != "encoder.embed_tokens.weight"}
    if part == "denoiser":
        return stable_diffusion.unet(own)
    return clip.openclip(own, width=told["hidden_size"])


def write(path: Path, family: str) -> Path:
    """The file, 2 bytes for each number: 2.1 GB for `sd15`, 6.9 GB for `sdxl`, 33.7 GB for `flux1`."""
    _write(path, dict(published(family)), TYPES[family])
    if family == "flux1":
        _pieces(path.parent / "tokenizer_2", int(settings(family)["text_encoder_2"]["vocab_size"]) - 28)
    return path


def write_folder(folder: Path, family: str, part: str) -> Path:
    """One part as diffusers and transformers keep it: its settings, and its weights under their names."""
    from velatura.weights.networks import build

    told = settings(family)[part]
    kind = importlib.import_module(f"velatura.families.{family}.configuration").CLASSES[part]
    network: Any = build(kind, told, folder)
    folder.mkdir(parents=True, exist_ok=True)
    (network.config.save_pretrained if part.startswith("text_encoder") else network.save_config)(folder)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items() if "position_ids" not in name}
    name = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
    _write(folder / f"{name}.safetensors", shapes, TYPES[family])
    return folder


def _write(path: Path, tensors: Mapping[str, tuple[int, ...]], kind: str) -> None:
    places: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in tensors.items():
        size = 2 * math.prod(shape)
        places[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(places).encode()
    text += b" " * (-len(text) % 8)
    drawn = 0.02 * np.random.default_rng(0).standard_normal(BLOCK // 2, dtype=np.float32)
    halves = drawn.astype(np.float16) if kind == "F16" else (drawn.view(np.uint32) >> 16).astype(np.uint16)
    block = halves.tobytes()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for start in range(0, end, BLOCK):
            file.write(block[: end - start])


def _pieces(folder: Path, count: int) -> None:
    """A tokenizer of T5's kind and size, whose words are letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -6.0), *((one, -7.0) for one in letters)]
    vocabulary += [(f"<piece {number}>", -20.0) for number in range(count - len(vocabulary))]
    special = [
        {"id": place, "content": vocabulary[place][0], "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for place in range(3)
    ]
    after = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
    }
    space = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    told = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": space,
        "post_processor": after,
        "decoder": space,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": vocabulary, "byte_fallback": False},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(told), encoding="utf-8")
