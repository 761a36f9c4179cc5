"""Where the T5 tokenizer of a base that is files comes from: the file itself, a place beside it, or Hugging Face.

All versions of T5, v1.1 too, have one vocabulary, of 32,100 pieces.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from velatura.errors import ModelError
from velatura.text import t5_tokens
from velatura.text.t5_tokens import FILES, T5Tokenizer
from velatura.text.tokenizer_files import Published
from velatura.weights import parts
from velatura.weights.containers import read_header

PUBLISHED = Published(
    "T5",
    "1.4 MB",
    (
        ("google-t5/t5-base", "tokenizer.json"),
        ("black-forest-labs/FLUX.1-dev", "tokenizer_2/tokenizer.json"),
        ("black-forest-labs/FLUX.1-schnell", "tokenizer_2/tokenizer.json"),
        ("google/t5-v1_1-xxl", "spiece.model"),
    ),
)

FOLDER = "t5_tokenizer"
"""What ComfyUI calls the folder with it."""

ROUNDED_TO = 128
"""T5's embedding has as many rows as its vocabulary has pieces, rounded up to a multiple of this."""


def load(path: Path, text_encoder: dict[str, Any], *, name: str) -> T5Tokenizer:
    """The tokenizer of a base that is files.

    Args:
        path: the file with the text encoder.
        text_encoder: its settings, whose vocabulary it must be.
        name: of the tokenizer in `velatura.config`, and of its folder beside the file.

    Raises:
        ModelError: it is nowhere to be had, damaged, or another one's.
    """
    told = parts.told(read_header(path), path)
    if told:
        own = told.get(name)
        if not isinstance(own, dict):
            raise parts.damaged(path)
        return t5_tokens.build(own, path)
    folder = _beside(path, name) or PUBLISHED.folder(path, beside=path.parent / FOLDER)
    tokenizer = t5_tokens.load(folder)
    pieces, rows = tokenizer.tokenizer.get_vocab_size(), int(text_encoder["vocab_size"])
    if not rows - ROUNDED_TO < pieces <= rows:
        raise ModelError(
            f"this tokenizer is not the one of the base's T5: it has {pieces} pieces, T5 has {rows}",
            where=folder,
            fix=f"put T5's {' or '.join(FILES)} beside {path.name}, in a folder named {name}",
        )
    return tokenizer


def _beside(path: Path, name: str) -> Path | None:
    """The folder that the user has put beside the file."""
    folders = (path.parent / name, path.parent / FOLDER)
    return next((folder for folder in folders if any((folder / file).exists() for file in FILES)), None)
