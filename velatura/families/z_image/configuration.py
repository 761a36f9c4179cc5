"""What a Z-Image base consists of, and the sizes of its networks, as diffusers writes them down.

A folder has a file of settings for each part. A single file has none: it is of the published size, or names its
own under `velatura.config` in its metadata. No torch here.

Source of the published settings: https://huggingface.co/Tongyi-MAI/Z-Image and .../Z-Image-Turbo (config.json of
`transformer`, `text_encoder` and `vae`; both have the same), and https://huggingface.co/Qwen/Qwen3-4B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from velatura.bases import Base
from velatura.configuration import Configuration, scheduler_of, settings_of
from velatura.weights.parts import PartKind, Sign
from velatura.weights.published import FLUX_AUTOENCODER, autoencoder

PARTS = (
    PartKind(
        "denoiser",
        "transformer",
        "denoiser (transformer)",
        # Lumina-Image 2 has these names too, at 2304 features.
        (
            Sign(r"layers\.0\.attention\.qkv\.weight", shape=(3 * 3840, 3840)),
            Sign(r"layers\.0\.attention\.to_q\.weight", "diffusers", shape=(3840, 3840)),
        ),
    ),
    PartKind(
        "text_encoder",
        "text_encoder",
        "text encoder (Qwen3-4B)",
        (
            Sign(r"(model\.)?layers\.0\.self_attn\.q_proj\.weight", shape=(32 * 128, 2560)),
            Sign(r"blk\.0\.attn_q\.weight", "llama.cpp", (32 * 128, 2560), ("blk.0.attn_q_norm.weight", (None,))),
        ),
        "--text-encoder FILE",
    ),
    autoencoder(channels=16),
)

CLASSES = {"denoiser": "ZImageTransformer2DModel", "text_encoder": "Qwen3Model", "vae": "AutoencoderKL"}

TRANSFORMER: dict[str, Any] = {
    "all_patch_size": (2,),
    "all_f_patch_size": (1,),
    "in_channels": 16,
    "dim": 3840,
    "n_layers": 30,
    "n_refiner_layers": 2,
    "n_heads": 30,
    "n_kv_heads": 30,
    "norm_eps": 1e-5,
    "qk_norm": True,
    "cap_feat_dim": 2560,
    "rope_theta": 256.0,
    "t_scale": 1000.0,
    "axes_dims": (32, 48, 48),
    "axes_lens": (1536, 512, 512),
}

TEXT_ENCODER: dict[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "attention_bias": False,
    "tie_word_embeddings": True,
}
"""That of Qwen3-4B."""

VAE = FLUX_AUTOENCODER

PUBLISHED = {"denoiser": TRANSFORMER, "text_encoder": TEXT_ENCODER, "vae": VAE}

FP16_OVERFLOWS = True
"""Its networks compute numbers that fp16 cannot hold."""

SHIFTS = {"z_image": 6.0, "z_image_turbo": 3.0}
"""Variant -> how far its published scheduler leans towards noise; ComfyUI has 3 for both."""


@dataclass(frozen=True)
class ZImageConfiguration(Configuration):
    """The settings of a base's parts."""

    @property
    def resolution(self) -> int:
        """Side of the square that the base was made for, in pixels: its autoencoder's."""
        return int(self.parts["vae"].get("sample_size", VAE["sample_size"]))


def read(base: Base) -> ZImageConfiguration:
    """The configuration of a folder or of files.

    Raises:
        ModelError: a part of it is missing or damaged.
    """
    return ZImageConfiguration(settings_of(base, PUBLISHED), scheduler_of(base, flow(SHIFTS[base.variant.name])))


def flow(shift: float) -> dict[str, Any]:
    """A scheduler's settings."""
    return {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "shift": shift,
        "use_dynamic_shifting": False,
    }
