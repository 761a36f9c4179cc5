"""T5's tokenizer: texts as numbered pieces, and where in the text each piece ends.

Read from `tokenizer.json` with the `tokenizers` library alone; from `spiece.model` through transformers, which
needs sentencepiece for it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura.errors import ModelError
from velatura.files import disk_problems
from velatura.text.tokenizer_files import damage
from velatura.text.weighted import BREAK, WeightedText

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END, PAD = "</s>", "<pad>"

FILES = ("tokenizer.json", "spiece.model")
"""What a tokenizer is read from; the first that is there."""


@dataclass(frozen=True)
class T5Tokenizer:
    """Text to token numbers."""

    tokenizer: Tokenizer
    end: int
    pad: int

    def count(self, text: str) -> int:
        """How many tokens a text takes, its end not counted."""
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def encode(self, text: WeightedText, length: int) -> tuple[list[int], list[float]]:
        """Token numbers and the weight of each: the text, cut where it is too long, its end, and padding.

        The text is cut into tokens as a whole, so weights do not change where words end. `BREAK` is a space.
        """
        pieces = [(" ", 1.0) if piece == BREAK else piece for piece in text.pieces]
        letters = [weight for piece, weight in pieces for _ in piece]
        found = self.tokenizer.encode("".join(piece for piece, _ in pieces), add_special_tokens=False)
        ids = found.ids[: length - 1]
        # a token's own letters end where it ends; it may begin with the space before it
        weights = [letters[max(end, 1) - 1] for _, end in found.offsets[: length - 1]]
        missing = length - len(ids)
        return [*ids, self.end, *[self.pad] * (missing - 1)], [*weights, *[1.0] * missing]


def load(folder: Path) -> T5Tokenizer:
    """The tokenizer in a folder.

    Raises:
        ModelError: its files are missing or damaged, or need a package that is not installed.
    """
    whole, pieces = (folder / name for name in FILES)
    if whole.exists():
        with disk_problems(whole):
            text = whole.read_text(encoding="utf-8")
        return _read(text, folder)
    if pieces.exists():
        return _finished(_from_pieces(pieces), folder)
    raise ModelError("the base lacks its T5 tokenizer", where=folder, fix=f"put {' or '.join(FILES)} there")


def build(contents: Mapping[str, Any], where: Path) -> T5Tokenizer:
    """The tokenizer that a `tokenizer.json` of these contents describes.

    Args:
        where: the file that they come from.

    Raises:
        ModelError: they make no sense.
    """
    return _read(json.dumps(contents), where)


def _read(text: str, where: Path) -> T5Tokenizer:
    from tokenizers import Tokenizer

    with damage(where):
        made = Tokenizer.from_str(text)
    return _finished(made, where)


def _finished(tokenizer: Tokenizer, where: Path) -> T5Tokenizer:
    end, pad = (tokenizer.token_to_id(token) for token in (END, PAD))
    if end is None or pad is None:
        raise ModelError("this is not a tokenizer of T5: it has no end or no padding", where=where)
    # `tokenizer.json` may ask for both; it is done here, to the length that the base takes
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return T5Tokenizer(tokenizer, end, pad)


def _from_pieces(path: Path) -> Tokenizer:
    if importlib.util.find_spec("sentencepiece") is None:
        raise ModelError(
            "reading spiece.model takes the package sentencepiece",
            where=path,
            fix="install it with `pip install sentencepiece protobuf`, or put the tokenizer.json of T5 beside it",
        )
    try:
        kind: Any = importlib.import_module("transformers").T5TokenizerFast
        made = kind.from_pretrained(str(path.parent), local_files_only=True)
        backend: Tokenizer = made.backend_tokenizer
    except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
        raise ModelError("the T5 tokenizer cannot be read", where=path, fix="fetch it again") from error
    return backend
