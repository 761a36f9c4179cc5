"""Networks that several families have in common: their published settings, and how they are known in a file. No torch.

Sources: the settings of https://huggingface.co/openai/clip-vit-large-patch14, of the autoencoders of Stable Diffusion
1.5, SDXL and FLUX.1 there, and diffusers' names for the noise schedule of Stable Diffusion.
"""

from __future__ import annotations

from typing import Any

from velatura.tensorfile import Header
from velatura.weights.parts import PartKind, Sign

CLIP_L: dict[str, Any] = {
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
"""The text encoder of CLIP ViT-L/14."""

_AUTOENCODER: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}

FLUX_AUTOENCODER: dict[str, Any] = {
    **_AUTOENCODER,
    "sample_size": 1024,
    "latent_channels": 16,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
"""That of FLUX.1, which Z-Image has too."""

SCALED_LINEAR: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}
"""The noise schedule of Stable Diffusion 1.x and SDXL."""


def stable_diffusion_autoencoder(*, sample_size: int, scaling_factor: float) -> dict[str, Any]:
    """That of Stable Diffusion 1.x or of SDXL, which differ in these alone."""
    return {**_AUTOENCODER, "sample_size": sample_size, "latent_channels": 4, "scaling_factor": scaling_factor}


def clip_text_encoder(name: str, title: str, *, width: int, signs: tuple[Sign, ...] = ()) -> PartKind:
    """A text encoder of CLIP's kind, under transformers' names.

    Args:
        width: features, by which CLIP-L (768) and bigG (1280) are told apart.
        signs: further ones, looked for first.
    """
    own = Sign(r"(text_model\.)?encoder\.layers\.0\.self_attn\.q_proj\.weight", shape=(width, width))
    return PartKind(name, name, title, (*signs, own), "--text-encoder FILE")


def autoencoder(*, channels: int) -> PartKind:
    """An AutoencoderKL, under its authors' names or diffusers'.

    Those of Stable Diffusion 1.x and SDXL, with 4 channels, differ in their scale alone, which no file tells.

    Args:
        channels: of its latents.
    """
    beside = ("decoder.conv_in.weight", (None, channels, 3, 3))
    signs = (
        Sign(r"decoder\.mid\.block_1\.conv1\.weight", beside=beside),
        Sign(r"decoder\.mid_block\.resnets\.0\.conv1\.weight", "diffusers", beside=beside),
    )
    return PartKind("vae", "vae", "autoencoder (VAE)", signs, "--vae FILE", ambiguous=channels == 4)


def marked(header: Header, scheduler: dict[str, Any]) -> dict[str, Any]:
    """A noise schedule with what a file says of its prediction beside it."""
    told = dict(scheduler)
    # empty tensors, by which makers of v-prediction checkpoints mark them
    if "v_pred" in header.entries or header.metadata.get("modelspec.prediction_type") == "v":
        told["prediction_type"] = "v_prediction"
    if "ztsnr" in header.entries:
        told["rescale_betas_zero_snr"] = True
    return told
