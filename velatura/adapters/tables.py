"""The layers of networks that several families have, from their settings alone: no network is built, no torch.

For files that are read or converted without a base at hand. Names and shapes are those of diffusers' and transformers'
networks; norms are among them, embeddings are not. Source: the modules of diffusers (unet_2d_condition.py,
transformer_2d.py) and transformers (modeling_clip.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from velatura.adapters.weights import Shape

Table = dict[str, Shape]
"""A module's path -> its weight's shape."""


def under(prefix: str, table: Mapping[str, Shape]) -> Table:
    """The same table inside another module."""
    return {f"{prefix}.{path}": shape for path, shape in table.items()}


def unet(settings: Mapping[str, Any]) -> Table:
    """A UNet of Stable Diffusion's kind, conditioned by a text of some width.

    Args:
        settings: as `UNet2DConditionModel` takes them.
    """
    widths = [int(width) for width in settings["block_out_channels"]]
    layers = int(settings.get("layers_per_block", 2))
    text = int(settings["cross_attention_dim"])
    depths = settings.get("transformer_layers_per_block", 1)
    depths = [depths] * len(widths) if isinstance(depths, int) else list(depths)
    linear = bool(settings.get("use_linear_projection", False))
    first, time = widths[0], 4 * widths[0]
    table: Table = {
        "conv_in": (first, int(settings["in_channels"]), 3, 3),
        "time_embedding.linear_1": (time, first),
        "time_embedding.linear_2": (time, time),
        "conv_norm_out": (first,),
        "conv_out": (int(settings["out_channels"]), first, 3, 3),
    }
    if settings.get("addition_embed_type") == "text_time":
        table["add_embedding.linear_1"] = (time, int(settings["projection_class_embeddings_input_dim"]))
        table["add_embedding.linear_2"] = (time, time)
    before = first
    for level, (width, kind) in enumerate(zip(widths, settings["down_block_types"], strict=True)):
        block = f"down_blocks.{level}"
        for layer in range(layers):
            table |= under(f"{block}.resnets.{layer}", _resnet(width if layer else before, width, time))
            if kind.startswith("CrossAttn"):
                table |= under(f"{block}.attentions.{layer}", _transformer(width, text, depths[level], linear))
        if level < len(widths) - 1:
            table[f"{block}.downsamplers.0.conv"] = (width, width, 3, 3)
        before = width
    for layer in range(2):
        table |= under(f"mid_block.resnets.{layer}", _resnet(before, before, time))
    table |= under("mid_block.attentions.0", _transformer(before, text, depths[-1], linear))
    upwards, depths = widths[::-1], depths[::-1]
    for level, (width, kind) in enumerate(zip(upwards, settings["up_block_types"], strict=True)):
        block, after = f"up_blocks.{level}", upwards[min(level + 1, len(upwards) - 1)]
        for layer in range(layers + 1):
            beside = after if layer == layers else width
            table |= under(f"{block}.resnets.{layer}", _resnet((width if layer else before) + beside, width, time))
            if kind.startswith("CrossAttn"):
                table |= under(f"{block}.attentions.{layer}", _transformer(width, text, depths[level], linear))
        if level < len(widths) - 1:
            table[f"{block}.upsamplers.0.conv"] = (width, width, 3, 3)
        before = width
    return table


def clip(settings: Mapping[str, Any], *, projected: bool = False) -> Table:
    """A CLIP text encoder.

    Args:
        projected: with the projection of what it pools, as SDXL's second.
    """
    width, inner = int(settings["hidden_size"]), int(settings["intermediate_size"])
    block = {
        **{f"self_attn.{half}_proj": (width, width) for half in ("k", "v", "q", "out")},
        "layer_norm1": (width,),
        "mlp.fc1": (inner, width),
        "mlp.fc2": (width, inner),
        "layer_norm2": (width,),
    }
    table: Table = {"text_model.final_layer_norm": (width,)}
    for layer in range(int(settings["num_hidden_layers"])):
        table |= under(f"text_model.encoder.layers.{layer}", block)
    if projected:
        table["text_projection"] = (int(settings["projection_dim"]), width)
    return table


def _resnet(before: int, width: int, time: int) -> Table:
    table: Table = {
        "norm1": (before,),
        "conv1": (width, before, 3, 3),
        "time_emb_proj": (width, time),
        "norm2": (width,),
        "conv2": (width, width, 3, 3),
    }
    return table if before == width else {**table, "conv_shortcut": (width, before, 1, 1)}


def _transformer(width: int, text: int, depth: int, linear: bool) -> Table:
    pointwise: Shape = (width, width) if linear else (width, width, 1, 1)
    table: Table = {"norm": (width,), "proj_in": pointwise, "proj_out": pointwise}
    block: Table = {f"norm{number}": (width,) for number in (1, 2, 3)}
    for attention, source in (("attn1", width), ("attn2", text)):
        block |= {f"{attention}.to_{half}": (width, width if half == "q" else source) for half in ("q", "k", "v")}
        block[f"{attention}.to_out.0"] = (width, width)
    block |= {"ff.net.0.proj": (8 * width, width), "ff.net.2": (width, 4 * width)}  # gated: twice four widths
    for layer in range(depth):
        table |= under(f"transformer_blocks.{layer}", block)
    return table
