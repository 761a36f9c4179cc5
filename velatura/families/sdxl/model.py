"""Stable Diffusion XL as training and generation see it.

Shape suffixes: B batch, C channels, H and W height and width, L tokens, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from velatura.adapters import targets
from velatura.adapters.formats import KeyMap
from velatura.bases import Base
from velatura.controlling import load_for_unet, unet_arguments
from velatura.controlnets import ControlFiles
from velatura.families.sdxl.configuration import TOKENIZERS
from velatura.families.sdxl.keys import KEYS
from velatura.families.sdxl.load import load
from velatura.family import Conditioning, ControlNet, MemoryPolicy, Model, ModelFamily, TextConditioning
from velatura.text import clip
from velatura.text.weighted import WeightedText

PENULTIMATE = 2
"""The hidden layer that is read, counted from the last."""


class Sdxl(ModelFamily):
    """The family."""

    name = "sdxl"
    keys: KeyMap = KEYS
    targets: Mapping[str, tuple[str, ...]] = {
        **targets.PRESETS,
        "text": tuple(f"{part}.*.{layers}.*" for part in TOKENIZERS for layers in ("self_attn", "mlp")),
        # the transformers that carry style and content. Source: Frenkel et al. 2024, arXiv:2403.14572 (B-LoRA)
        "style": ("denoiser.up_blocks.0.attentions.1.*",),
        "content": ("denoiser.up_blocks.0.attentions.0.*",),
    }

    def load(self, base: Base, *, policy: MemoryPolicy) -> Model:
        """As `ModelFamily.load`."""
        return load(self, base, policy)

    def encode_prompts(self, model: Model, prompts: Sequence[WeightedText]) -> TextConditioning:
        """As `ModelFamily.encode_prompts`: both encoders' penultimate layer, not normalised, side by side.

        Pooled is the second encoder's, projected. Clip skip, where it is set, is of both encoders.
        """
        chunks = max(clip.count_chunks(tokenizer, prompts) for tokenizer in model.tokenizers)
        told = [
            clip.encode(
                model.parts[part],
                tokenizer,
                prompts,
                skip=model.clip_skip or PENULTIMATE,
                normalised=False,
                emphasis=model.emphasis,
                least_chunks=chunks,
            )
            for part, tokenizer in zip(TOKENIZERS, model.tokenizers, strict=True)
        ]
        return TextConditioning(torch.cat([one.tokens_BLD for one in told], dim=-1), told[-1].pooled_BD)

    def predict(self, model: Model, noisy_BCHW: Tensor, sigma_B: Tensor, conditioning: Conditioning) -> Tensor:
        """As `ModelFamily.predict`. A picture without a history is told as whole, of its own size."""
        denoiser: Any = model.parts["denoiser"]
        device, dtype = noisy_BCHW.device, model.policy.dtype
        timestep_B = model.objective.timestep(sigma_B).to(torch.float32).to(device)
        scaled_BCHW = model.objective.scale_input(noisy_BCHW, sigma_B).to(dtype)
        if conditioning.extra_latents_BCHW is not None:
            scaled_BCHW = torch.cat([scaled_BCHW, conditioning.extra_latents_BCHW.to(dtype)], dim=1)
        added = {"text_embeds": conditioning.text.pooled_BD, "time_ids": sizes(model, noisy_BCHW, conditioning)}
        tokens_BLD = conditioning.text.tokens_BLD.to(dtype)
        told: dict[str, Any] = {"added_cond_kwargs": added}
        own_BCHW = scaled_BCHW[:, : model.latent_channels]
        told |= unet_arguments(conditioning.controls, own_BCHW, timestep_B, tokens_BLD, **told)
        predicted = denoiser(scaled_BCHW, timestep_B, tokens_BLD, return_dict=False, **told)[0]
        prediction: Tensor = predicted.float()
        return prediction

    def load_controlnet(self, model: Model, files: ControlFiles) -> ControlNet:
        """As `ModelFamily.load_controlnet`."""
        return load_for_unet(model, files)

    def encode_hint(self, model: Model, net: ControlNet, hint_BCHW: Tensor) -> Tensor:
        """As `ModelFamily.encode_hint`: as it is."""
        return hint_BCHW


def sizes(model: Model, noisy_BCHW: Tensor, conditioning: Conditioning) -> Tensor:
    """The six numbers that the denoiser is told of each picture, in pixels, height first: (B, 6), fp32.

    Original size, the crop's top and left, target size. They stay fp32, as bf16 rounds 1000 to 1000 +- 4.
    """
    told = conditioning.geometry
    if told is None:
        height, width = (side * model.latent_factor for side in noisy_BCHW.shape[-2:])
        whole = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32, device=noisy_BCHW.device)
        return whole.expand(len(noisy_BCHW), 6)
    return torch.cat([told.original_B2, told.crop_top_left_B2, told.target_B2], dim=1).float().to(noisy_BCHW.device)


FAMILY = Sdxl()
