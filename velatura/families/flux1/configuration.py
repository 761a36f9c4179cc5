"""What a FLUX.1 base consists of, and the sizes of its networks, as diffusers writes them down.

A folder has a file of settings for each part. Of files, the header tells how many blocks the transformer has and
whether guidance is distilled into it; all else is of the published size, or stands under `velatura.config` in the
metadata. No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from velatura.bases import Base
from velatura.configuration import Configuration, scheduler_of, settings_of
from velatura.tensorfile import Header
from velatura.weights import parts
from velatura.weights.containers import read_header
from velatura.weights.parts import PartKind, Sign
from velatura.weights.published import CLIP_L, FLUX_AUTOENCODER, autoencoder, clip_text_encoder

PARTS = (
    PartKind(
        "denoiser",
        "transformer",
        "denoiser (transformer)",
        # Chroma and FLUX.2 have the same blocks, but no modulation in each of them
        (Sign(r"double_blocks\.0\.img_mod\.lin\.weight", shape=(18432, 3072)),),
    ),
    clip_text_encoder("text_encoder", "text encoder (CLIP-L)", width=768),
    PartKind(
        "text_encoder_2",
        "text_encoder_2",
        "text encoder (T5-XXL)",
        (
            Sign(r"encoder\.block\.0\.layer\.0\.SelfAttention\.q\.weight", shape=(4096, 4096)),
            Sign(r"enc\.blk\.0\.attn_q\.weight", "llama.cpp", (4096, 4096)),
        ),
        "--text-encoder FILE",
    ),
    autoencoder(channels=16),
)

CLASSES = {
    "denoiser": "FluxTransformer2DModel",
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "T5EncoderModel",
    "vae": "AutoencoderKL",
}

PATCH = 2
"""Latents per token, in each direction."""

MASK = 64
"""Pixels of a mask for each latent; FLUX.1 Fill is told each of them as a channel."""

TRANSFORMER: dict[str, Any] = {
    "patch_size": 1,  # latents come packed, so a token is one patch
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}
"""The denoiser of FLUX.1-dev; schnell's has no guidance."""

VAE = FLUX_AUTOENCODER

TEXT_ENCODER = CLIP_L

TEXT_ENCODER_2: dict[str, Any] = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "gated-gelu",
    "pad_token_id": 0,
    "eos_token_id": 1,
}
"""The encoder of T5 v1.1 XXL."""

PUBLISHED = {"denoiser": TRANSFORMER, "text_encoder": TEXT_ENCODER, "text_encoder_2": TEXT_ENCODER_2, "vae": VAE}

FP16_OVERFLOWS = True
"""Its networks compute numbers that fp16 cannot hold."""

SCHEDULERS: dict[bool, dict[str, Any]] = {
    True: {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "use_dynamic_shifting": True,
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
        "base_shift": 0.5,
        "max_shift": 1.15,
    },
    False: {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": False, "shift": 1.0},
}
"""Of dev, with guidance, and of schnell, without."""


@dataclass(frozen=True)
class FluxConfiguration(Configuration):
    """The settings of a base's parts."""

    @property
    def guided(self) -> bool:
        """Whether guidance is distilled into the denoiser, as into dev's."""
        return bool(self.parts["denoiser"].get("guidance_embeds", False))

    @property
    def resolution(self) -> int:
        """Side of the square that the base was made for, in pixels."""
        return int(self.parts["vae"].get("sample_size", VAE["sample_size"]))


def read(base: Base) -> FluxConfiguration:
    """The configuration of a folder or of files; what a file says beside the published one is heeded.

    Raises:
        ModelError: a part of it is missing or damaged.
    """
    found = settings_of(base, PUBLISHED)
    if not base.source.is_dir():
        lies = base.parts["denoiser"]
        header = read_header(lies.files[0])
        if not parts.told(header, lies.files[0]):
            found["denoiser"] |= counted(header, lies.prefix)
    guided = bool(found["denoiser"].get("guidance_embeds"))
    return FluxConfiguration(found, scheduler_of(base, SCHEDULERS[guided]))


def filling(channels: int) -> int:
    """What the denoiser of FLUX.1 Fill takes, where its latents have so many channels in a patch.

    A patch of the latents, one of the masked picture's, and a mask of 16 x 16 pixels.
    """
    return 2 * channels + MASK * PATCH**2


def counted(header: Header, prefix: str) -> dict[str, Any]:
    """What a transformer's header tells of its settings.

    Args:
        prefix: before each of its keys.
    """
    names = [key.removeprefix(prefix) for key in header.entries if key.startswith(prefix)]

    def blocks(kind: str) -> int:
        return len({name.split(".")[1] for name in names if name.startswith(f"{kind}.")})

    settings: dict[str, Any] = {
        "num_layers": blocks("double_blocks"),
        "num_single_layers": blocks("single_blocks"),
        "guidance_embeds": any(name.startswith("guidance_in.") for name in names),
    }
    first = header.entries.get(f"{prefix}img_in.weight")
    if first is not None and len(first.shape) == 2:  # more channels tell a base for filling (Fill) or control
        settings |= {"in_channels": first.shape[1], "out_channels": TRANSFORMER["in_channels"]}
    return settings
