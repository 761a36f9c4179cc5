"""The names that ComfyUI's files give Z-Image's transformer, for the names of diffusers and of its authors.

    layers.0.attention.qkv.weight       layers.0.attention.to_q.weight, to_k, to_v: one below the other
    layers.0.attention.out.weight       layers.0.attention.to_out.0.weight
    layers.0.attention.q_norm.weight    layers.0.attention.norm_q.weight
    x_embedder.weight                   all_x_embedder.2-1.weight
    final_layer.linear.weight           all_final_layer.2-1.linear.weight

They are those of Lumina-Image 2. Source: ComfyUI's `comfy/ldm/lumina/model.py`.
"""

from __future__ import annotations

from collections.abc import Collection

from velatura.weights.layouts import Place

RENAMED = {
    "all_x_embedder.2-1": "x_embedder",
    "all_final_layer.2-1": "final_layer",
    ".attention.to_out.0": ".attention.out",
    ".attention.norm_q": ".attention.q_norm",
    ".attention.norm_k": ".attention.k_norm",
}

FUSED = ("to_q", "to_k", "to_v")
"""The projections in the fused tensor, from the top."""

BALLAST = ("norm_final.weight",)
"""How keys end that some files hold and the network has no use for."""


def comfy(names: Collection[str], width: int) -> dict[str, Place]:
    """Where each tensor of the transformer lies in such a file.

    Args:
        names: of the network's tensors, as diffusers calls them.
        width: features of the transformer.
    """
    return {name: _comfy(name, width) for name in names}


def _comfy(name: str, width: int) -> Place:
    for place, projection in enumerate(FUSED):
        if f".attention.{projection}." in name:
            return Place(name.replace(projection, "qkv"), rows=(place * width, (place + 1) * width))
    return Place(renamed(name))


def renamed(name: str) -> str:
    """What ComfyUI calls a tensor or a layer that is not part of a fused one."""
    for ours, theirs in RENAMED.items():
        name = name.replace(ours, theirs)
    return name
