"""Which parts a base consists of, and where each of them lies: read from folders and headers alone, without torch.

A part is known by one of its keys. Whatever stands before that key is the part's prefix in the file, so an
all-in-one checkpoint, a file with one part and a part inside another program's checkpoint are one case.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from velatura.errors import ModelError
from velatura.tensorfile import Header

CONFIG = "velatura.config"
"""Key in a file's metadata, for bases of another size than the published one: JSON with the family, and under the
name of its folder the settings of each part in the file, of the scheduler and of the tokenizers."""


class Sign(NamedTuple):
    """How a part is known."""

    pattern: str
    """Matches one key of the part from where its own names begin, to the key's end."""
    layout: str = "original"
    """Whose names these are: the authors' ("original"), or "diffusers"."""
    shape: tuple[int | None, ...] | None = None
    """Of that key's tensor at the published size; None stands for any length."""
    beside: tuple[str, tuple[int | None, ...]] | None = None
    """Another key behind the same prefix and its shape, where the first is in parts of several kinds."""


@dataclass(frozen=True)
class PartKind:
    """One part of a family's bases."""

    name: str
    """ "denoiser", "text_encoder", "vae"..."""
    folder: str
    """Of a diffusers folder; also what its settings are called in `velatura.config`."""
    title: str
    """What a person calls it."""
    signs: tuple[Sign, ...]
    option: str = ""
    """How it is given where the base's own file lacks it, as in "--vae FILE"."""
    ambiguous: bool = False
    """Another family's looks the same and is wrong, so one that is found in the user's folders is not just taken."""


@dataclass(frozen=True)
class PartFiles:
    """Where one part lies."""

    files: tuple[Path, ...]
    prefix: str = ""
    """Before each of its keys."""
    layout: str = "diffusers"


def told(header: Header, where: object = None) -> dict[str, Any]:
    """What a file says of its own size; empty where it says nothing.

    Raises:
        ModelError: what it says is damaged.
    """
    if CONFIG not in header.metadata:
        return {}
    try:
        found = json.loads(header.metadata[CONFIG])
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("family"), str):
        raise damaged(where)
    return found


def damaged(where: object) -> ModelError:
    """What to say of a file whose own settings make no sense."""
    return ModelError(f"{CONFIG} in the file's metadata is damaged", where=where, fix="fetch the base again")


def find(header: Header, kind: PartKind) -> tuple[str, str] | None:
    """Prefix and layout of a part in a file, or None."""
    any_size = CONFIG in header.metadata
    for sign in kind.signs:
        known = re.compile(rf"(?:^|(?<=\.)){sign.pattern}$")
        for key, entry in header.entries.items():
            match = known.search(key)
            if match and (any_size or (_fits(entry.shape, sign.shape) and _fits_beside(header, match, sign))):
                return key[: match.start()], sign.layout
    return None


def _fits_beside(header: Header, match: re.Match[str], sign: Sign) -> bool:
    if sign.beside is None:
        return True
    name, shape = sign.beside
    entry = header.entries.get(match.string[: match.start()] + name)
    return entry is not None and _fits(entry.shape, shape)


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...] | None) -> bool:
    if wanted is None:
        return True
    return len(shape) == len(wanted) and all(
        length in (None, given) for given, length in zip(shape, wanted, strict=True)
    )


def held_by(header: Header, kinds: Iterable[PartKind]) -> dict[str, tuple[str, str]]:
    """The parts that a file holds: name -> prefix and layout."""
    found = {kind.name: find(header, kind) for kind in kinds}
    return {name: place for name, place in found.items() if place is not None}


def by_name(kinds: Iterable[PartKind]) -> Mapping[str, PartKind]:
    """The kinds by their names."""
    return {kind.name: kind for kind in kinds}
