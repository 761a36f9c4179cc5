"""What a Stable Diffusion 1.x base consists of, and the sizes of its networks, as diffusers writes them down.

A folder has a file of settings for each part. A single file has none: it is of the published size, or names its
own under `velatura.config` in its metadata. No torch here.
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

PARTS = (
    PartKind(
        "denoiser",
        "unet",
        "denoiser (UNet)",
        (Sign(r"input_blocks\.\d+\.1\.transformer_blocks\.0\.attn2\.to_k\.weight", shape=(None, 768)),),
    ),
    clip_text_encoder("text_encoder", "text encoder (CLIP)", width=768),
    autoencoder(channels=4),
)

CLASSES = {"denoiser": "UNet2DConditionModel", "text_encoder": "CLIPTextModel", "vae": "AutoencoderKL"}

UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "down_block_types": (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
}
"""The denoiser of Stable Diffusion 1.1 to 1.5 and of everything trained from them."""

VAE = stable_diffusion_autoencoder(sample_size=512, scaling_factor=0.18215)

TEXT_ENCODER = CLIP_L

PUBLISHED = {"denoiser": UNET, "text_encoder": TEXT_ENCODER, "vae": VAE}

FP16_OVERFLOWS = False
"""Its denoiser and text encoders stay within what fp16 holds."""


@dataclass(frozen=True)
class Sd15Configuration(Configuration):
    """The settings of a base's parts."""

    @property
    def tiny_autoencoder(self) -> bool:
        """Whether the autoencoder is diffusers' AutoencoderTiny."""
        return self.parts["vae"].get("_class_name") == "AutoencoderTiny"

    @property
    def latent_factor(self) -> int:
        """Pixels per latent, in each direction."""
        levels = "encoder_block_out_channels" if self.tiny_autoencoder else "block_out_channels"
        factor: int = 2 ** (len(self.parts["vae"][levels]) - 1)
        return factor

    @property
    def resolution(self) -> int:
        """Side of the square that the base was made for, in pixels."""
        return int(self.parts["denoiser"]["sample_size"]) * self.latent_factor


def read(base: Base) -> Sd15Configuration:
    """The configuration of a folder or of files; what a file says beside the published one is heeded.

    Raises:
        ModelError: a part of it is missing or damaged.
    """
    found, scheduler = settings_of(base, PUBLISHED), scheduler_of(base, SCALED_LINEAR)
    if base.source.is_dir():
        return Sd15Configuration(found, scheduler)
    header = read_header(base.source)
    if not parts.told(header, base.source):
        first = header.entries.get(f"{base.parts['denoiser'].prefix}input_blocks.0.0.weight")
        if first is not None and len(first.shape) == 4:  # 9 channels tell an inpainting base
            found["denoiser"]["in_channels"] = first.shape[1]
    return Sd15Configuration(found, marked(header, scheduler))
