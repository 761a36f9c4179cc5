"""How the texts of Stable Diffusion XL are cut into tokens. No torch."""

from __future__ import annotations

from velatura.bases import Base
from velatura.families.sdxl.configuration import PADS, TOKENIZERS, SdxlConfiguration
from velatura.text import clip_files, clip_tokens
from velatura.text.clip_tokens import ClipTokenizer
from velatura.text.readers import Reader


def tokenizers(base: Base, told: SdxlConfiguration) -> tuple[ClipTokenizer, ...]:
    """One for each text encoder of a base, by its files.

    Raises:
        ModelError: one is damaged, or another base's.
    """
    return tuple(_tokenizer(part, base, told) for part in TOKENIZERS)


def _tokenizer(part: str, base: Base, told: SdxlConfiguration) -> ClipTokenizer:
    name = TOKENIZERS[part]
    if base.source.is_dir():
        return clip_tokens.load(base.source / name)
    return clip_files.load(base.parts[part].files[0], told.parts[part], name=name, pad=PADS[part])


def readers(base: Base, told: SdxlConfiguration, cut: tuple[ClipTokenizer, ...]) -> tuple[Reader, ...]:
    """None: its text encoders read all of a text, chunk by chunk."""
    return ()
