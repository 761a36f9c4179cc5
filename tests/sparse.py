"""Files of weights of any size that take no room: their header is written, and the rest is a hole in the disk."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

from velatura.tensorfile import ITEM_BYTES

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> type and shape."""

SD15: Tensors = {
    "model.diffusion_model.input_blocks.0.0.weight": ("F16", (320, 4, 3, 3)),
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": ("F16", (320, 768)),
    "model.diffusion_model.out.2.weight": ("F16", (4, 320, 3, 3)),
    "first_stage_model.decoder.conv_in.weight": ("F32", (512, 4, 3, 3)),
    "first_stage_model.decoder.mid.block_1.conv1.weight": ("F32", (512, 512, 3, 3)),
    "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight": ("F16", (768, 768)),
}
"""What Stable Diffusion 1.5 is known by."""

FLUX: Tensors = {
    "double_blocks.0.img_mod.lin.weight": ("BF16", (18432, 3072)),
    "img_in.weight": ("BF16", (3072, 64)),
    "final_layer.linear.weight": ("BF16", (64, 3072)),
    "guidance_in.in_layer.weight": ("BF16", (3072, 256)),
}
"""What FLUX.1-dev's denoiser is known by."""

CLIP_L: Tensors = {"text_model.encoder.layers.0.self_attn.q_proj.weight": ("F16", (768, 768))}
T5: Tensors = {"encoder.block.0.layer.0.SelfAttention.q.weight": ("F8_E4M3", (4096, 4096))}


def vae(channels: int) -> Tensors:
    """What an autoencoder of so many channels is known by."""
    return {
        "decoder.conv_in.weight": ("F32", (512, channels, 3, 3)),
        "decoder.mid.block_1.conv1.weight": ("F32", (512, 512, 3, 3)),
    }


def write(path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> Path:
    """A safetensors file."""
    places: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (kind, shape) in tensors.items():
        size = ITEM_BYTES[kind] * math.prod(shape)
        places[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(places).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
    return path


def without(tensors: Tensors, prefix: str) -> Tensors:
    """The tensors whose names begin otherwise."""
    return {name: told for name, told in tensors.items() if not name.startswith(prefix)}
