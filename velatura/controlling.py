"""ControlNets at work: loaded beside a base, and what they add to its denoiser. What families do alike.

Shape suffixes: B batch, C channels, H and W height and width, L tokens, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from velatura.controlnets import ControlFiles, check_family
from velatura.errors import ModelError
from velatura.family import Control, ControlNet, Model
from velatura.weights.layouts import Place, stable_diffusion
from velatura.weights.networks import build, fill
from velatura.weights.source import Weights, held

FADING = 0.825
"""A soft ControlNet's weight falls by this from each layer to the one before."""

LAYERS = 13
"""What a ControlNet of Stable Diffusion 1.x adds, by which A1111 counts: SDXL's are the first ten of them."""

MISFIT = "the ControlNet's weights do not fit its settings: "
"""How it is said of networks in general, whose settings are their own."""

Added = list[Tensor]
"""What one ControlNet adds to the denoiser's layers, in their order."""


def loaded(
    model: Model,
    files: ControlFiles,
    settings: Mapping[str, Any],
    places: Callable[[nn.Module], Mapping[str, Place]],
    passed_over: Sequence[str] = (),
) -> ControlNet:
    """A ControlNet with a copy of its weights.

    Args:
        model: the base, whose precision and device it shares.
        files: where it lies.
        settings: of its network.
        places: where the tensors of its network lie that bear other names in its file.
        passed_over: endings of keys that the network has no use for.

    Raises:
        ModelError: it is for another family, or does not fit the base.
    """
    check_family(files, model.variant.family, model.name)
    network = build(files.network, settings, files.path)
    weights = Weights(held(files.lies), places(network))
    policy = model.policy
    try:
        fill(
            network,
            weights,
            part="ControlNet",
            where=files.path,
            device=policy.device,
            dtype=policy.dtype,
            passed_over=passed_over,
        )
    except ModelError as error:
        raise ModelError(
            f"this ControlNet does not fit the base {model.name}: {error.what.removeprefix(MISFIT)}",
            where=files.path,
            fix="use one that was made for bases of this size",
        ) from error
    network.requires_grad_(False)
    network.eval()
    return ControlNet(_name(files), files.hash, files, network)


def _name(files: ControlFiles) -> str:
    return files.path.resolve().name if files.path.is_dir() else files.path.stem


def of_the_base(model: Model, names: Sequence[str]) -> dict[str, Any]:
    """Settings of the base's denoiser, as far as it has them."""
    denoiser: Any = model.parts["denoiser"]
    told = dict(denoiser.config)
    return {name: told[name] for name in names if name in told}


UNET_SETTINGS = (
    "act_fn",
    "addition_embed_type",
    "addition_time_embed_dim",
    "attention_head_dim",
    "block_out_channels",
    "cross_attention_dim",
    "down_block_types",
    "downsample_padding",
    "flip_sin_to_cos",
    "freq_shift",
    "layers_per_block",
    "mid_block_scale_factor",
    "norm_eps",
    "norm_num_groups",
    "num_attention_heads",
    "projection_class_embeddings_input_dim",
    "resnet_time_scale_shift",
    "transformer_layers_per_block",
    "upcast_attention",
    "use_linear_projection",
)
"""What a ControlNet of a UNet has of it: it is a copy of its first half."""


def load_for_unet(model: Model, files: ControlFiles) -> ControlNet:
    """A ControlNet of a UNet.

    Raises:
        ModelError: as `loaded`; or it makes of a hint something of another size than the base's latents.
    """
    settings = dict(files.settings)
    if not files.described:
        settings = {**of_the_base(model, UNET_SETTINGS), "in_channels": model.latent_channels, **settings}
    taken = settings.get("in_channels", 4)
    if taken != model.latent_channels:
        raise ModelError(
            f"this ControlNet takes latents of {taken} channels, those of the base {model.name} have"
            f" {model.latent_channels}",
            where=files.path,
            fix="use one that was made for this base",
        )
    halvings = len(settings.get("conditioning_embedding_out_channels") or (16, 32, 96, 256)) - 1
    if model.latent_factor != 2**halvings:
        raise ModelError(
            f"this ControlNet makes a hint {2**halvings} times smaller, and the base {model.name} a picture"
            f" {model.latent_factor} times",
            where=files.path,
            fix="use one that was made for this base",
        )

    def places(network: nn.Module) -> Mapping[str, Place]:
        return {} if files.lies.layout == "diffusers" else stable_diffusion.controlnet(network.state_dict())

    pooled = bool(settings.get("global_pool_conditions"))
    return replace(loaded(model, files, settings, places), layered=True, pooled=pooled)


def unet_arguments(controls: Sequence[Control], noisy_BCHW: Tensor, *told: Tensor, **more: Any) -> dict[str, Any]:
    """What ControlNets add to a UNet, as its arguments; empty where there are none.

    Args:
        controls: those at work.
        noisy_BCHW: as the UNet takes it.
        told: timestep and text, as the UNet takes them.
        more: further arguments of UNet and ControlNet.
    """
    if not controls:
        return {}
    every = [_unet(control, noisy_BCHW, *told, **more) for control in controls]
    *down, mid = summed(every)
    return {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": mid}


def _unet(control: Control, noisy_BCHW: Tensor, timestep_B: Tensor, tokens_BLD: Tensor, **more: Any) -> Added:
    network: Any = control.net.network
    hint_BCHW = hint_for(control, noisy_BCHW)
    shown: dict[str, Any] = {"controlnet_cond": hint_BCHW}
    if kinds := control.net.files.kinds:  # a union, which takes several hints at once, each of its kind
        which = torch.zeros(len(noisy_BCHW), len(kinds), device=noisy_BCHW.device, dtype=noisy_BCHW.dtype)
        which[:, control.kind] = 1
        shown = {"controlnet_cond": [hint_BCHW], "control_type": which, "control_type_idx": [control.kind]}
    down, mid = network(noisy_BCHW, timestep_B, encoder_hidden_states=tokens_BLD, return_dict=False, **shown, **more)
    every = weighed(control, [*down, mid])
    if not control.soft:
        return every
    return [added * FADING ** (LAYERS - 1 - layer) for layer, added in enumerate(every)]


def hint_for(control: Control, noisy: Tensor) -> Tensor:
    """The hint for every sample of a batch, on its device and in its precision."""
    hint = control.hint_BCHW.to(noisy)
    return hint if len(hint) == len(noisy) else hint.expand(len(noisy), *hint.shape[1:])


def weighed(control: Control, added: Sequence[Tensor]) -> Added:
    """What a ControlNet adds, as much of it as each sample is to have."""
    return [one * control.weight_B.to(one).reshape(-1, *[1] * (one.dim() - 1)) for one in added]


def summed(every: Sequence[Added]) -> Added:
    """What several ControlNets add, layer by layer."""
    first, *others = every
    total = list(first)
    for one in others:
        total = [mine + theirs for mine, theirs in zip(total, one, strict=True)]
    return total
