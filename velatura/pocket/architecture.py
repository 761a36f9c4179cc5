"""The pocket base's networks: Stable Diffusion 1.x at a size that two CPU cores can train.

The classes are the ones that the full-size model uses (diffusers' UNet2DConditionModel and
AutoencoderKL, transformers' CLIPTextModel); only the numbers are smaller. Two differences in kind:
the latents have 16 channels instead of 4, because fine lines do not survive in fewer, and attention
stands on the two lower levels instead of the three upper ones, because at 16 x 16 latents the
upper level is where the time goes.

Vocabulary, tokenizer, resolution and these numbers are frozen with the first published weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel

RESOLUTION = 128
"""Pixels, width and height."""
LATENT_CHANNELS = 16
LATENT_SIDE = RESOLUTION // 8
TOKENS = 77
"""Length of an encoded caption, start and end included, as in CLIP."""
VOCABULARY = 1024

DENOISER: dict[str, Any] = {
    "sample_size": LATENT_SIDE,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "block_out_channels": (64, 96, 160),
    "layers_per_block": 1,
    "cross_attention_dim": 128,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}

AUTOENCODER: dict[str, Any] = {
    "sample_size": RESOLUTION,
    "block_out_channels": (24, 48, 96, 128),
    "layers_per_block": 1,
    "latent_channels": LATENT_CHANNELS,
    "norm_num_groups": 8,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}

TEXT_ENCODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": TOKENS,
    "projection_dim": 128,
    "bos_token_id": VOCABULARY - 2,
    "eos_token_id": VOCABULARY - 1,
    "pad_token_id": VOCABULARY - 1,
}

SCHEDULER: dict[str, Any] = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}
"""The noise schedule of Stable Diffusion 1.x, as diffusers writes it down."""


def build_denoiser() -> UNet2DConditionModel:
    """A UNet with fresh weights."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return UNet2DConditionModel(**DENOISER)


def build_autoencoder() -> AutoencoderKL:
    """An autoencoder with fresh weights."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return AutoencoderKL(**AUTOENCODER)


def build_text_encoder() -> CLIPTextModel:
    """A text encoder with fresh weights."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**TEXT_ENCODER))
