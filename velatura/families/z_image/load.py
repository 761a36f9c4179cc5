"""Loading a Z-Image base from a diffusers folder, or from files of diffusers' or ComfyUI's layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from velatura.bases import Base, base_hash
from velatura.diffusion.objective import Objective
from velatura.errors import ModelError
from velatura.families.z_image import configuration, layout
from velatura.families.z_image.configuration import CLASSES, PARTS, Configuration
from velatura.family import Defaults, MemoryPolicy, Model, Pristine
from velatura.settings import base_name
from velatura.text import qwen, qwen_files, qwen_tokens
from velatura.text.qwen_tokens import QwenTokenizer
from velatura.weights.layouts import Place, stable_diffusion
from velatura.weights.layouts import qwen as qwen_layout
from velatura.weights.networks import build, fill
from velatura.weights.source import Weights, held

if TYPE_CHECKING:
    from velatura.family import ModelFamily

BALLAST = {"denoiser": layout.BALLAST, "text_encoder": qwen_layout.BALLAST, "vae": ()}

DEFAULTS = {
    # Published: 28 to 50 steps at guidance 3 to 5, where 0 is no guidance; that is cfg_scale 4 to 6.
    "z_image": Defaults(steps=30, cfg_scale=5.0, sampler="Euler", scheduler="Uniform"),
    "z_image_turbo": Defaults(steps=8, cfg_scale=1.0, sampler="Euler", scheduler="Uniform"),
}


def load(family: ModelFamily, base: Base, policy: MemoryPolicy) -> Model:
    """The base with its networks on the policy's device.

    Raises:
        ModelError: a part is missing, damaged, or of a kind that is not known.
    """
    told = configuration.read(base)
    vae = told.parts["vae"]
    _check(told, base)
    parts: dict[str, nn.Module] = {}
    weights: dict[str, Weights] = {}
    unused: dict[str, tuple[str, ...]] = {}
    for kind in PARTS:
        part = kind.name
        network = build(CLASSES[part], told.parts[part], base.source)
        if part == "text_encoder":
            qwen.compute_rotary(network, policy.device)
        weights[part] = _weights(part, network, base, told)
        unused[part] = fill(
            network,
            weights[part],
            part=part,
            where=base.source,
            device=policy.device,
            dtype=policy.vae_dtype if part == "vae" else policy.dtype,
            passed_over=BALLAST[part],
        )
        parts[part] = network
    turbo = base.variant.name == "z_image_turbo"
    model = Model(
        family=family,
        variant=base.variant,
        name=base_name(base.source),
        hash=base_hash(base),
        objective=Objective.from_scheduler(told.scheduler),
        parts=parts,
        pristine=Pristine(parts, weights),
        tokenizers=(_tokenizer(base, told),),
        resolution=told.resolution,
        latent_channels=int(vae["latent_channels"]),
        latent_factor=told.latent_factor,
        patch=2,
        side_step=2,
        latent_scale=float(vae["scaling_factor"]),
        latent_shift=float(vae.get("shift_factor") or 0.0),
        guidance="none" if turbo else "cfg",
        policy=policy,
        unused=unused,
        defaults=DEFAULTS[base.variant.name],
        distilled_steps=turbo,
    )
    model.freeze()
    return model


def _check(told: Configuration, base: Base) -> None:
    if (kind := told.parts["vae"].get("_class_name", CLASSES["vae"])) != CLASSES["vae"]:
        raise ModelError(
            f"the autoencoder of this base is a {kind}", where=base.source, fix=f"use one that is an {CLASSES['vae']}"
        )
    taken, given = told.parts["denoiser"].get("in_channels", 16), told.parts["vae"].get("latent_channels")
    if taken != given:
        raise ModelError(
            f"the denoiser takes {taken} channels and the autoencoder's latents have {given}",
            where=base.source,
            fix="use the autoencoder that belongs to it: that of FLUX.1",
        )


def _tokenizer(base: Base, told: Configuration) -> QwenTokenizer:
    settings = told.parts["text_encoder"]
    if base.source.is_dir():
        return qwen_tokens.load(base.source / "tokenizer", vocabulary=int(settings["vocab_size"]))
    return qwen_files.load(base.parts["text_encoder"].files[0], settings)


def _weights(part: str, network: nn.Module, base: Base, told: Configuration) -> Weights:
    """A part's mapped tensors under the names of its network."""
    lies = base.parts[part]
    tensors, names = held(lies), list(network.state_dict())
    places: dict[str, Place] = {}
    if part == "text_encoder":
        places = qwen_layout.transformers(names, tensors)
    elif part == "vae":
        diffusers = lies.layout == "diffusers"
        places = stable_diffusion.current_autoencoder(tensors) if diffusers else stable_diffusion.autoencoder(names)
    elif lies.layout != "diffusers":
        places = layout.comfy(names, int(told.parts[part]["dim"]))
    return Weights(tensors, places)
