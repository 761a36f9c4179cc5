"""The names in CLIP text encoders: with or without `text_model.` before them, and those of OpenCLIP.

    transformers    text_model.encoder.layers.0.self_attn.q_proj.weight     (D, D)
    older merges    encoder.layers.0.self_attn.q_proj.weight                (D, D)
    OpenCLIP        transformer.resblocks.0.attn.in_proj_weight             (3 D, D): q, k and v in one

OpenCLIP multiplies by its text projection from the other side, so that matrix is transposed.
Source: https://github.com/mlfoundations/open_clip (transformer.py).
"""

from __future__ import annotations

from collections.abc import Collection

from velatura.errors import ModelError
from velatura.weights.layouts import Place

BALLAST = ("position_ids", "logit_scale", "text_projection", "text_projection.weight")
"""How keys end that a text encoder may hold and this network has no use for."""

OPENCLIP = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}

OPENCLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}

OPENCLIP_ROWS = {"self_attn.q_proj": 0, "self_attn.k_proj": 1, "self_attn.v_proj": 2}


def transformers(names: Collection[str], keys: Collection[str]) -> dict[str, Place]:
    """Where each tensor lies in a file of transformers' names, with or without `text_model.` on either side.

    Args:
        names: of the network's tensors.
        keys: of the file, without the part's prefix.
    """
    held = set(keys)
    places = {}
    for name in names:
        plain = name.removeprefix("text_model.")
        found = next((key for key in (name, plain, f"text_model.{plain}") if key in held), None)
        if found is not None:
            places[name] = Place(found)
    return places


def openclip(names: Collection[str], width: int) -> dict[str, Place]:
    """Where each tensor lies in a file of OpenCLIP's names.

    Args:
        width: features of the text encoder.

    Raises:
        ModelError: a tensor has no name there.
    """
    return {name: _openclip(name.removeprefix("text_model."), width) for name in names}


def _openclip(name: str, width: int) -> Place:
    if name in OPENCLIP:
        return Place(OPENCLIP[name])
    if name == "text_projection.weight":
        return Place("text_projection", transposed=True)
    path, _, kind = name.rpartition(".")
    match path.split(".", 3):
        case ["encoder", "layers", number, inner] if inner in OPENCLIP_ROWS:
            first = OPENCLIP_ROWS[inner] * width
            return Place(f"transformer.resblocks.{number}.attn.in_proj_{kind}", rows=(first, first + width))
        case ["encoder", "layers", number, inner] if inner in OPENCLIP_LAYER:
            return Place(f"transformer.resblocks.{number}.{OPENCLIP_LAYER[inner]}.{kind}")
    raise ModelError(f"{name} has no name in OpenCLIP's layout", fix="use this base as a diffusers folder")
