"""Where Qwen's tokenizer comes from when the text encoder is a file: the file, a place beside it, or Hugging Face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from velatura.text import qwen_tokens
from velatura.text.qwen_tokens import QwenTokenizer
from velatura.text.tokenizer_files import Published
from velatura.weights import parts
from velatura.weights.containers import read_header

PUBLISHED = Published(
    "Qwen3",
    "11 MB",
    (
        ("Tongyi-MAI/Z-Image-Turbo", "tokenizer/tokenizer.json"),
        ("Tongyi-MAI/Z-Image", "tokenizer/tokenizer.json"),
        ("Qwen/Qwen3-4B", "tokenizer.json"),
    ),
)

FOLDER = "tokenizer"


def load(path: Path, text_encoder: dict[str, Any]) -> QwenTokenizer:
    """The tokenizer of a text encoder that is one file.

    Args:
        path: the file with the text encoder.
        text_encoder: its settings, whose vocabulary it must be.

    Raises:
        ModelError: it is nowhere to be found, damaged, or another one's.
    """
    vocabulary = int(text_encoder["vocab_size"])
    told = parts.told(read_header(path), path)
    if told:
        return qwen_tokens.build(told.get(FOLDER), path, vocabulary=vocabulary)
    own = path.parent / FOLDER
    beside = next((one for one in (own, path.parent) if qwen_tokens.has_files(one)), None)
    return qwen_tokens.load(beside or PUBLISHED.folder(path, beside=own), vocabulary=vocabulary)
