"""ControlNets of FLUX.1 at work.

A ControlNet may have fewer blocks than the denoiser: what a block of it adds goes to as many blocks in a row as there
are to each of its own; XLabs' begin again from the first.

Shape suffixes: B batch, L tokens, D features.
Source: diffusers' FluxControlNetModel and FluxTransformer2DModel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from velatura.controlling import hint_for, loaded, of_the_base, summed, weighed
from velatura.controlnets import ControlFiles
from velatura.families.flux1.configuration import PATCH
from velatura.families.flux1.controlnet import places
from velatura.family import Control, ControlNet, Model
from velatura.weights.layouts import Place

SETTINGS = (
    "attention_head_dim",
    "axes_dims_rope",
    "joint_attention_dim",
    "num_attention_heads",
    "pooled_projection_dim",
)
"""What a ControlNet has of the denoiser."""


def load(model: Model, files: ControlFiles) -> ControlNet:
    """A ControlNet.

    Raises:
        ModelError: as `controlling.loaded`.
    """
    told = dict(files.settings)
    if not files.described:
        told = {**of_the_base(model, SETTINGS), "in_channels": model.latent_channels * PATCH**2, **told}

    def lie(network: nn.Module) -> Mapping[str, Place]:
        if files.lies.layout == "diffusers":
            return {}
        return places({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})

    return loaded(model, files, told, lie)


def sees_pictures(net: ControlNet) -> bool:
    """Whether a network sees the picture and not its latents, as XLabs' do."""
    network: Any = net.network
    return network.input_hint_block is not None


def arguments(model: Model, controls: Sequence[Control], told: Mapping[str, Any]) -> dict[str, Any]:
    """What ControlNets add to the denoiser, as its arguments; empty where there are none.

    Args:
        model: the base.
        controls: those at work.
        told: the denoiser's other arguments.
    """
    if not controls:
        return {}
    denoiser: Any = model.parts["denoiser"]
    blocks, single = len(denoiser.transformer_blocks), len(denoiser.single_transformer_blocks)
    every = [_added(control, blocks, single, told) for control in controls]
    both = summed(every)
    return {"controlnet_block_samples": both[:blocks], "controlnet_single_block_samples": both[blocks:]}


def _added(control: Control, blocks: int, single: int, told: Mapping[str, Any]) -> list[Tensor]:
    """What a ControlNet adds to each of the denoiser's blocks, the single ones behind the others."""
    network: Any = control.net.network
    own = dict(told)
    noisy_BLD = own["hidden_states"]
    if not network.config.guidance_embeds:
        own["guidance"] = None
    elif own["guidance"] is None:  # of a base that is told no guidance: as its training data is
        own["guidance"] = torch.ones(len(noisy_BLD), device=noisy_BLD.device)
    if control.net.files.kinds:
        own["controlnet_mode"] = torch.full((len(noisy_BLD), 1), control.kind, device=noisy_BLD.device)
    double, after = network(**own, controlnet_cond=hint_for(control, noisy_BLD), conditioning_scale=1.0)
    again = sees_pictures(control.net)
    spread = [*_spread(double, blocks, noisy_BLD, again=again), *_spread(after, single, noisy_BLD)]
    return weighed(control, spread)


def _spread(added: Sequence[Tensor] | None, count: int, noisy_BLD: Tensor, *, again: bool = False) -> list[Tensor]:
    """For each of so many blocks what is added to it."""
    if not added:
        return [noisy_BLD.new_zeros((1, 1, 1))] * count
    if again:
        return [added[block % len(added)] for block in range(count)]
    each = math.ceil(count / len(added))
    return [added[block // each] for block in range(count)]
