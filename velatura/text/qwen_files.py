"""Where Qwen's tokenizer comes from when the text encoder is one file: the file, a place beside it, or the Hub."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from velatura.errors import ModelError
from velatura.text import qwen_tokens
from velatura.text.qwen_tokens import QwenTokenizer
from velatura.weights import hub, parts
from velatura.weights.containers import read_header

PUBLISHED = (
    ("Tongyi-MAI/Z-Image-Turbo", "tokenizer/tokenizer.json"),
    ("Tongyi-MAI/Z-Image", "tokenizer/tokenizer.json"),
    ("Qwen/Qwen3-4B", "tokenizer.json"),
)
"""Where the same tokenizer is published; the first is fetched where none is in the cache."""

LOGGER = logging.getLogger(__name__)


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
        return qwen_tokens.build(told.get("tokenizer"), path, vocabulary=vocabulary)
    beside = next((one for one in (path.parent / "tokenizer", path.parent) if qwen_tokens.has_files(one)), None)
    return qwen_tokens.load(beside or _published(path), vocabulary=vocabulary)


def _published(path: Path) -> Path:
    """The folder of the published tokenizer in the Hugging Face cache, fetched into it where it is missing."""
    import huggingface_hub

    for repository, name in PUBLISHED:
        cached = huggingface_hub.try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached).parent
    repository, name = PUBLISHED[0]
    try:
        if hub.offline():
            raise OSError("fetching is switched off")
        LOGGER.warning("fetching Qwen3's tokenizer (11 MB), once, from https://huggingface.co/%s", repository)
        return Path(huggingface_hub.hf_hub_download(repository, name)).parent
    except Exception as error:  # whatever ails the network, what to do is the same
        raise ModelError(
            "this text encoder comes without its tokenizer, and fetching Qwen3's failed",
            where=path,
            fix=f"put https://huggingface.co/{repository}/blob/main/{name} into {path.parent / 'tokenizer'}",
        ) from error
