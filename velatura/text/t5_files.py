"""Where the T5 tokenizer of a base that is files comes from: the file itself, a place beside it, or the network.

All versions of T5, v1.1 too, have one vocabulary, of 32,100 pieces.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from velatura.errors import ModelError
from velatura.text import t5_tokens
from velatura.text.t5_tokens import FILES, T5Tokenizer
from velatura.weights import parts
from velatura.weights.containers import read_header

PUBLISHED = ("google-t5/t5-base", "tokenizer.json")
"""Repository and file that are fetched: open to everybody, 1.4 MB."""

CACHED = (
    PUBLISHED,
    ("black-forest-labs/FLUX.1-dev", "tokenizer_2/tokenizer.json"),
    ("black-forest-labs/FLUX.1-schnell", "tokenizer_2/tokenizer.json"),
    ("google/t5-v1_1-xxl", "spiece.model"),
)
"""Where the Hugging Face cache may have it from."""

FOLDER = "t5_tokenizer"
"""What ComfyUI calls the folder with it."""

ROUNDED_TO = 128
"""T5's embedding has as many rows as its vocabulary has pieces, rounded up to a multiple of this."""

LOGGER = logging.getLogger(__name__)


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
    folder = _beside(path, name) or _cached() or _fetched(path)
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


def _cached() -> Path | None:
    """A folder of the Hugging Face cache."""
    import huggingface_hub

    found = (huggingface_hub.try_to_load_from_cache(repository, name) for repository, name in CACHED)
    return next((Path(known).parent for known in found if isinstance(known, str)), None)


def _fetched(path: Path) -> Path:
    """The same, after fetching it once."""
    import huggingface_hub

    repository, name = PUBLISHED
    LOGGER.warning("fetching T5's tokenizer (1.4 MB), once, from https://huggingface.co/%s", repository)
    try:
        return Path(huggingface_hub.hf_hub_download(repository, name)).parent
    except Exception as error:  # whatever ails the network, what to do is the same
        raise ModelError(
            "these files come without the tokenizer of T5, and fetching it failed",
            where=path,
            fix=f"put {name} from https://huggingface.co/{repository} into {path.parent / FOLDER}",
        ) from error
