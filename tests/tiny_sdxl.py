"""A tiny Stable Diffusion XL: as a diffusers folder, and as one file in its authors' layout.

Its projections are not square, so that one that lies the other way round must show.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests import tiny
from velatura import tensorfile
from velatura.bases import BaseFiles, locate
from velatura.families.sdxl import configuration
from velatura.families.sdxl.configuration import PARTS, TOKENIZERS
from velatura.pocket import tokenizer
from velatura.text import clip_tokens
from velatura.weights.layouts import Place, clip, stable_diffusion
from velatura.weights.parts import CONFIG

if TYPE_CHECKING:
    from torch import Tensor

UNET: dict[str, Any] = {
    "sample_size": tiny.SIDE // 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (8, 8, 16),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 2),
    "cross_attention_dim": 24 + 40,
    "attention_head_dim": (2, 2, 4),
    "use_linear_projection": True,
    "norm_num_groups": 4,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 16 + 6 * 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}

TEXT: dict[str, Any] = {**tiny.TEXT, "num_hidden_layers": 3, "hidden_act": "quick_gelu"}

TEXT_2: dict[str, Any] = {
    **TEXT,
    "hidden_size": 40,
    "intermediate_size": 56,
    "num_attention_heads": 4,
    "projection_dim": 16,
    "hidden_act": "gelu",
    "pad_token_id": 0,
}

INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "force_zeros_for_empty_prompt": True,
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
}

PREFIXES = {
    "denoiser": "model.diffusion_model.",
    "text_encoder": "conditioner.embedders.0.transformer.",
    "text_encoder_2": "conditioner.embedders.1.model.",
    "vae": "first_stage_model.",
}
"""Part -> what its keys begin with in the authors' layout."""


def sdxl(folder: Path, *, seed: int = 6, **scheduler: Any) -> Path:
    """A diffusers folder, its scheduler's settings changed as told."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

    networks = {
        "unet": UNet2DConditionModel(**UNET),
        "vae": AutoencoderKL(**tiny.VAE),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT)),
        "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig(**TEXT_2)),
    }
    for part, network in networks.items():
        tiny.redraw(network, seed, part)
        network.save_pretrained(folder / part)
    tokenizer.learn(tiny.CAPTIONS, folder / "tokenizer")
    shutil.copytree(folder / "tokenizer", folder / "tokenizer_2")
    for path in ("special_tokens_map.json", "tokenizer_config.json"):
        told = json.loads((folder / "tokenizer_2" / path).read_text(encoding="utf-8"))
        tiny.write_json(folder / "tokenizer_2" / path, {**told, "pad_token": "!"})
    tiny.write_json(folder / "scheduler" / "scheduler_config.json", {**tiny.SCHEDULER, **scheduler})
    tiny.write_json(folder / "model_index.json", INDEX)
    return folder


def original(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Every part's tensors as its authors lay them out, without prefix."""
    from velatura.weights.source import held

    base = locate(BaseFiles(folder))
    return {part: laid_out(held(base.parts[part]), places(part, held(base.parts[part]))) for part in PREFIXES}


def places(part: str, names: Mapping[str, Tensor]) -> dict[str, Place]:
    """Name in a folder -> where it lies in the authors' layout."""
    if part == "denoiser":
        return stable_diffusion.unet(names)
    if part == "vae":
        return stable_diffusion.autoencoder(names)
    if part == "text_encoder_2":
        width = len(next(tensor for name, tensor in names.items() if name.endswith("final_layer_norm.bias")))
        return clip.openclip(names, width)
    return {name: Place(f"text_model.{name.removeprefix('text_model.')}") for name in names}


def laid_out(tensors: Mapping[str, Tensor], where: Mapping[str, Place]) -> dict[str, Tensor]:
    """Tensors put in their places: fused, transposed, as convolutions."""
    import torch

    fused: dict[str, list[tuple[int, Tensor]]] = {}
    for name, place in where.items():
        tensor = tensors[name]
        if place.transposed:
            tensor = tensor.T
        if place.pointwise and tensor.dim() == 2:
            tensor = tensor[:, :, None, None]
        fused.setdefault(place.key, []).append((place.rows[0] if place.rows else 0, tensor))
    return {
        key: torch.cat([tensor for _, tensor in sorted(pieces, key=lambda piece: piece[0])]).contiguous()
        for key, pieces in fused.items()
    }


def single_file(folder: Path) -> bytes:
    """The folder as one file in the authors' layout; its settings and tokenizers stand in the metadata."""
    told = configuration.read(locate(BaseFiles(folder)))
    settings = {
        "family": "sdxl",
        **{kind.folder: told.parts[kind.name] for kind in PARTS},
        "scheduler": told.scheduler,
        **{name: clip_tokens.read_vocabulary(folder / name)._asdict() for name in TOKENIZERS.values()},
    }
    tensors = {
        f"{PREFIXES[part]}{key}": tensorfile.raw(tensor.numpy())
        for part, held in original(folder).items()
        for key, tensor in held.items()
    }
    tensors[f"{PREFIXES['text_encoder_2']}logit_scale"] = tensorfile.raw(np.array(4.6, np.float32))
    return tensorfile.to_bytes(tensors, {CONFIG: json.dumps(settings)})
