"""Where a single file's tokenizer comes from: the file itself, a place beside it, or CLIP's own in the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from velatura.errors import ModelError
from velatura.text import clip_tokens, clip_vocabulary
from velatura.text.clip_tokens import ClipTokenizer, Vocabulary
from velatura.weights import parts
from velatura.weights.containers import read_header

FILES = ("vocab.json", "merges.txt")


def load(
    path: Path, text_encoder: dict[str, Any], *, name: str = "tokenizer", pad: str = clip_vocabulary.END
) -> ClipTokenizer:
    """The tokenizer of a base that is one file.

    Args:
        path: the file with the text encoder.
        text_encoder: its settings, whose vocabulary it must be.
        name: of the tokenizer in `velatura.config`, and of its folder beside the file.
        pad: what fills up behind the end, but where `velatura.config` names another; OpenCLIP's is "!".

    Raises:
        ModelError: it is damaged, or another one's.
    """
    told = parts.told(read_header(path), path)
    if told:
        own = told.get(name)
        if not isinstance(own, dict) or not set(own) >= set(Vocabulary._fields):
            raise parts.damaged(path)
        return clip_tokens.build(Vocabulary(own["vocab"], own["merges"], own["special_tokens"]), path)
    folder = _beside(path, name)
    vocabulary = clip_tokens.read_vocabulary(folder) if folder else clip_vocabulary.vocabulary()
    special = {**vocabulary.special_tokens, "pad_token": pad}
    tokenizer = clip_tokens.build(vocabulary._replace(special_tokens=special), folder or path)
    if tokenizer.tokenizer.get_vocab_size() != text_encoder["vocab_size"]:
        raise ModelError(
            "this tokenizer is not the one of the base's text encoder",
            where=folder or path,
            fix=f"put its {' and '.join(FILES)} beside {path.name}, in a folder named {name}",
        )
    return tokenizer


def _beside(path: Path, name: str) -> Path | None:
    """The folder with a tokenizer's files, where the user has put one beside the base."""
    own = path.parent / name
    if (own / "tokenizer.json").exists():
        return own
    return next((folder for folder in (own, path.parent) if all((folder / file).exists() for file in FILES)), None)
