"""Tiny ControlNets with random weights for the tiny bases, none of them zero: as folders, files and networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests import tiny, tiny_flux1, tiny_sdxl, tiny_z_image

HALF = ("sample_size", "in_channels", "out_channels", "up_block_types")
"""What a UNet has and its ControlNet has not."""


def network(family: str, *, seed: int = 11, union: int = 0, **changed: Any) -> Any:
    """diffusers' own, drawn anew.

    Args:
        family: of the base.
        seed: of the weights.
        union: for SDXL, how many kinds of hints it knows and is told.
        changed: settings.
    """
    if family in ("sd15", "sdxl"):
        from diffusers.models.controlnets.controlnet import ControlNetModel

        unet = {"sd15": tiny.UNET, "sdxl": tiny_sdxl.UNET}[family]
        told = {name: value for name, value in unet.items() if name not in HALF}
        told["conditioning_embedding_out_channels"] = (4, 6, 8, 10)
        made: Any = ControlNetModel
        if union:
            from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel

            width = tiny_sdxl.UNET["block_out_channels"][0]
            told |= {"num_control_type": union, "num_trans_channel": width, "num_proj_channel": width}
            made = ControlNetUnionModel
        made = made(**{**told, **changed})
    elif family == "flux1":
        from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel

        made = FluxControlNetModel(**{**tiny_flux1.TRANSFORMER, "num_layers": 1, "num_single_layers": 1, **changed})
    else:
        from diffusers.models.controlnets.controlnet_z_image import ZImageControlNetModel

        told = {"all_patch_size": (2,), "all_f_patch_size": (1,), "control_layers_places": [0, 1], "control_in_dim": 16}
        told |= {name: tiny_z_image.TRANSFORMER[name] for name in ("dim", "n_heads", "n_kv_heads", "n_refiner_layers")}
        made = ZImageControlNetModel(**{**told, **changed})
    tiny.redraw(made, seed, "controlnet")
    for name, parameter in made.named_parameters():
        # eight layers, each of which makes the hint fainter
        if name.endswith(("cond_embedding.conv_out.weight", "hint_block.conv_out.weight")):
            parameter.data *= 60
    return made.eval().requires_grad_(False)


def written(folder: Path, made: Any) -> Path:
    """A network as a folder of diffusers'."""
    made.save_pretrained(folder)
    return folder
