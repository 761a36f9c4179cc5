"""A tiny FLUX.1 with random weights: two double and two single blocks, rotary axes and heads of odd numbers."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from tests import tiny
from velatura.pocket import tokenizer

TRANSFORMER: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 3,
    "joint_attention_dim": 20,
    "pooled_projection_dim": 24,
    "guidance_embeds": True,
    "axes_dims_rope": (2, 2, 4),
}

VAE: dict[str, Any] = {**tiny.FLUX_VAE, "_class_name": "AutoencoderKL"}

TEXT_2: dict[str, Any] = {
    "vocab_size": 128,
    "d_model": 20,
    "d_kv": 6,
    "d_ff": 28,
    "num_layers": 2,
    "num_heads": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 32,
    "feed_forward_proj": "gated-gelu",
    "pad_token_id": 0,
    "eos_token_id": 1,
}

SCHEDULER: dict[str, Any] = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "num_train_timesteps": 1000,
    "shift": 3.0,
    "use_dynamic_shifting": True,
    "base_image_seq_len": 8,
    "max_image_seq_len": 48,
    "base_shift": 0.5,
    "max_shift": 1.15,
}
"""Dev's own, but for the sizes: at those of the tiny base the shift must change with the picture's."""

SCHNELL: dict[str, Any] = {**SCHEDULER, "shift": 1.0, "use_dynamic_shifting": False}

PARTS = {
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
}


def flux1(folder: Path, *, schnell: bool = False, seed: int = 6) -> Path:
    """A FLUX.1 base as a diffusers folder: dev, or schnell."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel
    from transformers.models.t5.configuration_t5 import T5Config
    from transformers.models.t5.modeling_t5 import T5EncoderModel

    networks = {
        "transformer": FluxTransformer2DModel(**{**TRANSFORMER, "guidance_embeds": not schnell}),
        "vae": AutoencoderKL(**{key: value for key, value in VAE.items() if key != "_class_name"}),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**tiny.TEXT)),
        "text_encoder_2": T5EncoderModel(T5Config(**TEXT_2)),
    }
    for part, network in networks.items():
        tiny.redraw(network, seed, part)
        network.save_pretrained(folder / part)
    tokenizer.learn(tiny.CAPTIONS, folder / "tokenizer")
    pieces(folder / "tokenizer_2")
    tiny.write_json(folder / "scheduler" / "scheduler_config.json", SCHNELL if schnell else SCHEDULER)
    tiny.write_json(folder / "model_index.json", {"_class_name": "FluxPipeline", **PARTS})
    return folder


def pieces(folder: Path) -> None:
    """A tokenizer of T5's kind: the captions' words, and letters for the others."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    words = sorted({word.strip(",") for caption in tiny.CAPTIONS for word in caption.split()})
    letters = string.ascii_lowercase + string.digits + ",.()"
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0)]
    vocabulary += [(f"▁{word}", -3.0 - 0.01 * place) for place, word in enumerate(words)]
    vocabulary += [(letter, -7.0 - 0.01 * place) for place, letter in enumerate(letters)]
    made = Tokenizer(models.Unigram(vocabulary, unk_id=2, byte_fallback=False))
    space = {"replacement": "▁", "prepend_scheme": "always", "split": True}
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**space)])
    made.decoder = decoders.Metaspace(**space)
    made.add_special_tokens(["<pad>", "</s>", "<unk>"])
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    told = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "extra_ids": 0, "model_max_length": 512}
    tiny.write_json(folder / "tokenizer_config.json", {"tokenizer_class": "T5TokenizerFast", **told})
