"""Loading a Stable Diffusion 1.x base from a diffusers folder or a single file in the original layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from velatura.adapters.layers import find
from velatura.adapters.weights import layer_name
from velatura.diffusion.objective import Objective
from velatura.errors import ModelError
from velatura.families.sd15 import checkpoint, configuration, vocabulary
from velatura.families.sd15.configuration import FOLDERS
from velatura.families.sd15.keys import OLD_VAE_ATTENTION
from velatura.families.sd15.recognise import VARIANT
from velatura.family import MemoryPolicy, Model
from velatura.settings import base_name
from velatura.tensorfile import read_header
from velatura.text import clip_tokens
from velatura.weights.source import BaseFolder

if TYPE_CHECKING:
    from velatura.family import ModelFamily

AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")


def load(family: ModelFamily, source: Path, base_hash: str, policy: MemoryPolicy) -> Model:
    """The base with its networks on the policy's device.

    Args:
        base_hash: sha256 of the whole base.

    Raises:
        ModelError: a part is missing, damaged, or of a kind that is not known.
    """
    told = configuration.read(source)
    vae = told.parts["vae"]
    _check_input(told.parts["denoiser"], vae, source)
    networks = {part: _network(part, config, source) for part, config in told.parts.items()}
    own = {part: dict(network.state_dict()) for part, network in networks.items()}
    if source.is_file():
        checkpoint.check_complete(read_header(source), source)
        weights = checkpoint.weights(source, own)
        tokenizer = vocabulary.load(source, told.parts["text_encoder"])
    else:
        weights = _of_folder(source, own)
        tokenizer = clip_tokens.load(source / "tokenizer")
    parts: dict[str, nn.Module] = {}
    for part, network in networks.items():
        dtype = policy.vae_dtype if part == "vae" else policy.dtype
        # diffusers overrides `to` with warnings that do not concern a network filled here
        parts[part] = nn.Module.to(_filled(network, weights[part], part, source), policy.device, dtype)
    model = Model(
        family=family,
        variant=VARIANT,
        name=base_name(source),
        hash=base_hash,
        objective=Objective.from_scheduler(told.scheduler),
        parts=parts,
        pristine=_pristine(parts, weights),
        tokenizers=(tokenizer,),
        resolution=told.resolution,
        latent_channels=int(vae["latent_channels"]),
        latent_factor=told.latent_factor,
        latent_scale=float(vae.get("scaling_factor", 1.0 if told.tiny_autoencoder else 0.18215)),
        latent_shift=float(vae.get("shift_factor") or 0.0),
        policy=policy,
    )
    model.freeze()
    return model


def _check_input(denoiser: dict[str, Any], vae: dict[str, Any], source: Path) -> None:
    taken, given = denoiser.get("in_channels", 4), vae.get("latent_channels", 4)
    if taken != given:
        raise ModelError(
            f"the denoiser takes {taken} channels and the latents have {given}: this is an inpainting base",
            where=source,
            fix="use the base that it was made from",
        )


def _network(part: str, config: dict[str, Any], source: Path) -> nn.Module:
    """An empty network of the part's kind, its weights not allocated."""
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    with torch.device("meta"):
        if part == "denoiser":
            from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

            network: nn.Module = UNet2DConditionModel.from_config(settings)
        elif part == "vae":
            network = _autoencoder(str(config.get("_class_name")), settings, source)
        else:
            from transformers.models.clip.configuration_clip import CLIPTextConfig
            from transformers.models.clip.modeling_clip import CLIPTextModel

            network = CLIPTextModel(CLIPTextConfig(**settings))
    return network


def _autoencoder(kind: str, settings: dict[str, Any], source: Path) -> nn.Module:
    if kind not in AUTOENCODERS:
        raise ModelError(f"the autoencoder of this base is a {kind}", where=source, fix=f"use {AUTOENCODERS[0]}")
    if kind == "AutoencoderTiny":
        from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

        tiny: nn.Module = AutoencoderTiny.from_config(settings)
        return tiny
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    full: nn.Module = AutoencoderKL.from_config(settings)
    return full


def _of_folder(source: Path, own: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Each part's tensors under the names of its network, mapped from the folder's files."""
    named: dict[str, dict[str, Tensor]] = {}
    for part, place in FOLDERS.items():
        current = _text_key if part == "text_encoder" else _attention_key
        held = BaseFolder(source).weights(place)
        named[part] = {current(key, own[part]): tensor for key, tensor in held.items()}
    return named


def _filled(network: nn.Module, weights: dict[str, Tensor], part: str, source: Path) -> nn.Module:
    """The network with a copy of these weights, in fp32; every key must find its place.

    Raises:
        ModelError: keys are missing, left over, or of another shape.
    """
    own = dict(network.state_dict())
    # position_ids are counted, not learnt; old files hold them
    learnt = {key: value for key, value in weights.items() if not key.endswith("position_ids")}
    wrong = sorted(set(own) ^ set(learnt)) or sorted(key for key in own if own[key].shape != learnt[key].shape)
    wrong = [key for key in wrong if not key.endswith("position_ids")]
    if wrong:
        raise ModelError(
            f"the {part}'s weights do not fit its settings: {wrong[0]} ({len(wrong)} keys)",
            where=source,
            fix="fetch the base again",
        )
    network.to_empty(device="cpu")
    network.float()
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if key in learnt:
                tensor.copy_(learnt[key])
        for module in network.modules():
            positions = getattr(module, "position_ids", None)
            if isinstance(positions, Tensor):
                positions.copy_(torch.arange(positions.shape[-1]).expand_as(positions))
    return network


def _text_key(key: str, own: dict[str, Tensor]) -> str:
    """Text encoders are written with or without `text_model.`, by version of transformers."""
    if key in own:
        return key
    other = key.removeprefix("text_model.") if key.startswith("text_model.") else f"text_model.{key}"
    return other if other in own else key


def _attention_key(key: str, own: dict[str, Tensor]) -> str:
    """An autoencoder's attention by its present name."""
    parent, _, rest = key.rpartition(".attentions.0.")
    layer, _, kind = rest.partition(".")
    other = f"{parent}.attentions.0.{OLD_VAE_ATTENTION.get(layer, layer)}.{kind}"
    return other if key not in own and other in own else key


def _pristine(parts: dict[str, nn.Module], weights: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mapped weight of every layer that can be adapted."""
    pristine: dict[str, Tensor] = {}
    adaptable = find({part: network for part, network in parts.items() if part != "vae"})
    for part in ("denoiser", "text_encoder"):
        for key, tensor in weights[part].items():
            name = layer_name(part, key.removesuffix(".weight"))
            if key.endswith(".weight") and name in adaptable:
                pristine[f"{name}.weight"] = tensor
    return pristine
