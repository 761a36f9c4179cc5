"""Z-Image as training and generation see it.

The network is told how far a picture is done (1 - sigma) and answers with the way from noise to picture; here
the answer is turned round, as flow is the way from picture to noise. Its authors' guidance scale s, in
prompt + s (prompt - negative), is cfg_scale - 1.

Shape suffixes: B batch, C channels, H and W height and width, L tokens, D features.
Source: https://github.com/Tongyi-MAI/Z-Image (pipeline.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from velatura.adapters.formats import KeyMap
from velatura.bases import Base
from velatura.controlnets import ControlFiles
from velatura.families.z_image import control
from velatura.families.z_image.keys import KEYS, PRESETS
from velatura.families.z_image.load import load
from velatura.families.z_image.tokens import LONGEST
from velatura.family import Conditioning, ControlNet, MemoryPolicy, Model, ModelFamily, TextConditioning
from velatura.text import qwen
from velatura.text.weighted import WeightedText

HIDDEN_LAYER = -2
"""The text encoder's layer that is read, its last norm not applied."""


class ZImage(ModelFamily):
    """The family."""

    name = "z_image"
    keys: KeyMap = KEYS
    targets: Mapping[str, tuple[str, ...]] = PRESETS

    def load(self, base: Base, *, policy: MemoryPolicy) -> Model:
        """As `ModelFamily.load`."""
        return load(self, base, policy)

    def encode_prompts(self, model: Model, prompts: Sequence[WeightedText]) -> TextConditioning:
        """As `ModelFamily.encode_prompts`; prompts keep their own length, and a mask tells it.

        Raises:
            PromptError: a prompt has weights, or a BREAK.
        """
        told = qwen.encode(
            model.parts["text_encoder"], model.tokenizers[0], prompts, layer=HIDDEN_LAYER, longest=LONGEST
        )
        return TextConditioning(told.tokens_BLD, mask_BL=told.mask_BL)

    def predict(self, model: Model, noisy_BCHW: Tensor, sigma_B: Tensor, conditioning: Conditioning) -> Tensor:
        """As `ModelFamily.predict`."""
        denoiser: Any = model.parts["denoiser"]
        dtype, text = model.policy.dtype, conditioning.text
        if text.mask_BL is None:
            raise ValueError("Z-Image's prompts differ in length, so encoded ones have a mask")
        done_B = (1 - sigma_B.double()).float().to(noisy_BCHW.device)
        # the network takes lists: pictures of one frame, and captions without what fills them up
        pictures = list(noisy_BCHW.to(dtype).unsqueeze(2))
        captions = [tokens[mask] for tokens, mask in zip(text.tokens_BLD.to(dtype), text.mask_BL, strict=True)]
        added = control.arguments(model, conditioning.controls, pictures, done_B, captions)
        said = denoiser(pictures, done_B, captions, return_dict=False, **added)[0]
        return -torch.stack(list(said)).squeeze(2).float()

    def load_controlnet(self, model: Model, files: ControlFiles) -> ControlNet:
        """As `ModelFamily.load_controlnet`."""
        return control.load(model, files)

    def encode_hint(self, model: Model, net: ControlNet, hint_BCHW: Tensor) -> Tensor:
        """As `ModelFamily.encode_hint`: its latents, and nothing where there might be a mask and a picture."""
        return control.widened(net, self.encode_images(model, 2 * hint_BCHW - 1))


FAMILY = ZImage()
