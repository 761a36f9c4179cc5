"""The names of T5's encoder: those of transformers, and those of llama.cpp, in which its GGUF files are written.

    transformers    encoder.block.0.layer.0.SelfAttention.q.weight      shared.weight, encoder.embed_tokens.weight
    llama.cpp       enc.blk.0.attn_q.weight                             token_embd.weight

Source: https://github.com/ggml-org/llama.cpp (gguf-py/gguf/tensor_mapping.py).
"""

from __future__ import annotations

from collections.abc import Collection

from velatura.errors import ModelError
from velatura.weights.layouts import Place

EMBEDDING = ("shared.weight", "encoder.embed_tokens.weight")
"""Two names of one tensor; files have either or both."""

LLAMA_CPP = {
    **dict.fromkeys(EMBEDDING, "token_embd.weight"),
    "encoder.final_layer_norm.weight": "enc.output_norm.weight",
}

LLAMA_CPP_BLOCK = {
    "layer.0.layer_norm": "attn_norm",
    "layer.0.SelfAttention.q": "attn_q",
    "layer.0.SelfAttention.k": "attn_k",
    "layer.0.SelfAttention.v": "attn_v",
    "layer.0.SelfAttention.o": "attn_o",
    "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b",
    "layer.1.layer_norm": "ffn_norm",
    "layer.1.DenseReluDense.wi_0": "ffn_gate",
    "layer.1.DenseReluDense.wi_1": "ffn_up",
    "layer.1.DenseReluDense.wo": "ffn_down",
}


def transformers(names: Collection[str], keys: Collection[str]) -> dict[str, Place]:
    """Where the embedding lies in a file of transformers' names; all else has its own.

    Args:
        names: of the network's tensors.
        keys: of the file, without the part's prefix.
    """
    shared = next((name for name in EMBEDDING if name in keys), EMBEDDING[0])
    return {name: Place(shared) for name in EMBEDDING if name in names}


def llama_cpp(names: Collection[str]) -> dict[str, Place]:
    """Where each tensor lies in a GGUF file.

    Raises:
        ModelError: a tensor has no name there.
    """
    return {name: Place(_llama_cpp(name)) for name in names}


def _llama_cpp(name: str) -> str:
    path, _, kind = name.rpartition(".")
    match path.split(".", 3):
        case ["encoder", "block", number, inner] if inner in LLAMA_CPP_BLOCK:
            return f"enc.blk.{number}.{LLAMA_CPP_BLOCK[inner]}.{kind}"
    if name not in LLAMA_CPP:
        raise ModelError(f"{name} has no name in llama.cpp's layout", fix="use this text encoder as safetensors")
    return LLAMA_CPP[name]
