"""One hash for what a dataset says: its pictures, captions and masks, not where or under what names they lie."""

from __future__ import annotations

import hashlib
import json

from velatura.dataset.scan import Dataset, Picture


def content(picture: Picture) -> str:
    """What a picture contributes, as one line: hashes of its file and its mask, and its captions as written."""
    parts = [picture.sha256, picture.captions, *([picture.mask_sha256] if picture.mask_sha256 else [])]
    return json.dumps(parts, ensure_ascii=True, separators=(",", ":"))


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 (64 hexadecimal digits) over all pictures' contents, in an order of their own.

    Renaming and reordering change nothing; a changed caption, and one that is added empty, do.
    """
    digest = hashlib.sha256(b"velatura dataset 1\n")
    for line in sorted(content(picture) for picture in dataset.pictures):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
