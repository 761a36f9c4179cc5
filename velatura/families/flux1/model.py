"""FLUX.1 as training and generation see it.

What is longer than T5 and CLIP read (`tokens`) is cut off and has no effect, as in the authors' own program. Names of
textual-inversion embeddings are words like any other.

Shape suffixes: B batch, C channels, H and W height and width, L tokens, D features.
Sources: https://github.com/black-forest-labs/flux (sampling.py, model.py); diffusers' FluxPipeline is the oracle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from velatura.adapters.formats import KeyMap
from velatura.bases import Base
from velatura.controlnets import ControlFiles
from velatura.families.flux1 import control
from velatura.families.flux1.configuration import PATCH
from velatura.families.flux1.keys import KEYS, PRESETS
from velatura.families.flux1.load import load
from velatura.families.flux1.tokens import LENGTHS
from velatura.family import Conditioning, ControlNet, MemoryPolicy, Model, ModelFamily, TextConditioning
from velatura.text import t5
from velatura.text.clip_tokens import CHUNK, ClipTokenizer
from velatura.text.weighted import WeightedText


class Flux1(ModelFamily):
    """The family."""

    name = "flux1"
    keys: KeyMap = KEYS
    targets: Mapping[str, tuple[str, ...]] = PRESETS

    def load(self, base: Base, *, policy: MemoryPolicy) -> Model:
        """As `ModelFamily.load`."""
        return load(self, base, policy)

    def encode_prompts(self, model: Model, prompts: Sequence[WeightedText]) -> TextConditioning:
        """As `ModelFamily.encode_prompts`; all of one length. Weights change T5's features alone."""
        clip_tokenizer, t5_tokenizer = model.tokenizers
        tokens_BLD = t5.encode(
            model.parts["text_encoder_2"],
            t5_tokenizer,
            prompts,
            length=LENGTHS[model.variant.architecture],
            emphasis=model.emphasis,
        )
        return TextConditioning(tokens_BLD, _pooled(model.parts["text_encoder"], clip_tokenizer, prompts))

    def masked(self, model: Model, images_BCHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """As `ModelFamily.masked`; of FLUX.1 Fill: the latents, and each pixel of the mask as a channel of its own."""
        latents_BCHW = self.encode_images(model, images_BCHW)
        pixels_BCHW = functional.pixel_unshuffle(mask_BHW[:, None], model.latent_factor)
        return torch.cat([latents_BCHW, pixels_BCHW.to(latents_BCHW)], dim=1)

    def predict(self, model: Model, noisy_BCHW: Tensor, sigma_B: Tensor, conditioning: Conditioning) -> Tensor:
        """As `ModelFamily.predict`; the transformer itself makes thousandths of sigma and guidance."""
        denoiser: Any = model.parts["denoiser"]
        dtype, device = model.policy.dtype, noisy_BCHW.device
        text, guidance_B = conditioning.text, conditioning.guidance_B
        if text.pooled_BD is None or (guidance_B is None) != (model.guidance != "distilled"):
            raise ValueError("FLUX.1 is told pooled text, and guidance where it is distilled: use Model.conditioned")
        height, width = noisy_BCHW.shape[-2:]
        told: dict[str, Any] = {
            "hidden_states": pack(noisy_BCHW).to(dtype),
            "timestep": sigma_B.to(torch.float32).to(device),
            "guidance": None if guidance_B is None else guidance_B.to(device, torch.float32),
            "pooled_projections": text.pooled_BD.to(dtype),
            "encoder_hidden_states": text.tokens_BLD.to(dtype),
            "txt_ids": torch.zeros(text.tokens_BLD.shape[1], 3, device=device),
            "img_ids": positions(height // PATCH, width // PATCH).to(device),
            "return_dict": False,
        }
        added = control.arguments(model, conditioning.controls, told)
        if conditioning.extra_latents_BCHW is not None:
            noisy_BCHW = torch.cat([noisy_BCHW, conditioning.extra_latents_BCHW.to(noisy_BCHW)], dim=1)
            told["hidden_states"] = pack(noisy_BCHW).to(dtype)
        predicted_BLD = denoiser(**told, **added)[0]
        return unpack(predicted_BLD.float(), height, width)

    def load_controlnet(self, model: Model, files: ControlFiles) -> ControlNet:
        """As `ModelFamily.load_controlnet`."""
        return control.load(model, files)

    def encode_hint(self, model: Model, net: ControlNet, hint_BCHW: Tensor) -> Tensor:
        """As `ModelFamily.encode_hint`: its latents as tokens, for XLabs' networks the picture itself in [-1, 1]."""
        hint_BCHW = 2 * hint_BCHW - 1
        if control.sees_pictures(net):
            return hint_BCHW
        return pack(self.encode_images(model, hint_BCHW))


def pack(latents_BCHW: Tensor) -> Tensor:
    """Each patch of 2 x 2 latents as one token, row by row: (B, H / 2 * W / 2, 4 C)."""
    count, channels, height, width = latents_BCHW.shape
    patches = latents_BCHW.reshape(count, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpack(tokens_BLD: Tensor, height: int, width: int) -> Tensor:
    """The latents that tokens stand for, (B, C, H, W)."""
    count, _, features = tokens_BLD.shape
    patches = tokens_BLD.reshape(count, height // PATCH, width // PATCH, features // PATCH**2, PATCH, PATCH)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(count, -1, height, width)


def positions(rows: int, columns: int) -> Tensor:
    """Where each token stands: nothing, row, column, (rows * columns, 3)."""
    places = torch.zeros(rows, columns, 3)
    places[..., 1] = torch.arange(rows)[:, None]
    places[..., 2] = torch.arange(columns)
    return places.flatten(0, 1)


def _pooled(text_encoder: Any, tokenizer: ClipTokenizer, prompts: Sequence[WeightedText]) -> Tensor:
    """CLIP's features at the end of the text, (B, D); of the text alone, without its weights."""
    longest = min(CHUNK, int(text_encoder.config.max_position_embeddings) - 2)
    rows = []
    for prompt in prompts:
        tokens = tokenizer.encode(prompt.words)[:longest]
        rows.append([tokenizer.start, *tokens, tokenizer.end, *[tokenizer.pad] * (longest - len(tokens))])
    pooled: Tensor = text_encoder(torch.tensor(rows, device=text_encoder.device)).pooler_output
    return pooled


FAMILY = Flux1()
