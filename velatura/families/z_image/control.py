"""ControlNets of Z-Image at work: they share what the denoiser has before its layers, and speak to some of the layers.

Shape suffixes: B batch, C channels, H and W height and width.
Source: diffusers' ZImageControlNetModel and its pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from velatura.controlling import hint_for, loaded, of_the_base
from velatura.controlnets import ControlFiles
from velatura.families.z_image.controlnet import places
from velatura.family import Control, ControlNet, Model
from velatura.weights.source import held

SETTINGS = ("all_patch_size", "all_f_patch_size", "dim", "n_heads", "n_kv_heads", "norm_eps", "qk_norm")
"""What a ControlNet has of the denoiser."""


def load(model: Model, files: ControlFiles) -> ControlNet:
    """A ControlNet.

    Raises:
        ModelError: as `controlling.loaded`.
    """
    told = dict(files.settings) if files.described else _settings(model, files)
    unused = _refiner(files) if told.get("add_control_noise_refiner") == "control_layers" else ()
    return loaded(model, files, told, lambda _: {}, passed_over=unused)


def _settings(model: Model, files: ControlFiles) -> dict[str, Any]:
    """Of the network of a file."""
    told = {**of_the_base(model, SETTINGS), **files.settings}
    refiners = told["n_refiner_layers"] or int(of_the_base(model, ("n_refiner_layers",))["n_refiner_layers"])
    told["control_layers_places"] = places(
        int(of_the_base(model, ("n_layers",))["n_layers"]), told.pop("layers"), files.path
    )
    told["n_refiner_layers"] = refiners
    told["add_control_noise_refiner"] = None
    if told["control_in_dim"] != model.latent_channels:
        told["control_refiner_layers_places"] = list(range(refiners))
        told["add_control_noise_refiner"] = "control_noise_refiner" if _trained(files) else "control_layers"
    return told


def _refiner(files: ControlFiles) -> tuple[str, ...]:
    return tuple(key for key in held(files.lies) if key.startswith("control_noise_refiner."))


def _trained(files: ControlFiles) -> bool:
    """Whether the layers that refine the noise are: those of version 2.0 were left as they began, at zero."""
    weights, key = held(files.lies), "control_noise_refiner.0.before_proj.weight"
    return key in weights and bool(weights[key].any())


def widened(net: ControlNet, latents_BCHW: Tensor) -> Tensor:
    """Latents with as many channels as the network takes, zeros behind them."""
    network: Any = net.network
    missing = int(network.config.control_in_dim) - latents_BCHW.shape[1]
    return torch.nn.functional.pad(latents_BCHW, (0, 0, 0, 0, 0, missing))


def arguments(
    model: Model, controls: Sequence[Control], pictures: list[Tensor], done_B: Tensor, captions: list[Tensor]
) -> dict[str, Any]:
    """What ControlNets add to the denoiser, as its argument; empty where there are none.

    Args:
        model: the base.
        controls: those at work.
        pictures: the denoiser's other arguments, as are the rest.
        done_B: see `pictures`.
        captions: see `pictures`.
    """
    if not controls:
        return {}
    denoiser: Any = model.parts["denoiser"]
    if model.turns is not None:
        model.turns.need("denoiser")  # what it shares is not there before it is called
    total: dict[int, Tensor] = {}
    for control in controls:
        network: Any = control.net.network
        network.from_transformer(network, denoiser)
        hint_BCHW = hint_for(control, torch.stack(pictures).squeeze(2))
        weight_B11 = control.weight_B.to(hint_BCHW)[:, None, None]  # also of what it tells itself on the way
        hints = list(hint_BCHW.unsqueeze(2))
        said = network(list(pictures), done_B, list(captions), hints, conditioning_scale=weight_B11)
        for layer, added in said.items():
            total[layer] = total[layer] + added if layer in total else added
    return {"controlnet_block_samples": total}
