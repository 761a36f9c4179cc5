"""The names of a Qwen language model: its body alone, the whole model, and those of llama.cpp, in its GGUF files.

    Qwen3Model          layers.0.self_attn.q_proj.weight
    Qwen3ForCausalLM    model.layers.0.self_attn.q_proj.weight
    llama.cpp           blk.0.attn_q.weight

The files of diffusers folders, and the safetensors that ComfyUI reads, are of the second kind.
Source of the third: https://github.com/ggml-org/llama.cpp (gguf-py/gguf/tensor_mapping.py).
"""

from __future__ import annotations

from collections.abc import Collection

from velatura.errors import ModelError
from velatura.weights.layouts import Place

BALLAST = ("lm_head.weight", "output.weight")
"""How keys end that serve to write text, which here is only read."""

LLAMA_CPP = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}

LLAMA_CPP_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def transformers(names: Collection[str], keys: Collection[str]) -> dict[str, Place]:
    """Where each tensor lies in a file of either kind of transformers' names.

    Args:
        names: of the network's tensors.
        keys: of the file, without the part's prefix.
    """
    held = set(keys)
    places = {}
    for name in names:
        found = next((key for key in (name, f"model.{name}") if key in held), None)
        if found is not None:
            places[name] = Place(found)
    return places


def llama_cpp(names: Collection[str]) -> dict[str, Place]:
    """Where each tensor lies in a GGUF file.

    Raises:
        ModelError: a tensor has no name there.
    """
    return {name: Place(_llama_cpp(name)) for name in names}


def _llama_cpp(name: str) -> str:
    path, _, kind = name.rpartition(".")
    match path.split(".", 2):
        case ["layers", number, inner] if inner in LLAMA_CPP_LAYER:
            return f"blk.{number}.{LLAMA_CPP_LAYER[inner]}.{kind}"
    if name not in LLAMA_CPP:
        raise ModelError(f"{name} has no name in llama.cpp's layout", fix="use this text encoder as safetensors")
    return LLAMA_CPP[name]
