"""What a Stable Diffusion XL base consists of, and the sizes of its networks, as diffusers writes them down.

A folder has a file of settings for each part. A single file has none: it is of the published size, or names its
own under `velatura.config` in its metadata. No torch here.

Source: the settings of https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from velatura.bases import Base
from velatura.configuration import Configuration, scheduler_of, settings_of
from velatura.weights import parts
from velatura.weights.containers import read_header
from velatura.weights.parts import PartKind, Sign
from velatura.weights.published import (
    CLIP_L,
    SCALED_LINEAR,
    autoencoder,
    clip_text_encoder,
    marked,
    stable_diffusion_autoencoder,
)
from velatura.weights.source import BaseFolder

PARTS = (
    PartKind(
        "denoiser",
        "unet",
        "denoiser (UNet)",
        (  # told the pooled text and six sizes: 1280 + 6 * 256
            Sign(r"label_emb\.0\.0\.weight", shape=(None, 2816)),
            Sign(r"add_embedding\.linear_1\.weight", "diffusers", (None, 2816)),
        ),
    ),
    clip_text_encoder("text_encoder", "first text encoder (CLIP-L)", width=768),
    clip_text_encoder(
        "text_encoder_2",
        "second text encoder (OpenCLIP bigG)",
        width=1280,
        signs=(Sign(r"transformer\.resblocks\.0\.attn\.in_proj_weight", "openclip", (3840, 1280)),),
    ),
    autoencoder(channels=4),
)

FIRST_LAYER = {"original": "input_blocks.0.0.weight", "diffusers": "conv_in.weight"}
"""Layout -> the weight that tells how many channels the denoiser takes."""

CLASSES = {
    "denoiser": "UNet2DConditionModel",
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "CLIPTextModelWithProjection",
    "vae": "AutoencoderKL",
}

TOKENIZERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
"""Text encoder -> the folder of its tokenizer."""

PADS = {"text_encoder": "<|endoftext|>", "text_encoder_2": "!"}
"""Text encoder -> the token that fills up its chunks: CLIP repeats the end, OpenCLIP takes number 0."""

UNET: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "norm_num_groups": 32,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "down_block_types": ("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
    "up_block_types": (*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"),
}

VAE = {**stable_diffusion_autoencoder(sample_size=1024, scaling_factor=0.13025), "force_upcast": True}

TEXT_ENCODER = CLIP_L

TEXT_ENCODER_2: dict[str, Any] = {
    **TEXT_ENCODER,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "projection_dim": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "pad_token_id": 0,
}
"""That of OpenCLIP ViT-bigG/14."""

PUBLISHED = {"denoiser": UNET, "text_encoder": TEXT_ENCODER, "text_encoder_2": TEXT_ENCODER_2, "vae": VAE}

FP16_OVERFLOWS = False
"""Its denoiser and text encoders stay within what fp16 holds."""


@dataclass(frozen=True)
class SdxlConfiguration(Configuration):
    """The settings of a base's parts."""

    zero_empty: bool = True
    """An empty negative prompt is features of zero."""

    @property
    def resolution(self) -> int:
        """Side of the square that the base was made for, in pixels."""
        return int(self.parts["denoiser"]["sample_size"]) * self.latent_factor


def read(base: Base) -> SdxlConfiguration:
    """The configuration of a folder or of files; what a file says beside the published one is heeded.

    Raises:
        ModelError: a part of it is missing or damaged.
    """
    found, scheduler = settings_of(base, PUBLISHED), scheduler_of(base, SCALED_LINEAR)
    if not base.source.is_dir():
        header = read_header(base.source)
        if not parts.told(header, base.source):
            lies = base.parts["denoiser"]
            first = header.entries.get(lies.prefix + FIRST_LAYER[lies.layout])
            if first is not None and len(first.shape) == 4:  # 9 channels tell an inpainting base
                found["denoiser"]["in_channels"] = first.shape[1]
        return SdxlConfiguration(found, marked(header, scheduler))
    zero_empty = BaseFolder(base.source).config("", "model_index.json").get("force_zeros_for_empty_prompt", True)
    return SdxlConfiguration(found, scheduler, bool(zero_empty))
