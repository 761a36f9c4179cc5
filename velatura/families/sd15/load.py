"""Loading a Stable Diffusion 1.x base from a diffusers folder or files in the original layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from velatura.bases import Base, base_hash
from velatura.diffusion.objective import Objective
from velatura.errors import ModelError
from velatura.families.sd15 import configuration
from velatura.families.sd15.configuration import CLASSES, PARTS
from velatura.family import MemoryPolicy, Model, Pristine
from velatura.settings import base_name
from velatura.text import clip_files, clip_tokens
from velatura.weights.layouts import Place, clip, stable_diffusion
from velatura.weights.networks import build, fill
from velatura.weights.source import Weights, held

if TYPE_CHECKING:
    from velatura.family import ModelFamily

AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")


def load(family: ModelFamily, base: Base, policy: MemoryPolicy) -> Model:
    """The base with its networks on the policy's device.

    Raises:
        ModelError: a part is missing, damaged, or of a kind that is not known.
    """
    told = configuration.read(base)
    vae = told.parts["vae"]
    _check(told.parts["denoiser"], vae, base)
    parts: dict[str, nn.Module] = {}
    weights: dict[str, Weights] = {}
    unused: dict[str, tuple[str, ...]] = {}
    for kind in PARTS:
        part, settings = kind.name, told.parts[kind.name]
        network = build(
            settings.get("_class_name", CLASSES[part]) if part == "vae" else CLASSES[part], settings, base.source
        )
        weights[part] = _weights(part, network, base)
        unused[part] = fill(
            network,
            weights[part],
            part=part,
            where=base.source,
            device=policy.device,
            dtype=policy.vae_dtype if part == "vae" else policy.dtype,
            passed_over=clip.BALLAST if part == "text_encoder" else (),
        )
        parts[part] = network
    if base.source.is_dir():
        tokenizer = clip_tokens.load(base.source / "tokenizer")
    else:
        tokenizer = clip_files.load(base.parts["text_encoder"].files[0], told.parts["text_encoder"])
    model = Model(
        family=family,
        variant=base.variant,
        name=base_name(base.source),
        hash=base_hash(base),
        objective=Objective.from_scheduler(told.scheduler),
        parts=parts,
        pristine=Pristine(parts, weights),
        tokenizers=(tokenizer,),
        resolution=told.resolution,
        latent_channels=int(vae["latent_channels"]),
        latent_factor=told.latent_factor,
        latent_scale=float(vae.get("scaling_factor", 1.0 if told.tiny_autoencoder else 0.18215)),
        latent_shift=float(vae.get("shift_factor") or 0.0),
        policy=policy,
        unused=unused,
    )
    model.freeze()
    return model


def _check(denoiser: Mapping[str, Any], vae: Mapping[str, Any], base: Base) -> None:
    kind = vae.get("_class_name", AUTOENCODERS[0])
    if kind not in AUTOENCODERS:
        raise ModelError(f"the autoencoder of this base is a {kind}", where=base.source, fix=f"use {AUTOENCODERS[0]}")
    taken, given = denoiser.get("in_channels", 4), vae.get("latent_channels", 4)
    if taken != given:
        raise ModelError(
            f"the denoiser takes {taken} channels and the latents have {given}: this is an inpainting base",
            where=base.source,
            fix="use the base that it was made from",
        )


def _weights(part: str, network: nn.Module, base: Base) -> Weights:
    """A part's mapped tensors under the names of its network."""
    lies = base.parts[part]
    tensors, names = held(lies), list(network.state_dict())
    places: dict[str, Place]
    if part == "text_encoder":
        places = clip.transformers(names, tensors)
    elif lies.layout == "diffusers":
        places = stable_diffusion.current_autoencoder(tensors) if part == "vae" else {}
    else:
        places = stable_diffusion.unet(names) if part == "denoiser" else stable_diffusion.autoencoder(names)
    return Weights(tensors, places)
