"""One hash for what a dataset says: its pictures and their captions, not where or under what names they lie."""

from __future__ import annotations

import hashlib
import json

from velatura.dataset.scan import Dataset, Picture


def content(picture: Picture) -> str:
    """What a picture contributes, as one line: the hash of its file and its captions as written."""
    return json.dumps([picture.sha256, picture.captions], ensure_ascii=True, separators=(",", ":"))


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 (64 hexadecimal digits) over all pictures' contents, in an order of their own.

    Renaming and reordering change nothing; a changed caption, and one that is added empty, do.
    """
    digest = hashlib.sha256(b"velatura dataset 1\n")
    for line in sorted(content(picture) for picture in dataset.pictures):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
