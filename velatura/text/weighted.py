"""A prompt as data: pieces of text, each with the weight that its words carry.

What a prompt grammar or a caption becomes before it meets a tokenizer. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Embedding:
    """Vectors that take the place of a word: a textual inversion, as its file holds it."""

    name: str
    """The file's, without its ending."""
    vectors: Mapping[int, NDArray[np.float32]]
    """Width of a text encoder -> (tokens, width); equally many for each. Tensors while they are learnt."""
    hash: str
    """sha256 of the file, hex; its first 12 digits are A1111's hash of it."""

    def __len__(self) -> int:
        """How many tokens it takes the place of."""
        return len(next(iter(self.vectors.values())))


@dataclass(frozen=True)
class WeightedText:
    """Pieces of text in order."""

    pieces: tuple[tuple[str, float], ...]
    """Text and weight; a piece that is `BREAK` closes the chunk."""
    embeddings: tuple[Embedding, ...] = ()
    """Those whose names in the text mean their vectors."""

    @property
    def words(self) -> str:
        """The text without its weights; a BREAK is a space."""
        return "".join(" " if piece == BREAK else piece[0] for piece in self.pieces)


BREAK = ("BREAK", -1.0)
"""The piece that closes a chunk, as A1111's parser marks it."""


def plain(text: str) -> WeightedText:
    """Text whose words all carry weight 1: a caption."""
    return WeightedText(((text, 1.0),) if text else ())
