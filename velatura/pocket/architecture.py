"""The pocket base's networks: full-size models at a size that two CPU cores can train.

The classes are those of the full-size models, from diffusers and transformers; only the numbers are smaller. There
are three kinds, by what the denoiser predicts:

    epsilon   Stable Diffusion 1.x; this is the base that comes with the program
    v         the same networks, told to predict v
    flow      Z-Image: a transformer that reads text and picture as one sequence, and a Qwen3 text encoder

Two differences from Stable Diffusion: the latents have 16 channels instead of 4, because fine lines do not survive in
fewer, and attention stands on the two lower levels instead of the three upper ones, because at 16 x 16 latents the
upper level is where the time goes. All kinds have one autoencoder.

Vocabulary, tokenizer, resolution and the numbers of epsilon and v are frozen with the first published weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal["epsilon", "v", "flow"]
KINDS: tuple[Kind, ...] = get_args(Kind)

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

FLOW_DENOISER: dict[str, Any] = {
    "all_patch_size": (2,),
    "all_f_patch_size": (1,),
    "in_channels": LATENT_CHANNELS,
    "dim": 192,
    "n_layers": 10,
    "n_refiner_layers": 1,
    "n_heads": 6,
    "n_kv_heads": 6,
    "cap_feat_dim": 128,
    "axes_dims": (8, 12, 12),
    "axes_lens": (1024, 64, 64),  # longer than the longest prompt, and sides of 1024 pixels
}

FLOW_TEXT_ENCODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,  # Z-Image does not read the last
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "rope_theta": 10000,
    "tie_word_embeddings": True,
}

FLOW_SCHEDULER: dict[str, Any] = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "use_dynamic_shifting": False,
}
"""Without a shift towards noise: that is for pictures of many more latents, which stay readable under more of it."""


@dataclass(frozen=True)
class Part:
    """A network of the base: where it lies in the base's folder, its class, and its settings."""

    folder: str
    library: Literal["diffusers", "transformers"]
    kind: str
    """Name of the class."""
    settings: Mapping[str, Any]
    model_type: str = ""
    """What transformers calls the class in its settings."""


@dataclass(frozen=True)
class Architecture:
    """What a base of one kind consists of, as diffusers writes it down."""

    pipeline: str
    autoencoder: Part
    text_encoder: Part
    denoiser: Part
    tokenizer: str
    scheduler: Mapping[str, Any]
    absent: tuple[str, ...] = ()
    """Further parts that such a pipeline may have, and this base has not."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """All networks."""
        return self.autoencoder, self.text_encoder, self.denoiser


def _stable_diffusion(prediction: str) -> Architecture:
    return Architecture(
        pipeline="StableDiffusionPipeline",
        autoencoder=Part("vae", "diffusers", "AutoencoderKL", AUTOENCODER),
        text_encoder=Part("text_encoder", "transformers", "CLIPTextModel", TEXT_ENCODER, "clip_text_model"),
        denoiser=Part("unet", "diffusers", "UNet2DConditionModel", DENOISER),
        tokenizer="CLIPTokenizer",
        scheduler={**SCHEDULER, "prediction_type": prediction},
        absent=("feature_extractor", "safety_checker"),
    )


ARCHITECTURES: Mapping[Kind, Architecture] = {
    "epsilon": _stable_diffusion("epsilon"),
    "v": _stable_diffusion("v_prediction"),
    "flow": Architecture(
        pipeline="ZImagePipeline",
        # the pipeline reads a shift, whatever it is
        autoencoder=Part("vae", "diffusers", "AutoencoderKL", {**AUTOENCODER, "shift_factor": 0.0}),
        text_encoder=Part("text_encoder", "transformers", "Qwen3Model", FLOW_TEXT_ENCODER, "qwen3"),
        denoiser=Part("transformer", "diffusers", "ZImageTransformer2DModel", FLOW_DENOISER),
        tokenizer="Qwen2Tokenizer",
        scheduler=FLOW_SCHEDULER,
    ),
}


def build(part: Part) -> Any:
    """The part's network with fresh weights, drawn from torch's global generator."""
    if part.library == "transformers":
        import transformers

        made = getattr(transformers, part.kind)
        return made(made.config_class(**part.settings))
    import diffusers

    return getattr(diffusers, part.kind)(**part.settings)
