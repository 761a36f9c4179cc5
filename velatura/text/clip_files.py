"""Where a single file's tokenizer comes from: the file itself, a place beside it, or CLIP's two published files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from velatura.errors import ModelError
from velatura.tensorfile import read_header
from velatura.text import clip_tokens
from velatura.text.clip_tokens import ClipTokenizer, Vocabulary
from velatura.weights import parts

REPOSITORY = "openai/clip-vit-large-patch14"
FILES = ("vocab.json", "merges.txt")


def load(path: Path, text_encoder: dict[str, Any], *, name: str = "tokenizer") -> ClipTokenizer:
    """The tokenizer of a base that is one file.

    Args:
        path: the file with the text encoder.
        text_encoder: its settings, whose vocabulary it must be.
        name: of the tokenizer in `velatura.config`, and of its folder beside the file.

    Raises:
        ModelError: it is nowhere to be found, damaged, or another one's.
    """
    told = parts.told(read_header(path), path)
    if told:
        own = told.get(name)
        if not isinstance(own, dict) or not set(own) >= set(Vocabulary._fields):
            raise parts.damaged(path)
        return clip_tokens.build(Vocabulary(own["vocab"], own["merges"], own["special_tokens"]), path)
    folder = _folder(path, name)
    tokenizer = clip_tokens.load(folder)
    if tokenizer.tokenizer.get_vocab_size() != text_encoder["vocab_size"]:
        raise ModelError(
            "this tokenizer is not the one of the base's text encoder",
            where=folder,
            fix=f"put {' and '.join(FILES)} of {REPOSITORY} beside {path.name}, in a folder named {name}",
        )
    return tokenizer


def _folder(path: Path, name: str) -> Path:
    """The folder with the tokenizer's files."""
    beside = path.parent / name
    if (beside / "tokenizer.json").exists():
        return beside
    for folder in (beside, path.parent):
        if all((folder / name).exists() for name in FILES):
            return folder
    return _published(path)


def _published(path: Path) -> Path:
    """CLIP's files in the Hugging Face cache, fetched into it where they are missing (1.5 MB)."""
    import huggingface_hub

    cached = [huggingface_hub.try_to_load_from_cache(REPOSITORY, name) for name in FILES]
    try:
        found = [
            Path(known) if isinstance(known, str) else Path(huggingface_hub.hf_hub_download(REPOSITORY, name))
            for known, name in zip(cached, FILES, strict=True)
        ]
    except Exception as error:  # whatever ails the network, what to do is the same
        raise ModelError(
            "this checkpoint comes without its tokenizer, and fetching CLIP's failed",
            where=path,
            fix=f"put {' and '.join(FILES)} from https://huggingface.co/{REPOSITORY} into {path.parent / 'tokenizer'}",
        ) from error
    return found[0].parent
