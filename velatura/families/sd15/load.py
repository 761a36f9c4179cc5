"""Loading a Stable Diffusion 1.x base from a diffusers folder or files in the original layout."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from velatura.bases import Base
from velatura.families.sd15 import configuration
from velatura.families.sd15.configuration import CLASSES, VAE
from velatura.families.sd15.tokens import readers, tokenizers
from velatura.family import MemoryPolicy, Model
from velatura.loading import assembled, autoencoder_places, check_autoencoder, extra_channels, networks
from velatura.weights.layouts import Place, clip, stable_diffusion

if TYPE_CHECKING:
    from velatura.family import ModelFamily

AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")


def load(family: ModelFamily, base: Base, policy: MemoryPolicy) -> Model:
    """The base with its networks on the policy's device.

    Raises:
        ModelError: a part is missing, damaged, or of a kind that is not known.
    """
    told = configuration.read(base)
    check_autoencoder(told, base, AUTOENCODERS)
    extra = extra_channels(told, base)
    cut = tokenizers(base, told)
    classes = {**CLASSES, "vae": told.parts["vae"].get("_class_name", CLASSES["vae"])}
    found = networks(base, classes, told, policy, places=_places, passed_over={"text_encoder": clip.BALLAST})
    return assembled(
        family,
        base,
        told,
        found,
        policy,
        resolution=told.resolution,
        scaling_factor=1.0 if told.tiny_autoencoder else VAE["scaling_factor"],
        tokenizers=cut,
        readers=readers(base, told, cut),
        extra_channels=extra,
    )


def _places(part: str, own: Mapping[str, Tensor], keys: Collection[str], layout: str) -> Mapping[str, Place]:
    if part == "text_encoder":
        return clip.transformers(own, keys)
    if part == "vae":
        return autoencoder_places(own, keys, layout)
    return {} if layout == "diffusers" else stable_diffusion.unet(own)
