"""How Z-Image's texts are cut into tokens, and how much of them its text encoder reads. No torch.

Source: https://github.com/Tongyi-MAI/Z-Image (pipeline.py): 512 tokens, the chat's form among them.
"""

from __future__ import annotations

from velatura.bases import Base
from velatura.families.z_image.configuration import ZImageConfiguration
from velatura.text import qwen_files, qwen_tokens
from velatura.text.qwen_tokens import QUESTION, QwenTokenizer
from velatura.text.readers import Reader

LONGEST = 512
"""Tokens of a prompt that the base was made for, its chat form counted."""


def tokenizers(base: Base, told: ZImageConfiguration) -> tuple[QwenTokenizer]:
    """That of a base, by its files.

    Raises:
        ModelError: it is nowhere to be had, damaged, or another base's.
    """
    settings = told.parts["text_encoder"]
    if base.source.is_dir():
        return (qwen_tokens.load(base.source / "tokenizer", vocabulary=int(settings["vocab_size"])),)
    return (qwen_files.load(base.parts["text_encoder"].files[0], settings),)


def readers(base: Base, told: ZImageConfiguration, cut: tuple[QwenTokenizer]) -> tuple[Reader, ...]:
    """What its text encoder reads."""
    (tokenizer,) = cut
    form = tokenizer.count(QUESTION.format(""))
    return (Reader("Qwen3", LONGEST - form, lambda text: tokenizer.count(QUESTION.format(text)) - form),)
