"""Networks built empty, by the names of their classes, and filled from mapped weights.

A network is built without memory for its parameters; each tensor is then copied once, in the precision and on
the device where it stays. Classes are imported where they are used: each costs seconds.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from velatura.errors import ModelError

DIFFUSERS = {
    "UNet2DConditionModel": "diffusers.models.unets.unet_2d_condition",
    "AutoencoderKL": "diffusers.models.autoencoders.autoencoder_kl",
    "AutoencoderTiny": "diffusers.models.autoencoders.autoencoder_tiny",
    "FluxTransformer2DModel": "diffusers.models.transformers.transformer_flux",
    "ZImageTransformer2DModel": "diffusers.models.transformers.transformer_z_image",
}

TRANSFORMERS = {
    "CLIPTextModel": ("transformers.models.clip", "CLIPTextConfig"),
    "CLIPTextModelWithProjection": ("transformers.models.clip", "CLIPTextConfig"),
    "T5EncoderModel": ("transformers.models.t5", "T5Config"),
    "Qwen3Model": ("transformers.models.qwen3", "Qwen3Config"),
}


def build(kind: str, config: Mapping[str, Any], where: Path) -> nn.Module:
    """An empty network of diffusers' or transformers' class of this name.

    Raises:
        ModelError: the class is none of those used here, or its settings do not fit it.
    """
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    if kind not in DIFFUSERS and kind not in TRANSFORMERS:
        known = ", ".join([*DIFFUSERS, *TRANSFORMERS])
        raise ModelError(f"a part of this base is a {kind}", where=where, fix=f"known are {known}")
    try:
        with torch.device("meta"):
            if kind in DIFFUSERS:
                network: nn.Module = getattr(importlib.import_module(DIFFUSERS[kind]), kind).from_config(settings)
                return network
            package, config_class = TRANSFORMERS[kind]
            name = package.rpartition(".")[2]
            configuration = getattr(importlib.import_module(f"{package}.configuration_{name}"), config_class)
            made = getattr(importlib.import_module(f"{package}.modeling_{name}"), kind)(configuration(**settings))
            network = made
            return network
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ModelError(f"the settings of the base's {kind} are damaged", where=where, fix="fetch it again") from error


@torch.no_grad()
def fill(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    part: str,
    where: Path,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    passed_over: Collection[str] = (),
) -> None:
    """Give an empty network a copy of these weights; every key must find its place.

    Args:
        passed_over: endings of keys that the files may hold and the network has no use for.

    Raises:
        ModelError: keys are missing, left over, or of another shape.
    """
    own = dict(network.state_dict(keep_vars=True))
    ends = (*passed_over, "position_ids")  # positions are counted, not learnt; old files hold them
    offered = {name for name in weights if name in own or not name.endswith(ends)}
    wanted = {name for name in own if not name.endswith("position_ids")}
    wrong = sorted(offered ^ wanted)
    wrong = [name for name in wrong if not name.endswith("position_ids")]
    for name in own if not wrong else ():
        if name not in weights:
            continue
        given = weights[name]
        if given.shape != own[name].shape:
            wrong.append(name)
            continue
        filled = torch.empty(given.shape, dtype=dtype, device=device)
        filled.copy_(given)
        parent, _, last = name.rpartition(".")
        holder = network.get_submodule(parent)
        if isinstance(own[name], nn.Parameter):
            setattr(holder, last, nn.Parameter(filled, requires_grad=False))
        else:
            holder.register_buffer(last, filled)
    if wrong:
        raise ModelError(
            f"the {part}'s weights do not fit its settings: {wrong[0]} ({len(wrong)} keys)",
            where=where,
            fix="fetch the base again",
        )
    for module in network.modules():
        positions = getattr(module, "position_ids", None)
        if isinstance(positions, Tensor):
            counted = torch.arange(positions.shape[-1], device=device).expand(positions.shape)
            module.register_buffer("position_ids", counted, persistent=False)
    left = [name for name, tensor in network.named_buffers() if tensor.is_meta]
    if left:
        raise ValueError(f"{left[0]} of the {part} is in no file: its family must give it")
