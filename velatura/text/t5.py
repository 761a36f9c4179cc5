"""Prompts through T5's encoder: one sequence of a fixed length, padding and all, each word with its weight.

What FLUX.1 is told. Padding is seen by the encoder as text is: no attention mask, as in the authors' own program.

Shape suffixes: B batch, L tokens, D features.
Sources: as in `velatura.text.clip`; ComfyUI and Forge do to T5's features what they do to CLIP's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from velatura.text.clip import Emphasis
from velatura.text.t5_tokens import T5Tokenizer
from velatura.text.weighted import WeightedText, plain


def encode(
    text_encoder: Any,
    tokenizer: T5Tokenizer,
    prompts: Sequence[WeightedText],
    *,
    length: int,
    emphasis: Emphasis = "a1111",
) -> Tensor:
    """Prompts as features, (B, L, D). Differentiable.

    Args:
        text_encoder: transformers' T5EncoderModel.
        length: tokens of every prompt, its end among them. Longer texts are cut, shorter ones padded.
    """
    cut = [tokenizer.encode(prompt, length) for prompt in prompts]
    device = text_encoder.device
    weights_BL = torch.tensor([weights for _, weights in cut], device=device)
    weighted = not bool((weights_BL == 1).all())
    told = [tokens for tokens, _ in cut]
    if weighted and emphasis == "comfy":
        told.append(tokenizer.encode(plain(""), length)[0])
    features_BLD: Tensor = text_encoder(torch.tensor(told, device=device)).last_hidden_state
    if not weighted:
        return features_BLD
    weights_BL1 = weights_BL[..., None].to(features_BLD.dtype)
    if emphasis == "comfy":
        bare_1LD, features_BLD = features_BLD[-1:], features_BLD[:-1]
        return (features_BLD - bare_1LD) * weights_BL1 + bare_1LD
    weighted_BLD = features_BLD * weights_BL1
    if emphasis == "a1111":
        before, after = (features.mean(dim=(1, 2), keepdim=True) for features in (features_BLD, weighted_BLD))
        weighted_BLD = weighted_BLD * (before / after)
    return weighted_BLD
