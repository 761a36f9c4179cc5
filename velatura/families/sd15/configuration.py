"""What a base says of itself: the sizes of its networks and its noise schedule, as diffusers writes them down.

A folder has a file for each. A single file has none: it is of the published size, or names its own
under `velatura.config` in its metadata. No torch here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velatura.errors import ModelError
from velatura.families.sd15.keys import PREFIXES
from velatura.tensorfile import Header, read_header
from velatura.weights.source import BaseFolder

FOLDERS = {"denoiser": "unet", "text_encoder": "text_encoder", "vae": "vae"}
"""Part -> its folder, and its name in `velatura.config`."""

CONFIG = "velatura.config"
"""Key in a single file's metadata: JSON with unet, vae, text_encoder, scheduler and tokenizer."""

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

VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.18215,
}

TEXT_ENCODER: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}
"""That of CLIP ViT-L/14."""

SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}


@dataclass(frozen=True)
class Configuration:
    """The settings of a base's parts."""

    parts: dict[str, dict[str, Any]]
    """Of "denoiser", "text_encoder" and "vae"."""
    scheduler: dict[str, Any]

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


def read(source: Path) -> Configuration:
    """The configuration of a folder or a single file.

    Raises:
        ModelError: a part of it is missing or damaged.
        FileProblem: the single file is cut off or not a safetensors file.
    """
    if source.is_file():
        return of_header(read_header(source), source)
    folder = BaseFolder(source)
    return Configuration(
        {part: folder.config(place) for part, place in FOLDERS.items()},
        folder.config("scheduler", "scheduler_config.json"),
    )


def of_header(header: Header, where: Path) -> Configuration:
    """The configuration of a single file: its own, else the published one; what it says beside that is heeded."""
    if CONFIG in header.metadata:
        told = own_settings(header, where)
        parts = {part: dict(told[place]) for part, place in FOLDERS.items()}
        scheduler = dict(told["scheduler"])
    else:
        parts = {"denoiser": dict(UNET), "text_encoder": dict(TEXT_ENCODER), "vae": dict(VAE)}
        first = header.entries.get(f"{PREFIXES['denoiser']}input_blocks.0.0.weight")
        if first is not None and len(first.shape) == 4:  # 9 channels tell an inpainting base
            parts["denoiser"]["in_channels"] = first.shape[1]
        scheduler = dict(SCHEDULER)
    # empty tensors, by which makers of v-prediction checkpoints mark them
    if "v_pred" in header.entries or header.metadata.get("modelspec.prediction_type") == "v":
        scheduler["prediction_type"] = "v_prediction"
    if "ztsnr" in header.entries:
        scheduler["rescale_betas_zero_snr"] = True
    return Configuration(parts, scheduler)


def own_settings(header: Header, where: Path) -> dict[str, Any]:
    """What stands under `velatura.config`.

    Raises:
        ModelError: it is damaged.
    """
    try:
        told = json.loads(header.metadata[CONFIG])
    except (ValueError, RecursionError):
        told = None
    wanted = (*FOLDERS.values(), "scheduler", "tokenizer")
    if not isinstance(told, dict) or not all(isinstance(told.get(name), dict) for name in wanted):
        raise ModelError(f"{CONFIG} in the file's metadata is damaged", where=where, fix="fetch the base again")
    return told
