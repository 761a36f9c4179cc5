"""Masks: grey pictures that say how much each part of a picture counts, white fully and black not at all.

A picture's mask is `masks/NAME.png`. It is as large as the picture, or of the same shape, and follows it
through every crop, resize, flip, rename and undo.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from velatura.dataset import images
from velatura.dataset.buckets import Size
from velatura.errors import DatasetError

SHAPE_TOLERANCE = 0.02
"""A mask of another size belongs to its picture if its shape differs by no more than this share."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the upright picture."""


def read(path: Path, size: Size) -> Image.Image:
    """The mask as 8-bit grey at the picture's size.

    Raises:
        DatasetError: it cannot be read, or has another shape than the picture.
    """
    grey = images.open_image(path).convert("L")
    if grey.size == size:
        return grey
    shape, wanted = grey.width / grey.height, size[0] / size[1]
    if abs(shape / wanted - 1) > SHAPE_TOLERANCE:
        raise DatasetError(
            f"the mask is {grey.width} x {grey.height} pixels and the picture {size[0]} x {size[1]}",
            where=path,
            fix="make the mask anew from the picture as it is now",
        )
    return grey.resize(size, Image.Resampling.BILINEAR)


def from_alpha(path: Path) -> Image.Image | None:
    """A picture's own transparency as its mask; None where it has none, or is opaque everywhere."""
    alpha = images.open_alpha(path)
    if alpha is None or alpha.getextrema()[0] == 255:
        return None
    return alpha


def from_boxes(
    size: Size, boxes: Sequence[Box], *, inside: int = 255, outside: int = 0, blur: float = 0
) -> Image.Image:
    """A mask of rectangles.

    Args:
        size: of the picture.
        boxes: in pixels of the upright picture.
        inside: grey in them, 0 to 255.
        outside: grey elsewhere.
        blur: radius in pixels over which the edge fades.
    """
    mask = Image.new("L", size, outside)
    draw = ImageDraw.Draw(mask)
    for left, top, right, bottom in boxes:
        if right - 1 >= left and bottom - 1 >= top:  # a part of a pixel is none
            draw.rectangle((left, top, right - 1, bottom - 1), fill=inside)
    return mask.filter(ImageFilter.GaussianBlur(blur)) if blur else mask


def coverage(mask: Image.Image) -> float:
    """The mean weight of a mask, 0 to 1."""
    return float(np.asarray(mask, dtype=np.float32).mean()) / 255


def png(mask: Image.Image) -> bytes:
    """The mask as a PNG file."""
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return buffer.getvalue()


def name_for(picture: str) -> str:
    """Where the mask of a picture goes, by the picture's name."""
    return f"masks/{picture.rpartition('.')[0]}.png"
