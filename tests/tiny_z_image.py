"""A tiny Z-Image with random weights: as a diffusers folder, and as files of ComfyUI's layout.

Query heads outnumber key heads in the text encoder, and three layers leave two before the one that is not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests import tiny
from tests.tiny import redraw, write_json
from velatura import tensorfile
from velatura.bases import BaseFiles
from velatura.tensorfile import RawTensor
from velatura.weights.layouts import stable_diffusion
from velatura.weights.parts import CONFIG

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

VAE: dict[str, Any] = {**tiny.FLUX_VAE, "latent_channels": 16}

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


Tensors = dict[str, RawTensor]

PREFIXES = {
    "transformer": "model.diffusion_model.",
    "text_encoder": "text_encoders.qwen3_4b.transformer.",
    "vae": "vae.",
}
"""Of ComfyUI's checkpoints, in which all parts lie."""


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


def held(base: Path, part: str) -> Tensors:
    (path,) = (base / part).glob("*.safetensors")
    tensors, _ = tensorfile.read(path)
    return {name: RawTensor(one.dtype, one.shape, bytes(one.data)) for name, one in tensors.items()}


def comfy(base: Path, part: str) -> Tensors:
    """A part as ComfyUI's files have it."""
    tensors = held(base, part)
    if part == "text_encoder":
        return tensors
    if part == "vae":
        return {place.key: _wide(tensors[name], place.pointwise) for name, place in _original(tensors).items()}
    found: Tensors = {"norm_final.weight": tensorfile.raw(np.ones(24, np.float32))}
    for name, one in tensors.items():
        if ".attention.to_q." in name:
            qkv = [tensorfile.as_float32(tensors[name.replace("to_q", kind)]) for kind in ("to_q", "to_k", "to_v")]
            found[name.replace("to_q", "qkv")] = tensorfile.raw(np.concatenate(qkv))
        elif ".attention.to_k." not in name and ".attention.to_v." not in name:
            renamed = name.replace("all_x_embedder.2-1", "x_embedder").replace("all_final_layer.2-1", "final_layer")
            renamed = renamed.replace("norm_q", "q_norm").replace("norm_k", "k_norm").replace("to_out.0", "out")
            found[renamed] = one
    return found


def _original(tensors: Mapping[str, RawTensor]) -> Any:
    return stable_diffusion.autoencoder(tensors)


def _wide(one: RawTensor, pointwise: bool) -> RawTensor:
    return RawTensor(one.dtype, (*one.shape, 1, 1), one.data) if pointwise else one


def settings_of(base: Path, *parts: str, **more: Any) -> dict[str, str]:
    """What files of another size than the published one say of themselves."""
    told: dict[str, Any] = {"family": "z_image", **more}
    for part in parts:
        told[part] = json.loads((base / part / "config.json").read_text(encoding="utf-8"))
    if "text_encoder" in parts:
        told["tokenizer"] = json.loads((base / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    return {CONFIG: json.dumps(told)}


def written(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> Path:
    path.write_bytes(tensorfile.to_bytes(tensors, metadata))
    return path


def all_in_one(base: Path, path: Path, **more: Any) -> Path:
    tensors = {prefix + name: one for part, prefix in PREFIXES.items() for name, one in comfy(base, part).items()}
    return written(path, tensors, settings_of(base, *PREFIXES, **more))


def separate(base: Path, folder: Path, *, prefix: str = "") -> BaseFiles:
    """The denoiser, FLUX.1's autoencoder and Qwen3 in files of their own, as ComfyUI wants them."""
    names = {"transformer": "z_image_bf16", "vae": "ae", "text_encoder": "qwen_3_4b"}
    paths = {
        part: written(
            folder / f"{name}.safetensors",
            {(prefix if part == "transformer" else "") + key: one for key, one in comfy(base, part).items()},
            settings_of(base, part),
        )
        for part, name in names.items()
    }
    return BaseFiles(paths["transformer"], paths["vae"], (paths["text_encoder"],))
