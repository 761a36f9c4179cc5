"""The layers of a Z-Image base's transformer, from its settings alone; its text encoder has no adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from velatura.adapters.tables import Table, under
from velatura.families.z_image.configuration import PUBLISHED

EMBEDDED, INNER, FREQUENCIES = 256, 1024, 256
"""Features of an embedded noise level at most, of its hidden layer, and before it is embedded."""


def layers(settings: Mapping[str, Mapping[str, Any]] = PUBLISHED) -> Table:
    """Every layer that an adapter may change, with its weight's shape.

    Args:
        settings: part -> what its network is made with, as `configuration.read` returns them.
    """
    return under("denoiser", transformer(settings["denoiser"]))


def transformer(settings: Mapping[str, Any]) -> Table:
    """The denoiser's, from what `ZImageTransformer2DModel` takes."""
    width, text = int(settings["dim"]), int(settings["cap_feat_dim"])
    told = min(width, EMBEDDED)
    table: Table = {
        "t_embedder.mlp.0": (INNER, FREQUENCIES),
        "t_embedder.mlp.2": (told, INNER),
        "cap_embedder.0": (text,),
        "cap_embedder.1": (width, text),
    }
    for patch, frames in zip(settings["all_patch_size"], settings["all_f_patch_size"], strict=True):
        pixels = int(patch) ** 2 * int(frames) * int(settings["in_channels"])
        table[f"all_x_embedder.{patch}-{frames}"] = (width, pixels)
        table[f"all_final_layer.{patch}-{frames}.linear"] = (pixels, width)
        table[f"all_final_layer.{patch}-{frames}.adaLN_modulation.1"] = (width, told)
    refiners = int(settings["n_refiner_layers"])
    for kind, count in (("noise_refiner", refiners), ("context_refiner", refiners), ("layers", settings["n_layers"])):
        for block in range(int(count)):
            table |= under(f"{kind}.{block}", _block(settings, width))
            if kind != "context_refiner":
                table[f"{kind}.{block}.adaLN_modulation.0"] = (4 * width, told)
    return table


def _block(settings: Mapping[str, Any], width: int) -> Table:
    heads, held = int(settings["n_heads"]), int(settings["n_kv_heads"])
    head, inner = width // heads, int(width / 3 * 8)
    return {
        "attention.to_q": (heads * head, width),
        "attention.to_k": (held * head, width),
        "attention.to_v": (held * head, width),
        "attention.to_out.0": (width, heads * head),
        **({f"attention.norm_{half}": (head,) for half in "qk"} if settings.get("qk_norm", True) else {}),
        **{f"feed_forward.{name}": (inner, width) for name in ("w1", "w3")},
        "feed_forward.w2": (width, inner),
        **{norm: (width,) for norm in ("attention_norm1", "ffn_norm1", "attention_norm2", "ffn_norm2")},
    }
