"""A prompt as data: pieces of text, each with the weight that its words carry.

What a prompt grammar or a caption becomes before it meets a tokenizer. No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from velatura.text.embeddings import Embedding


@dataclass(frozen=True)
class WeightedText:
    """Pieces of text in order."""

    pieces: tuple[tuple[str, float], ...]
    """Text and weight; a piece that is `BREAK` closes the chunk."""
    embeddings: tuple[Embedding, ...] = ()
    """Those whose names in the text mean their vectors."""


BREAK = ("BREAK", -1.0)
"""The piece that closes a chunk, as A1111's parser marks it."""


def plain(text: str) -> WeightedText:
    """Text whose words all carry weight 1: a caption."""
    return WeightedText(((text, 1.0),) if text else ())
