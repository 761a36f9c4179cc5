"""ControlNets of the bases whose denoiser is a UNet: told apart by what their keys say. No torch.

SDXL's is told the picture's sizes (`label_emb`, diffusers' `add_embedding`); SD 1.x's and 2.x's are not, and differ in
the width of the texts that they read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from velatura.controlnets import ControlFiles, counted, in_folder, prefix_of, settings_in, shape_of
from velatura.errors import ModelError
from velatura.settings import WEIGHT_ENDINGS
from velatura.tensorfile import Header
from velatura.weights.containers import read_header
from velatura.weights.parts import PartFiles

NETWORK = "ControlNetModel"

UNION = "ControlNetUnionModel"
"""Of several ControlNets for SDXL in one, which is told the kind of its hint."""

KINDS = ("pose", "depth", "scribble", "canny", "normal", "segment", "tile", "inpaint")
"""Of hints, as unions number them: soft edges are scribbles, all kinds of lines canny; those with the last two are
called ProMax. Source: https://github.com/xinsir6/ControlNetPlus."""

WIDTH_OF_SD2 = 1024
"""Features of the texts that Stable Diffusion 2's networks read."""

SIGNS = {"original": "input_hint_block.0.weight", "diffusers": "controlnet_cond_embedding.conv_in.weight"}
"""Layout -> a key that every such ControlNet has."""

TOLD_SIZES = {"original": "label_emb.0.0.weight", "diffusers": "add_embedding.linear_1.weight"}


def recognise(path: Path, family: str, *, sized: bool) -> ControlFiles | None:
    """The ControlNet, where it is one for a family.

    Args:
        path: a file, or a folder in diffusers' form.
        family: its name.
        sized: whether its denoiser is told the picture's sizes.

    Raises:
        ModelError: it is for Stable Diffusion 2.x.
        FileProblem: it is cut off or damaged.
    """
    if path.is_dir():
        return _folder(path, family, sized=sized)
    if path.suffix.lower() not in WEIGHT_ENDINGS:
        return None
    header = read_header(path)
    for layout, sign in SIGNS.items():
        prefix = prefix_of(header, sign)
        if prefix is None or f"{prefix}controlnet_blocks.0.weight" in header.entries:
            continue
        _check_width(_width(header), path)
        if sized == (prefix + TOLD_SIZES[layout] in header.entries):
            found = _told(header, prefix, layout)
            # as published: the only ControlNet of its kind that says where, and not what
            pooled = {"global_pool_conditions": True} if "shuffle" in path.stem.lower() else {}
            lies = PartFiles((path,), prefix, layout)
            if count := shape_of(header, f"{prefix}task_embedding"):
                found |= {
                    "num_control_type": count[0],
                    "num_trans_channel": count[1],
                    "num_proj_channel": shape_of(header, f"{prefix}spatial_ch_projs.weight")[0],
                    "num_trans_layer": counted(header, f"{prefix}transformer_layes."),
                }
                return ControlFiles(family, UNION, path, lies, found, _kinds(count[0]))
            return ControlFiles(family, NETWORK, path, lies, {**found, **pooled})
    return None


def _folder(path: Path, family: str, *, sized: bool) -> ControlFiles | None:
    network = UNION if (told := settings_in(path, UNION)) is not None else NETWORK
    told = told or settings_in(path, NETWORK)
    if told is None or sized != (told.get("addition_embed_type") == "text_time"):
        return None
    _check_width(told.get("cross_attention_dim"), path)
    kinds = _kinds(int(told.get("num_control_type", 6))) if network == UNION else ()
    return ControlFiles(family, network, path, in_folder(path), told, kinds)


def _kinds(count: int) -> tuple[str, ...]:
    return tuple(KINDS[place] if place < len(KINDS) else str(place) for place in range(count))


def _told(header: Header, prefix: str, layout: str) -> dict[str, Any]:
    """What keys and shapes say of a network's size, where that may be otherwise than in the base's own."""
    if layout == "original":
        channels = [shape_of(header, f"{prefix}input_hint_block.{2 * place}.weight") for place in range(7)]
        return {"conditioning_embedding_out_channels": _channels(channels)}
    inner = [f"blocks.{place}" for place in range(6)]
    channels = [shape_of(header, f"{prefix}controlnet_cond_embedding.{name}.weight") for name in ("conv_in", *inner)]
    levels = counted(header, f"{prefix}down_blocks.")
    depths = [counted(header, f"{prefix}down_blocks.{at}.attentions.0.transformer_blocks.") for at in range(levels)]
    found: dict[str, Any] = {
        "conditioning_embedding_out_channels": _channels(channels),
        "down_block_types": tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths),
    }
    if not counted(header, f"{prefix}mid_block.attentions."):  # the small ones for SDXL have no attention at all
        found["mid_block_type"] = "UNetMidBlock2D"
    return found


def _channels(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Of the embedding of the hint, by its first and every second convolution."""
    return tuple(shape[0] for shape in shapes[::2] if shape)


def _width(header: Header) -> int | None:
    known = (entry.shape[1] for key, entry in header.entries.items() if key.endswith("attn2.to_k.weight"))
    return next(known, None)


def _check_width(width: object, path: Path) -> None:
    if width == WIDTH_OF_SD2:
        raise ModelError(
            "this ControlNet is for Stable Diffusion 2.x", where=path, fix="use one for Stable Diffusion 1.5 or SDXL"
        )
