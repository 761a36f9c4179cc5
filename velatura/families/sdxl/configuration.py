"""What a Stable Diffusion XL base consists of, and the sizes of its networks, as diffusers writes them down.

A folder has a file of settings for each part. A single file has none: it is of the published size, or names its
own under `velatura.config` in its metadata. No torch here.

Source: the settings of https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from velatura.bases import Base
from velatura.tensorfile import Header
from velatura.weights import parts
from velatura.weights.containers import read_header
from velatura.weights.parts import PartKind, Sign
from velatura.weights.source import BaseFolder

FOUR_CHANNELS = ("decoder.conv_in.weight", (None, 4, 3, 3))

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
    PartKind(
        "text_encoder",
        "text_encoder",
        "first text encoder (CLIP-L)",
        (Sign(r"(text_model\.)?encoder\.layers\.0\.self_attn\.q_proj\.weight", shape=(768, 768)),),
        "--text-encoder FILE",
    ),
    PartKind(
        "text_encoder_2",
        "text_encoder_2",
        "second text encoder (OpenCLIP bigG)",
        (
            Sign(r"transformer\.resblocks\.0\.attn\.in_proj_weight", "openclip", (3840, 1280)),
            Sign(r"(text_model\.)?encoder\.layers\.0\.self_attn\.q_proj\.weight", shape=(1280, 1280)),
        ),
        "--text-encoder FILE",
    ),
    PartKind(
        "vae",
        "vae",
        "autoencoder (VAE)",
        (  # that of FLUX.1 has the same names, and 16 channels
            Sign(r"decoder\.mid\.block_1\.conv1\.weight", beside=FOUR_CHANNELS),
            Sign(r"decoder\.mid_block\.resnets\.0\.conv1\.weight", "diffusers", beside=FOUR_CHANNELS),
        ),
        "--vae FILE",
        ambiguous=True,
    ),
)

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

VAE: dict[str, Any] = {
    "sample_size": 1024,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.13025,
    "force_upcast": True,
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
    """By the names of `PARTS`."""
    scheduler: dict[str, Any]
    zero_empty: bool = True
    """An empty negative prompt is features of zero."""

    @property
    def latent_factor(self) -> int:
        """Pixels per latent, in each direction."""
        factor: int = 2 ** (len(self.parts["vae"]["block_out_channels"]) - 1)
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
        zero_empty = folder.config("", "model_index.json").get("force_zeros_for_empty_prompt", True)
        return Configuration(found, folder.config("scheduler", "scheduler_config.json"), bool(zero_empty))
    header = read_header(base.source)
    found = {}
    for kind in PARTS:
        file = base.parts[kind.name].files[0]
        settings = parts.told(read_header(file), file).get(kind.folder, PUBLISHED[kind.name])
        if not isinstance(settings, dict) or not settings:
            raise parts.damaged(file)
        found[kind.name] = dict(settings)
    own = parts.told(header, base.source).get("scheduler", SCHEDULER)
    return Configuration(found, scheduler(header, dict(own)))


def scheduler(header: Header, settings: dict[str, Any]) -> dict[str, Any]:
    """The noise schedule with what a file says of its prediction beside it."""
    # empty tensors, by which makers of v-prediction checkpoints mark them
    if "v_pred" in header.entries or header.metadata.get("modelspec.prediction_type") == "v":
        settings["prediction_type"] = "v_prediction"
    if "ztsnr" in header.entries:
        settings["rescale_betas_zero_snr"] = True
    return settings
