"""Loading a FLUX.1 base from a diffusers folder or files in its authors' layout."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from velatura.bases import Base
from velatura.errors import ModelError
from velatura.families.flux1 import configuration
from velatura.families.flux1.configuration import CLASSES, MASK, PATCH, VAE, FluxConfiguration, filling
from velatura.families.flux1.layout import transformer
from velatura.families.flux1.tokens import readers, tokenizers
from velatura.family import Defaults, MemoryPolicy, Model
from velatura.loading import assembled, autoencoder_places, networks
from velatura.weights.layouts import Place, clip, t5

if TYPE_CHECKING:
    from velatura.family import ModelFamily

DEV = Defaults(steps=20, cfg_scale=1.0, guidance=3.5, sampler="Euler", scheduler="Uniform")
FILL = replace(DEV, guidance=30.0)
SCHNELL = Defaults(steps=4, cfg_scale=1.0, sampler="Euler", scheduler="Uniform")


def load(family: ModelFamily, base: Base, policy: MemoryPolicy) -> Model:
    """The base with its networks on the policy's device.

    Raises:
        ModelError: a part is missing, damaged, or of a kind that is not known.
    """
    told = configuration.read(base)
    extra = _extra_channels(told, base)
    cut = tokenizers(base, told)  # before gigabytes are read
    found = networks(
        base, CLASSES, told, policy, places=_places, passed_over={"text_encoder": clip.BALLAST}, prepare=_tie
    )
    return assembled(
        family,
        base,
        told,
        found,
        policy,
        resolution=told.resolution,
        scaling_factor=VAE["scaling_factor"],
        tokenizers=cut,
        readers=readers(base, told, cut),
        patch=PATCH,
        side_step=PATCH,
        guidance="distilled" if told.guided else "none",
        defaults=FILL if extra else DEV if told.guided else SCHNELL,
        extra_channels=extra,
        distilled_steps=not told.guided,
    )


def _extra_channels(told: FluxConfiguration, base: Base) -> int:
    """What the denoiser takes beside the latents: 0, or what FLUX.1 Fill takes.

    Raises:
        ModelError: it takes something else.
    """
    taken, latents = int(told.parts["denoiser"].get("in_channels", 0)), int(told.parts["vae"].get("latent_channels", 0))
    given = latents * PATCH**2
    if taken not in (given, filling(given)):
        raise ModelError(
            f"the denoiser takes {taken} channels, a patch of the autoencoder's latents has {given}",
            where=base.source,
            fix="use the autoencoder of FLUX.1",
        )
    return 0 if taken == given else latents + MASK


def _tie(part: str, network: Any) -> None:
    """One embedding under both its names: transformers ties them only when it loads a file itself."""
    if part == "text_encoder_2":
        network.set_input_embeddings(network.shared)


def _places(part: str, own: Mapping[str, Tensor], keys: Collection[str], layout: str) -> Mapping[str, Place]:
    if part == "text_encoder":
        return clip.transformers(own, keys)
    if part == "text_encoder_2":
        return t5.llama_cpp(own) if layout == "llama.cpp" else t5.transformers(own, keys)
    if part == "vae":
        return autoencoder_places(own, keys, layout)
    if layout == "diffusers":
        return {}
    return transformer({name: tuple(tensor.shape) for name, tensor in own.items()})
