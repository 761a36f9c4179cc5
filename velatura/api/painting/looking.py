"""What a detector finds in a picture, and the same drawn on it (no torch)."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw

from velatura.dataset.images import open_image
from velatura.detection import detector
from velatura.errors import SettingsError
from velatura.files import write_bytes
from velatura.generation.finds import Find

PEN = (255, 0, 200)

FAINT = 90
"""How much of a shape's colour shows, of 255."""


def look(name: str, picture: Path, confidence: float = 0.3, out: Path | None = None) -> list[Find]:
    """What a detector finds, the surest first.

    Args:
        name: as `detection.detector` knows it.
        picture: the file.
        confidence: 0 to 1; less sure finds are left out.
        out: a PNG to write with the finds drawn on the picture; none: none is written.

    Raises:
        SettingsError, ModelError, MissingExtra: as `detection.detector`; or the file to write is there already.
        DatasetError: the picture cannot be read.
    """
    if out is not None and out.exists():
        raise SettingsError("this file is there already", where=out, fix="name another with --out")
    image = open_image(picture)
    finds = detector(name, confidence)(image)
    if out is not None:
        buffer = io.BytesIO()
        drawn(image, finds).save(buffer, "PNG")
        write_bytes(out, buffer.getvalue())
    return finds


def drawn(image: Image.Image, finds: list[Find]) -> Image.Image:
    """The finds on a copy of the picture: boxes, shapes where there are some, and how sure each is."""
    made = image.convert("RGB").copy()
    pen = ImageDraw.Draw(made)
    width = max(1, round(max(image.size) / 256))
    for one in finds:
        if one.mask is not None:
            made.paste(PEN, mask=one.mask.point([level * FAINT // 255 for level in range(256)]))
        pen.rectangle(one.box, outline=PEN, width=width)
        told = f"{one.label} {one.confidence:.2f}".strip()
        pen.text(
            (one.box[0] + width, one.box[1] + width), told, fill=PEN, stroke_width=width, stroke_fill=(255, 255, 255)
        )
    return made
