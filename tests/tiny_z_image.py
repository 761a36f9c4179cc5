"""A tiny Z-Image with random weights: a diffusers folder as the published ones are, at another size.

Query heads outnumber key heads in the text encoder, and three layers leave two before the one that is not read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tiny import SIDE, redraw, write_json

TRANSFORMER: dict[str, Any] = {
    "all_patch_size": (2,),
    "all_f_patch_size": (1,),
    "in_channels": 16,
    "dim": 24,
    "n_layers": 2,
    "n_refiner_layers": 2,
    "n_heads": 3,
    "n_kv_heads": 3,
    "cap_feat_dim": 20,
    "axes_dims": (4, 2, 2),
    "axes_lens": (640, 32, 32),
}

TEXT: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 20,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 1024,
    "rope_theta": 5000,
    "tie_word_embeddings": True,
}

VAE: dict[str, Any] = {
    "sample_size": SIDE,
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 1,
    "latent_channels": 16,
    "norm_num_groups": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.7,
    "shift_factor": 0.15,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}

SCHEDULER: dict[str, Any] = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "num_train_timesteps": 1000,
    "shift": 6.0,
    "use_dynamic_shifting": False,
}

PARTS = {
    "transformer": ["diffusers", "ZImageTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "Qwen3Model"],
    "tokenizer": ["transformers", "Qwen2Tokenizer"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
}

MERGES = [("Ġ", "a"), ("o", "a"), ("oa", "t"), ("r", "e"), ("re", "d"), ("Ġ", "red"), ("Ġ", "b"), ("Ġb", "oat")]

MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")

CHAT = (
    "{% for one in messages %}<|im_start|>{{ one['role'] }}\n{{ one['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""A template of Qwen3's form for a chat without tools."""


def z_image(folder: Path, *, seed: int = 7, shift: float = 6.0, shards: str = "10GB") -> Path:
    """A Z-Image base as a diffusers folder.

    Args:
        shift: the scheduler's; 3 makes it a Turbo.
        shards: how large a file of the transformer may be.
    """
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
    from transformers.models.qwen3.configuration_qwen3 import Qwen3Config
    from transformers.models.qwen3.modeling_qwen3 import Qwen3ForCausalLM

    networks = {
        "transformer": ZImageTransformer2DModel(**TRANSFORMER),
        "vae": AutoencoderKL(**VAE),
        "text_encoder": Qwen3ForCausalLM(Qwen3Config(**TEXT)),
    }
    for part, network in networks.items():
        redraw(network, seed, part)
        if part == "transformer":
            with torch.no_grad():
                network.cap_embedder[0].weight += 1  # a norm that is not called one
        network.save_pretrained(folder / part, **({"max_shard_size": shards} if part == "transformer" else {}))
    (folder / "text_encoder" / "generation_config.json").unlink()  # nothing is written with it
    tokenizer(folder / "tokenizer")
    write_json(folder / "scheduler" / "scheduler_config.json", {**SCHEDULER, "shift": shift})
    write_json(folder / "model_index.json", {"_class_name": "ZImagePipeline", **PARTS})
    return folder


def tokenizer(folder: Path) -> None:
    """Bytes and a few merges, in Qwen's files, with a chat template."""
    from tokenizers import pre_tokenizers
    from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in MERGES)]
    made = Qwen2Tokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=MERGES,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=[mark for mark in MARKS if mark not in ("<|im_end|>", "<|endoftext|>")],
        chat_template=CHAT,
    )
    made.save_pretrained(folder)
