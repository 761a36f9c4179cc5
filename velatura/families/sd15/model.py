"""Stable Diffusion 1.x as training and generation see it.

Shape suffixes: B batch, C channels, H and W height and width, L tokens, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from velatura.adapters.formats import KeyMap
from velatura.adapters.targets import PRESETS
from velatura.bases import Base
from velatura.controlling import load_for_unet, unet_arguments
from velatura.controlnets import ControlFiles
from velatura.families.sd15.keys import KEYS
from velatura.families.sd15.load import load
from velatura.family import Conditioning, ControlNet, MemoryPolicy, Model, ModelFamily, TextConditioning
from velatura.text import clip
from velatura.text.weighted import WeightedText


class Sd15(ModelFamily):
    """The family."""

    name = "sd15"
    keys: KeyMap = KEYS
    targets: Mapping[str, tuple[str, ...]] = PRESETS

    def load(self, base: Base, *, policy: MemoryPolicy) -> Model:
        """As `ModelFamily.load`."""
        return load(self, base, policy)

    def encode_prompts(self, model: Model, prompts: Sequence[WeightedText]) -> TextConditioning:
        """As `ModelFamily.encode_prompts`; clip skip reads an earlier layer, normalised."""
        told = clip.encode(
            model.parts["text_encoder"],
            model.tokenizers[0],
            prompts,
            skip=model.clip_skip or 1,
            emphasis=model.emphasis,
        )
        return TextConditioning(told.tokens_BLD)

    def predict(self, model: Model, noisy_BCHW: Tensor, sigma_B: Tensor, conditioning: Conditioning) -> Tensor:
        """As `ModelFamily.predict`."""
        denoiser: Any = model.parts["denoiser"]
        dtype = model.policy.dtype
        timestep_B = model.objective.timestep(sigma_B).to(torch.float32).to(noisy_BCHW.device)
        scaled_BCHW = model.objective.scale_input(noisy_BCHW, sigma_B).to(dtype)
        if conditioning.extra_latents_BCHW is not None:
            scaled_BCHW = torch.cat([scaled_BCHW, conditioning.extra_latents_BCHW.to(dtype)], dim=1)
        tokens_BLD = conditioning.text.tokens_BLD.to(dtype)
        added = unet_arguments(conditioning.controls, scaled_BCHW[:, : model.latent_channels], timestep_B, tokens_BLD)
        predicted = denoiser(scaled_BCHW, timestep_B, tokens_BLD, return_dict=False, **added)[0]
        prediction: Tensor = predicted.float()
        return prediction

    def load_controlnet(self, model: Model, files: ControlFiles) -> ControlNet:
        """As `ModelFamily.load_controlnet`."""
        return load_for_unet(model, files)

    def encode_hint(self, model: Model, net: ControlNet, hint_BCHW: Tensor) -> Tensor:
        """As `ModelFamily.encode_hint`: as it is."""
        return hint_BCHW


FAMILY = Sd15()
