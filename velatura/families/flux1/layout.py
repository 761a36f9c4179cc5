"""The names that FLUX.1's authors gave its transformer, for the names of diffusers.

    transformer_blocks.0.attn.to_q, to_k, to_v                       double_blocks.0.img_attn.qkv, one below the other
    transformer_blocks.0.ff_context.net.2                            double_blocks.0.txt_mlp.2
    single_transformer_blocks.0.attn.to_q, to_k, to_v, proj_mlp      single_blocks.0.linear1
    norm_out.linear                                                  final_layer.adaLN_modulation.1, halves swapped

The original's last modulation gives shift and scale, diffusers' scale and shift.

Source: the modules of https://github.com/black-forest-labs/flux (model.py, modules/layers.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from velatura.errors import ModelError
from velatura.weights.layouts import Place

Shape = tuple[int, ...]

ENDS = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}

SWAPPED = "norm_out.linear"

DOUBLE = {
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
    "attn.norm_q": "img_attn.norm.query_norm",
    "attn.norm_k": "img_attn.norm.key_norm",
    "attn.norm_added_q": "txt_attn.norm.query_norm",
    "attn.norm_added_k": "txt_attn.norm.key_norm",
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
}

SINGLE = {
    "norm.linear": "modulation.lin",
    "attn.norm_q": "norm.query_norm",
    "attn.norm_k": "norm.key_norm",
    "proj_out": "linear2",
}

FUSED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "transformer_blocks": {
        "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    },
    "single_transformer_blocks": {"linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")},
}
"""Kind of block -> original layer -> the layers whose rows it holds, in order."""

BLOCKS = {"transformer_blocks": ("double_blocks", DOUBLE), "single_transformer_blocks": ("single_blocks", SINGLE)}


def transformer(shapes: Mapping[str, Shape]) -> dict[str, Place]:
    """Where each tensor of the transformer lies in the original layout.

    Args:
        shapes: of all tensors of the network, as diffusers calls them, or of all weights.

    Raises:
        ModelError: a tensor has no name in the original layout.
    """
    places = {}
    for name in shapes:
        path, _, kind = name.rpartition(".")
        found = _place(path, kind, shapes)
        if found is None:
            raise ModelError(
                f"{name} has no name in the layout of single files", fix="use this base as a diffusers folder"
            )
        places[name] = found
    return places


def _place(path: str, kind: str, shapes: Mapping[str, Shape]) -> Place | None:
    if path in ENDS:
        return Place(f"{ENDS[path]}.{kind}", halves_swapped=path == SWAPPED)
    blocks, _, rest = path.partition(".")
    number, _, inner = rest.partition(".")
    if blocks not in BLOCKS:
        return None
    original, plain = BLOCKS[blocks]
    if inner in plain:
        norm = plain[inner].endswith("_norm")
        return Place(f"{original}.{number}.{plain[inner]}.{'scale' if norm else kind}")
    for fused, members in FUSED[blocks].items():
        if inner in members:
            lengths = [shapes[f"{blocks}.{number}.{member}.{kind}"][0] for member in members]
            at = members.index(inner)
            return Place(f"{original}.{number}.{fused}.{kind}", rows=(sum(lengths[:at]), sum(lengths[: at + 1])))
    return None
