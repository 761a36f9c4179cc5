"""What a Stable Diffusion 1.x base consists of, and the sizes of its networks, as diffusers writes them down.

A folder has a file of settings for each part. A single file has none: it is of the published size, or names its
own under `velatura.config` in its metadata. No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from velatura.bases import Base
from velatura.errors import ModelError
from velatura.tensorfile import Header
from velatura.weights import parts
from velatura.weights.containers import read_header
from velatura.weights.parts import PartKind, Sign
from velatura.weights.source import BaseFolder

FOUR_CHANNELS = ("decoder.conv_in.weight", (None, 4, 3, 3))
"""What tells its autoencoder from that of FLUX.1, which has the same names and 16 channels."""

PARTS = (
    PartKind(
        "denoiser",
        "unet",
        "denoiser (UNet)",
        (Sign(r"input_blocks\.\d+\.1\.transformer_blocks\.0\.attn2\.to_k\.weight", shape=(None, 768)),),
    ),
    PartKind(
        "text_encoder",
        "text_encoder",
        "text encoder (CLIP)",
        (Sign(r"(text_model\.)?encoder\.layers\.0\.self_attn\.q_proj\.weight", shape=(768, 768)),),
        "--text-encoder FILE",
    ),
    PartKind(
        "vae",
        "vae",
        "autoencoder (VAE)",
        (
            Sign(r"decoder\.mid\.block_1\.conv1\.weight", beside=FOUR_CHANNELS),
            Sign(r"decoder\.mid_block\.resnets\.0\.conv1\.weight", "diffusers", beside=FOUR_CHANNELS),
        ),
        "--vae FILE",
        ambiguous=True,
    ),
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


def read(base: Base) -> Configuration:
    """The configuration of a folder or of files; what a file says beside the published one is heeded.

    Raises:
        ModelError: a part of it is missing or damaged.
    """
    if base.source.is_dir():
        folder = BaseFolder(base.source)
        found = {kind.name: folder.config(kind.folder) for kind in PARTS}
        return Configuration(found, folder.config("scheduler", "scheduler_config.json"))
    header = read_header(base.source)
    told = parts.told(header, base.source)
    published = {"denoiser": UNET, "text_encoder": TEXT_ENCODER, "vae": VAE}
    found = {}
    for kind in PARTS:
        own = parts.told(read_header(base.parts[kind.name].files[0]), base.source)
        settings = own.get(kind.folder, published[kind.name])
        if not isinstance(settings, dict) or not settings:
            raise ModelError(
                f"{parts.CONFIG} in the file's metadata is damaged", where=base.source, fix="fetch the base again"
            )
        found[kind.name] = dict(settings)
    if not told:
        first = header.entries.get(f"{base.parts['denoiser'].prefix}input_blocks.0.0.weight")
        if first is not None and len(first.shape) == 4:  # 9 channels tell an inpainting base
            found["denoiser"]["in_channels"] = first.shape[1]
    return Configuration(found, scheduler(header, dict(told.get("scheduler", SCHEDULER))))


def scheduler(header: Header, settings: dict[str, Any]) -> dict[str, Any]:
    """The noise schedule with what a file says of its prediction beside it."""
    # empty tensors, by which makers of v-prediction checkpoints mark them
    if "v_pred" in header.entries or header.metadata.get("modelspec.prediction_type") == "v":
        settings["prediction_type"] = "v_prediction"
    if "ztsnr" in header.entries:
        settings["rescale_betas_zero_snr"] = True
    return settings
