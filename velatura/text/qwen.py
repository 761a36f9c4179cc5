"""Prompts through a Qwen3 language model: put as a question in a chat, and read off a hidden layer.

A language model has no weights for words and no chunks, so emphasis and BREAK are refused. Prompts differ in
length; what lies beyond a prompt's end is zero, and a mask says where that is.

Shape suffixes: B batch, L tokens, D features.
Source: the chat form of https://huggingface.co/Qwen/Qwen3-4B (tokenizer_config.json), with thinking allowed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from velatura.errors import PromptError
from velatura.text.qwen_tokens import QwenTokenizer
from velatura.text.weighted import BREAK, WeightedText


@dataclass(frozen=True)
class QwenText:
    """Encoded prompts."""

    tokens_BLD: Tensor
    """Zero beyond a prompt's end."""
    mask_BL: Tensor
    """True where there is a token."""


def encode(
    text_encoder: Any, tokenizer: QwenTokenizer, prompts: Sequence[WeightedText], *, layer: int, longest: int
) -> QwenText:
    """Prompts as features. Differentiable.

    Args:
        text_encoder: transformers' Qwen3Model.
        layer: which hidden layer, as an index into all of them; -2 is that before the last.
        longest: tokens at most, those of the chat's form counted. Longer texts are cut.

    Raises:
        PromptError: a prompt has weights, or a BREAK.
    """
    cut = [tokenizer.asked(sentence(prompt), longest) for prompt in prompts]
    lengths_B1 = torch.tensor([[len(one)] for one in cut], device=text_encoder.device)
    length = max(len(one) for one in cut)
    # Attention looks back only, so what stands behind a prompt's end changes nothing before it.
    tokens_BL = torch.tensor([one + [0] * (length - len(one)) for one in cut], device=text_encoder.device)
    mask_BL = torch.arange(length, device=text_encoder.device) < lengths_B1
    hidden_BLD = text_encoder(tokens_BL, output_hidden_states=True, use_cache=False).hidden_states[layer]
    return QwenText(hidden_BLD.masked_fill(~mask_BL[..., None], 0), mask_BL)


def sentence(prompt: WeightedText) -> str:
    """The words of a prompt.

    Raises:
        PromptError: some have a weight, or there is a BREAK.
    """
    for text, weight in prompt.pieces:
        if (text, weight) == BREAK:
            raise PromptError("this base reads a prompt as one text, so BREAK has no meaning", fix="leave it out")
        if not math.isclose(weight, 1.0):
            raise PromptError(
                f"this base reads a prompt as one text, so the weight {weight:g} has no meaning",
                where=text.strip(),
                fix=r"take it away; brackets that belong to the text are written \( and \)",
            )
    return "".join(text for text, _ in prompt.pieces)


def compute_rotary(network: nn.Module, device: str) -> None:
    """Give a model that was built without memory the frequencies of its positions, which are in no file."""
    body: Any = network
    body.rotary_emb = type(body.rotary_emb)(body.config).to(device)
