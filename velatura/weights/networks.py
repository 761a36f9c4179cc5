"""Networks built empty, by the names of their classes, and filled from mapped weights.

A network is built without memory for its parameters; each tensor is then copied once, in the precision and on
the device where it stays. Classes are imported where they are used: each costs seconds.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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
    "ControlNetModel": "diffusers.models.controlnets.controlnet",
    "ControlNetUnionModel": "diffusers.models.controlnets.controlnet_union",
    "FluxControlNetModel": "diffusers.models.controlnets.controlnet_flux",
    "ZImageControlNetModel": "diffusers.models.controlnets.controlnet_z_image",
}

TRANSFORMERS = {
    "CLIPTextModel": ("transformers.models.clip", "CLIPTextConfig"),
    "CLIPTextModelWithProjection": ("transformers.models.clip", "CLIPTextConfig"),
    "T5EncoderModel": ("transformers.models.t5", "T5Config"),
    "Qwen3Model": ("transformers.models.qwen3", "Qwen3Config"),
}

COUNTED = "position_ids"
"""Positions are counted, not learnt; old files hold them."""

BALLAST = re.compile(
    r"(^|\.)position_ids$"
    r"|^(model_)?ema\."  # a second copy of the weights, averaged over the training
    r"|^loss\."  # of an autoencoder's own training
    r"|^(sqrt_|log_)?(one_minus_|recip_|recipm1_)?(alphas|betas)(_|$)"  # noise schedules, which settings say
    r"|^posterior_|^(lvlb_weights|logvar|scale_factor|denoiser\.sigmas)$"
    r"|^(v_pred|ztsnr|edm_mean|edm_std)$"  # marks of v-prediction and such, read from the header
)
"""Keys that files are known to hold and no network has a use for."""


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
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # diffusers' classes use names that it will give up
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


@dataclass(frozen=True)
class Slot:
    """Where one tensor of a network belongs. It stays right when adapters are put in the place of layers."""

    holder: nn.Module
    name: str
    parameter: bool
    shape: torch.Size

    def put(self, tensor: Tensor) -> None:
        """Give the network this tensor."""
        if self.parameter:
            setattr(self.holder, self.name, nn.Parameter(tensor, requires_grad=False))
        else:
            self.holder.register_buffer(self.name, tensor)


def slots(network: nn.Module) -> dict[str, Slot]:
    """Where the tensors belong that a network has from its files."""
    found = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        if not name.endswith(COUNTED):
            parent, _, last = name.rpartition(".")
            found[name] = Slot(network.get_submodule(parent), last, isinstance(tensor, nn.Parameter), tensor.shape)
    return found


def check(places: Mapping[str, Slot], weights: Mapping[str, Tensor], *, part: str, where: Path) -> None:
    """Whether these weights are the network's.

    Raises:
        ModelError: keys are missing, or of another shape.
    """
    if missing := sorted(name for name in places if name not in weights):
        raise _misfit(part, f"{listed(missing)} missing", where)
    misshapen = []
    for name, slot in places.items():
        if (given := weights[name]).shape != slot.shape:
            misshapen.append(f"{name} is {_sizes(given.shape)} and not {_sizes(slot.shape)}")
    if misshapen:
        raise _misfit(part, listed(sorted(misshapen)), where)


def unused(network: nn.Module, weights: Mapping[str, Tensor], passed_over: Collection[str] = ()) -> tuple[str, ...]:
    """The keys that the network has no use for and that are not known as ballast, for the user to be told.

    Args:
        passed_over: endings of keys that the files may hold and the network has no use for, besides `BALLAST`.
    """
    own, ends = set(network.state_dict()), tuple(passed_over)
    return tuple(
        sorted(name for name in weights if name not in own and not name.endswith(ends) and not BALLAST.search(name))
    )


def count_positions(network: nn.Module, *, part: str, device: str) -> None:
    """Give an empty network what it has from no file."""
    for module in network.modules():
        positions = getattr(module, COUNTED, None)
        if isinstance(positions, Tensor):
            counted = torch.arange(positions.shape[-1], device=device).expand(positions.shape)
            module.register_buffer(COUNTED, counted, persistent=False)
    own = network.state_dict()
    if left := [name for name, tensor in network.named_buffers() if tensor.is_meta and name not in own]:
        raise ValueError(f"{left[0]} of the {part} is in no file: its family must give it")


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
) -> tuple[str, ...]:
    """Give an empty network a copy of these weights.

    Args:
        passed_over: as for `unused`, whose answer this returns.

    Raises:
        ModelError: keys are missing, or of another shape.
    """
    places = slots(network)
    check(places, weights, part=part, where=where)
    left = unused(network, weights, passed_over)
    for name, slot in places.items():
        slot.put(copied(weights[name], dtype=dtype, device=device))
    count_positions(network, part=part, device=device)
    return left


def copied(tensor: Tensor, *, dtype: torch.dtype, device: str) -> Tensor:
    """A copy, made once."""
    return torch.empty(tensor.shape, dtype=dtype, device=device).copy_(tensor)


def _misfit(part: str, what: str, where: Path) -> ModelError:
    return ModelError(f"the {part}'s weights do not fit its settings: {what}", where=where, fix="fetch the base again")


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first few of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _sizes(shape: torch.Size) -> str:
    return " x ".join(map(str, shape)) or "a single number"
