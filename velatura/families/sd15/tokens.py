"""How the texts of Stable Diffusion 1.x are cut into tokens. No torch."""

from __future__ import annotations

from velatura.bases import Base
from velatura.families.sd15.configuration import Sd15Configuration
from velatura.text import clip_files, clip_tokens
from velatura.text.clip_tokens import ClipTokenizer
from velatura.text.readers import Reader


def tokenizers(base: Base, told: Sd15Configuration) -> tuple[ClipTokenizer]:
    """That of a base, by its files.

    Raises:
        ModelError: it is damaged, or another base's.
    """
    if base.source.is_dir():
        return (clip_tokens.load(base.source / "tokenizer"),)
    return (clip_files.load(base.parts["text_encoder"].files[0], told.parts["text_encoder"]),)


def readers(base: Base, told: Sd15Configuration, cut: tuple[ClipTokenizer]) -> tuple[Reader, ...]:
    """None: its text encoder reads all of a text, chunk by chunk."""
    return ()
