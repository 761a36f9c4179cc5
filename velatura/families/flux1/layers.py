"""The layers of a FLUX.1 base, from its settings alone: transformer, CLIP and T5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from velatura.adapters.tables import Table, clip, under
from velatura.families.flux1.configuration import PUBLISHED

TIME = 256
"""Features of a noise level before it is embedded."""


def layers(settings: Mapping[str, Mapping[str, Any]] = PUBLISHED) -> Table:
    """Every layer that an adapter may change, with its weight's shape.

    Args:
        settings: part -> what its network is made with, as `configuration.read` returns them.
    """
    return {
        **under("denoiser", transformer(settings["denoiser"])),
        **under("text_encoder", clip(settings["text_encoder"])),
        **under("text_encoder_2", t5(settings["text_encoder_2"])),
    }


def transformer(settings: Mapping[str, Any]) -> Table:
    """The denoiser's, from what `FluxTransformer2DModel` takes."""
    head = int(settings["attention_head_dim"])
    width = head * int(settings["num_attention_heads"])
    channels = int(settings["in_channels"])
    embedded = {"timestep": TIME, "text": int(settings["pooled_projection_dim"])}
    if settings.get("guidance_embeds"):
        embedded["guidance"] = TIME
    table: Table = {
        "x_embedder": (width, channels),
        "context_embedder": (width, int(settings["joint_attention_dim"])),
        "norm_out.linear": (2 * width, width),
        "proj_out": (int(settings.get("out_channels") or channels), width),
    }
    for name, length in embedded.items():
        table[f"time_text_embed.{name}_embedder.linear_1"] = (width, length)
        table[f"time_text_embed.{name}_embedder.linear_2"] = (width, width)
    for block in range(int(settings["num_layers"])):
        table |= under(f"transformer_blocks.{block}", _double(width, head))
    for block in range(int(settings["num_single_layers"])):
        table |= under(f"single_transformer_blocks.{block}", _single(width, head))
    return table


def t5(settings: Mapping[str, Any]) -> Table:
    """T5's encoder, with a gated feed-forward."""
    width, inner = int(settings["d_model"]), int(settings["d_ff"])
    heads = int(settings["d_kv"]) * int(settings["num_heads"])
    block: Table = {
        **{f"layer.0.SelfAttention.{half}": (heads, width) for half in "qkv"},
        "layer.0.SelfAttention.o": (width, heads),
        "layer.0.layer_norm": (width,),
        "layer.1.DenseReluDense.wi_0": (inner, width),
        "layer.1.DenseReluDense.wi_1": (inner, width),
        "layer.1.DenseReluDense.wo": (width, inner),
        "layer.1.layer_norm": (width,),
    }
    table: Table = {"encoder.final_layer_norm": (width,)}
    for layer in range(int(settings["num_layers"])):
        table |= under(f"encoder.block.{layer}", block)
    return table


def _double(width: int, head: int) -> Table:
    norms = ("norm_q", "norm_k", "norm_added_q", "norm_added_k")
    projections = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    table: Table = {"norm1.linear": (6 * width, width), "norm1_context.linear": (6 * width, width)}
    table |= {f"attn.{norm}": (head,) for norm in norms}
    table |= {f"attn.{projection}": (width, width) for projection in projections}
    for side in ("ff", "ff_context"):
        table |= {f"{side}.net.0.proj": (4 * width, width), f"{side}.net.2": (width, 4 * width)}
    return table


def _single(width: int, head: int) -> Table:
    return {
        "norm.linear": (3 * width, width),
        "proj_mlp": (4 * width, width),
        "proj_out": (width, 5 * width),
        **{f"attn.to_{half}": (width, width) for half in "qkv"},
        **{f"attn.norm_{half}": (head,) for half in "qk"},
    }
