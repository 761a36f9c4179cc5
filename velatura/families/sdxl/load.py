"""Loading a Stable Diffusion XL base from a diffusers folder or files in the original layout."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from velatura.bases import Base
from velatura.families.sdxl import configuration
from velatura.families.sdxl.configuration import CLASSES, TOKENIZERS, VAE
from velatura.families.sdxl.tokens import readers, tokenizers
from velatura.family import Defaults, MemoryPolicy, Model
from velatura.loading import assembled, autoencoder_places, check_autoencoder, extra_channels, networks
from velatura.weights.layouts import Place, clip, stable_diffusion

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
    check_autoencoder(told, base)
    cut = tokenizers(base, told)
    found = networks(base, CLASSES, told, policy, places=_places, passed_over=dict.fromkeys(TOKENIZERS, clip.BALLAST))
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
        extra_channels=extra_channels(told, base),
        empty_negative_is_zero=told.zero_empty,
        defaults=ZERO_TERMINAL if told.scheduler.get("rescale_betas_zero_snr") else DEFAULTS,
    )


def _places(part: str, own: Mapping[str, Tensor], keys: Collection[str], layout: str) -> Mapping[str, Place]:
    if layout == "openclip":
        norm = next(tensor for name, tensor in own.items() if name.endswith("final_layer_norm.weight"))
        return clip.openclip(own, width=len(norm))
    if part in TOKENIZERS:
        return clip.transformers(own, keys)
    if part == "vae":
        return autoencoder_places(own, keys, layout)
    return {} if layout == "diffusers" else stable_diffusion.unet(own)
