"""One hash for what a dataset says: its pictures, captions, masks and split, not where or under what names they lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from velatura.dataset.scan import Dataset, Picture
from velatura.dataset.split import Split

NONE: Mapping[str, Sequence[str]] = MappingProxyType({})


def content(picture: Picture) -> str:
    """What a picture contributes, as one line: hashes of file and mask, its captions as written, its repeats."""
    parts: list[object] = [picture.sha256, picture.captions, *([picture.mask_sha256] if picture.mask_sha256 else [])]
    parts += [picture.repeats] if picture.repeats > 1 else []
    return json.dumps(parts, ensure_ascii=True, separators=(",", ":"))


def fingerprint(
    dataset: Dataset,
    split: Split | None = None,
    *,
    regularisation: Iterable[Picture] = (),
    wildcards: Mapping[str, Sequence[str]] = NONE,
) -> str:
    """SHA-256 (64 hexadecimal digits) over all pictures' contents, in an order of their own.

    Renaming and reordering change nothing; a changed caption, one that is added empty, and another split do.

    Args:
        dataset: the pictures.
        split: what of them is held out; None: nothing.
        regularisation: pictures of the class that are trained beside them.
        wildcards: what the captions' wildcards stand for.
    """
    held_out = set(split.held_out) if split else set()
    told = [("held out " if at in held_out else "") + content(one) for at, one in enumerate(dataset.pictures)]
    told += [f"class {content(one)}" for one in regularisation]
    told += [f"wildcard {json.dumps([name, *lines])}" for name, lines in wildcards.items()]
    digest = hashlib.sha256(b"velatura dataset 2\n")
    for line in sorted(told):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
