"""Loading a Z-Image base from a diffusers folder, or from files of diffusers' or ComfyUI's layout."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn

from velatura.bases import Base
from velatura.errors import ModelError
from velatura.families.z_image import configuration, layout
from velatura.families.z_image.configuration import CLASSES, VAE, ZImageConfiguration
from velatura.families.z_image.layout import comfy
from velatura.families.z_image.tokens import readers, tokenizers
from velatura.family import Defaults, MemoryPolicy, Model
from velatura.loading import assembled, autoencoder_places, check_autoencoder, networks
from velatura.text import qwen
from velatura.weights.layouts import Place
from velatura.weights.layouts import qwen as qwen_layout

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
    check_autoencoder(told, base)
    _check_channels(told, base)
    cut = tokenizers(base, told)  # before gigabytes are read

    def rotary(part: str, network: nn.Module) -> None:
        if part == "text_encoder":
            qwen.compute_rotary(network, policy.device)

    width = int(told.parts["denoiser"]["dim"])
    found = networks(base, CLASSES, told, policy, places=partial(_places, width), passed_over=BALLAST, prepare=rotary)
    turbo = base.variant.name == "z_image_turbo"
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
        patch=2,
        side_step=2,
        guidance="none" if turbo else "cfg",
        defaults=DEFAULTS[base.variant.name],
        distilled_steps=turbo,
    )


def _check_channels(told: ZImageConfiguration, base: Base) -> None:
    taken, given = told.parts["denoiser"].get("in_channels", 16), told.parts["vae"].get("latent_channels")
    if taken != given:
        raise ModelError(
            f"the denoiser takes {taken} channels and the autoencoder's latents have {given}",
            where=base.source,
            fix="use the autoencoder that belongs to it: that of FLUX.1",
        )


def _places(
    width: int, part: str, own: Mapping[str, Tensor], keys: Collection[str], layout: str
) -> Mapping[str, Place]:
    """Args: `width`, features of the transformer."""
    if part == "text_encoder":
        return qwen_layout.llama_cpp(own) if layout == "llama.cpp" else qwen_layout.transformers(own, keys)
    if part == "vae":
        return autoencoder_places(own, keys, layout)
    return {} if layout == "diffusers" else comfy(own, width)
