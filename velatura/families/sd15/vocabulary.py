"""Where a single file's tokenizer comes from: the file itself, a place beside it, or CLIP's two published files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from velatura.errors import ModelError
from velatura.families.sd15.configuration import CONFIG, own_settings
from velatura.tensorfile import read_header
from velatura.text import clip_tokens
from velatura.text.clip_tokens import ClipTokenizer, Vocabulary

REPOSITORY = "openai/clip-vit-large-patch14"
FILES = ("vocab.json", "merges.txt")


def load(path: Path, text_encoder: dict[str, Any]) -> ClipTokenizer:
    """The tokenizer of a base that is one file.

    Args:
        text_encoder: the text encoder's settings, whose vocabulary it must be.

    Raises:
        ModelError: it is nowhere to be found, damaged, or another one's.
    """
    header = read_header(path)
    if CONFIG in header.metadata:
        told = own_settings(header, path)["tokenizer"]
        return clip_tokens.build(Vocabulary(*(told.get(name) for name in Vocabulary._fields)), path)
    folder = _folder(path)
    tokenizer = clip_tokens.load(folder)
    if tokenizer.tokenizer.get_vocab_size() != text_encoder["vocab_size"]:
        raise ModelError(
            "this tokenizer is not the one of the base's text encoder",
            where=folder,
            fix=f"put {' and '.join(FILES)} of {REPOSITORY} beside {path.name}, in a folder named tokenizer",
        )
    return tokenizer


def _folder(path: Path) -> Path:
    """The folder with the tokenizer's files."""
    beside = path.parent / "tokenizer"
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
