"""How FLUX.1's texts are cut into tokens, and how much of them its text encoders read. No torch.

T5 is told 512 tokens, 256 in schnell, the end of the text among them; of CLIP's first chunk only the pooled vector is
used. Source: https://github.com/black-forest-labs/flux (util.py).
"""

from __future__ import annotations

from typing import NamedTuple

from velatura.bases import Base
from velatura.families.flux1.configuration import FluxConfiguration
from velatura.text import clip_files, clip_tokens, t5_files, t5_tokens
from velatura.text.clip_tokens import CHUNK, ClipTokenizer
from velatura.text.readers import Reader
from velatura.text.t5_tokens import T5Tokenizer

LENGTHS = {"flux-1-dev": 512, "flux-1-schnell": 256}
"""Variant -> tokens that T5 is told."""


class Tokenizers(NamedTuple):
    """Those of a base."""

    clip: ClipTokenizer
    t5: T5Tokenizer


def tokenizers(base: Base, told: FluxConfiguration) -> Tokenizers:
    """Those of a base, by its files.

    Raises:
        ModelError: one is nowhere to be had, damaged, or another base's.
    """
    if base.source.is_dir():
        return Tokenizers(clip_tokens.load(base.source / "tokenizer"), t5_tokens.load(base.source / "tokenizer_2"))
    clip_l, t5_xxl = (base.parts[part].files[0] for part in ("text_encoder", "text_encoder_2"))
    return Tokenizers(
        clip_files.load(clip_l, told.parts["text_encoder"]),
        t5_files.load(t5_xxl, told.parts["text_encoder_2"], name="tokenizer_2"),
    )


def readers(base: Base, told: FluxConfiguration, cut: Tokenizers) -> tuple[Reader, ...]:
    """What its text encoders read."""
    places = int(told.parts["text_encoder"].get("max_position_embeddings", CHUNK + 2)) - 2
    return (
        Reader("T5", LENGTHS[base.variant.architecture] - 1, cut.t5.count),
        Reader("CLIP", min(CHUNK, places), cut.clip.count, further="T5 reads on"),
    )
