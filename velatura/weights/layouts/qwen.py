"""The names of a Qwen language model: its body alone, or the whole model with `model.` before every name.

    Qwen3Model          layers.0.self_attn.q_proj.weight
    Qwen3ForCausalLM    model.layers.0.self_attn.q_proj.weight

The files of diffusers folders, and those that ComfyUI reads, are of the second kind.
"""

from __future__ import annotations

from collections.abc import Collection

from velatura.weights.layouts import Place

BALLAST = ("lm_head.weight",)
"""How keys end that serve to write text, which here is only read."""


def transformers(names: Collection[str], keys: Collection[str]) -> dict[str, Place]:
    """Where each tensor lies in a file of either kind.

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
