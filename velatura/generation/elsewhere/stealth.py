"""Words hidden in a picture's pixels, which stay where its chunks are taken away: NovelAI, and extensions of A1111.

The lowest bit of each pixel's alpha, column by column, or of its red, green and blue: a signature that says which, and
whether what follows is compressed; then 32 bits that count the bits of the text; then the text in UTF-8, or as gzip.
NovelAI hides JSON of its chunks, A1111's extensions the infotext.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from velatura.errors import FileProblem
from velatura.generation.carriers import Embedded

SIGNATURES: Mapping[str, tuple[int, bool]] = {
    "stealth_pnginfo": (1, False),
    "stealth_pngcomp": (1, True),
    "stealth_rgbinfo": (3, False),
    "stealth_rgbcomp": (3, True),
}
"""Signature -> bits of each pixel, and whether the text is compressed."""

LONGEST = 16_000_000
"""Bytes of a text at most: what says more is no text."""


def read(path: Path) -> Embedded:
    """What a picture's pixels say; nothing where they say nothing.

    Raises:
        FileProblem: it is no picture.
    """
    try:
        with Image.open(path) as image:
            text = hidden(image) if image.format in ("PNG", "WEBP") else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FileProblem("this is not a picture that can be read safely", where=path) from error
    told = chunks(text) if text else {}
    return Embedded(told.pop("parameters", None), None, told)


def hidden(image: Image.Image) -> str | None:
    """The text that is hidden in a picture; None where there is none, or it is damaged."""
    if image.mode not in ("RGB", "RGBA"):
        return None
    pixels = np.asarray(image)
    planes = {3: pixels[..., :3], 1: pixels[..., 3:]}
    for signature, (bits, compressed) in SIGNATURES.items():
        plane = planes[bits]
        begins = len(signature) * 8
        if not plane.size or _packed(_columns(plane, begins)) != signature.encode():
            continue
        head = _packed(_columns(plane, begins + 32)[begins:])
        count = int.from_bytes(head, "big")
        if count > min(plane.size, LONGEST * 8):
            return None
        data = _packed(_columns(plane, begins + 32 + count)[begins + 32 :])
        try:
            return (_unpacked(data) if compressed else data).decode("utf-8")
        except (zlib.error, UnicodeDecodeError, ValueError):
            return None
    return None


def chunks(text: str) -> dict[str, str]:
    """The chunks that a hidden text stands for: NovelAI's by their names, an infotext by A1111's."""
    if text.lstrip().startswith("{"):
        try:
            told = json.loads(text)
        except ValueError:
            return {}
        return {str(key): value for key, value in told.items() if isinstance(value, str)}
    return {"parameters": text}


def _columns(plane: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """So many lowest bits, column by column."""
    columns = -(-count // (plane.shape[0] * plane.shape[2]))
    return (plane[:, :columns] & np.uint8(1)).transpose(1, 0, 2).reshape(-1)[:count]


def _packed(bits: NDArray[np.uint8]) -> bytes:
    return np.packbits(bits).tobytes()


def _unpacked(data: bytes) -> bytes:
    unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS)
    found = unpacking.decompress(data, LONGEST)
    if not unpacking.eof:
        raise ValueError("the text is cut off, or too long")
    return found
