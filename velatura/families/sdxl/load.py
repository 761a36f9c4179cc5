"""Loading a Stable Diffusion XL base from a diffusers folder or files in the original layout."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from velatura.bases import Base, base_hash
from velatura.diffusion.objective import Objective
from velatura.errors import ModelError
from velatura.families.sdxl import configuration
from velatura.families.sdxl.configuration import CLASSES, PADS, PARTS, TOKENIZERS, VAE, Configuration
from velatura.family import Defaults, MemoryPolicy, Model, Pristine
from velatura.settings import base_name
from velatura.text import clip_files, clip_tokens
from velatura.text.clip_tokens import ClipTokenizer
from velatura.weights.layouts import Place, clip, stable_diffusion
from velatura.weights.networks import build, fill
from velatura.weights.source import Weights, held

if TYPE_CHECKING:
    from velatura.family import ModelFamily

DEFAULTS = Defaults(steps=25, cfg_scale=6.0)

ZERO_TERMINAL = replace(DEFAULTS, cfg_scale=5.0, sampler="Euler", scheduler="Simple")
"""With zero terminal SNR: strides in timesteps, beginning at the last. Karras' noise levels would spend two steps of
three where there is nothing to see yet. "Simple" is what diffusers calls "trailing"; Lin et al. 2023, arXiv:2305.08891.
"""


def load(family: ModelFamily, base: Base, policy: MemoryPolicy) -> Model:
    """The base with its networks on the policy's device.

    Raises:
        ModelError: a part is missing, damaged, or of a kind that is not known.
    """
    told = configuration.read(base)
    vae = told.parts["vae"]
    if (found := vae.get("_class_name", CLASSES["vae"])) != CLASSES["vae"]:
        raise ModelError(
            f"the autoencoder of this base is a {found}", where=base.source, fix=f"use one that is an {CLASSES['vae']}"
        )
    parts: dict[str, nn.Module] = {}
    weights: dict[str, Weights] = {}
    unused: dict[str, tuple[str, ...]] = {}
    for kind in PARTS:
        part, settings = kind.name, told.parts[kind.name]
        network = build(CLASSES[part], settings, base.source)
        weights[part] = _weights(part, network, base, settings)
        unused[part] = fill(
            network,
            weights[part],
            part=part,
            where=base.source,
            device=policy.device,
            dtype=policy.vae_dtype if part == "vae" else policy.dtype,
            passed_over=clip.BALLAST if part in TOKENIZERS else (),
        )
        parts[part] = network
    objective = Objective.from_scheduler(told.scheduler)
    model = Model(
        family=family,
        variant=base.variant,
        name=base_name(base.source),
        hash=base_hash(base),
        objective=objective,
        parts=parts,
        pristine=Pristine(parts, weights),
        tokenizers=tuple(_tokenizer(part, base, told) for part in TOKENIZERS),
        resolution=told.resolution,
        latent_channels=int(vae.get("latent_channels", VAE["latent_channels"])),
        latent_factor=told.latent_factor,
        latent_scale=float(vae.get("scaling_factor", VAE["scaling_factor"])),
        latent_shift=float(vae.get("shift_factor") or 0.0),
        policy=policy,
        empty_negative_is_zero=told.zero_empty,
        defaults=ZERO_TERMINAL if told.scheduler.get("rescale_betas_zero_snr") else DEFAULTS,
        unused=unused,
    )
    model.freeze()
    return model


def _weights(part: str, network: nn.Module, base: Base, settings: dict[str, object]) -> Weights:
    """A part's mapped tensors under the names of its network."""
    lies = base.parts[part]
    tensors, names = held(lies), list(network.state_dict())
    places: dict[str, Place]
    if lies.layout == "openclip":
        places = clip.openclip(names, int(str(settings["hidden_size"])))
    elif part in TOKENIZERS:
        places = clip.transformers(names, tensors)
    elif lies.layout == "diffusers":
        places = stable_diffusion.current_autoencoder(tensors) if part == "vae" else {}
    else:
        places = stable_diffusion.unet(names) if part == "denoiser" else stable_diffusion.autoencoder(names)
    return Weights(tensors, places)


def _tokenizer(part: str, base: Base, told: Configuration) -> ClipTokenizer:
    name = TOKENIZERS[part]
    if base.source.is_dir():
        return clip_tokens.load(base.source / name)
    return clip_files.load(base.parts[part].files[0], told.parts[part], name=name, pad=PADS[part])
