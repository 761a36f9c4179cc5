"""Where a picture draws the eye: where it is in focus and full of detail, and unlike the rest in colour.

A crop keeps as much of it as it can. Nothing is recognised; for faces there is `velatura.dataset.faces`.
Source of the colour's part: Achanta et al. 2009, "Frequency-tuned Salient Region Detection" (distance from
the mean colour). Detail counts more: where a lens was focused is what the picture is of.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from velatura.dataset.buckets import Size
from velatura.dataset.framing import Box

SIDE = 64
"""Pixels of the longer side that saliency is measured at: composition, not detail."""

_FINE = 4
"""Detail is measured this many times finer, and gathered."""

_COLOUR = 0.15
"""How much an unlike colour counts, against detail."""

_MIDDLE = 0.25
"""How much the middle counts beforehand: people put there what matters."""

Map = NDArray[np.float32]


def saliency(image: Image.Image) -> Map:
    """How much each part draws the eye, 0 to 1, on a small grid of the picture's shape, (rows, columns)."""
    scale = SIDE / max(image.size)
    columns, rows = max(8, round(image.width * scale)), max(8, round(image.height * scale))
    fine = image.convert("RGB").resize((columns * _FINE, rows * _FINE), Image.Resampling.BOX)
    small = fine.resize((columns, rows), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(1))
    colours = np.asarray(small.convert("YCbCr"), dtype=np.float32)
    unlike = np.linalg.norm(colours - colours.mean((0, 1)), axis=-1)
    found = _scaled(_detail(fine, rows, columns)) + _COLOUR * _scaled(unlike)
    y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)[None]
    return _scaled((found * (1 - _MIDDLE * (x**2 + y**2) / 2)).astype(np.float32))


def focus_of(image: Image.Image, crop: Size, *, within: Box | None = None) -> tuple[float, float]:
    """The point around which a crop of this size keeps the most of what draws the eye.

    Args:
        image: the upright picture; a small version will do, `crop` and `within` then count in its pixels.
        crop: the largest part of the picture that has the wanted shape.
        within: where the crop may lie; None is anywhere.
    """
    found = saliency(image)
    rows, columns = found.shape
    left, top, right, bottom = within or (0, 0, *image.size)
    x, y = columns / image.width, rows / image.height
    wide, high = min(columns, max(1, round(crop[0] * x))), min(rows, max(1, round(crop[1] * y)))
    sums = np.pad(found.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    windows = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    allowed = windows[round(top * y) : round(bottom * y) - high + 1, round(left * x) : round(right * x) - wide + 1]
    if allowed.size == 0:
        return (left + right) / 2, (top + bottom) / 2
    best = np.argwhere(allowed >= allowed.max() * (1 - 1e-6)).mean(0)  # of equals the middle one
    row, column = best[0] + round(top * y), best[1] + round(left * x)
    return float((column + wide / 2) / x), float((row + high / 2) / y)


def _detail(fine: Image.Image, rows: int, columns: int) -> Map:
    """Strength of fine edges, gathered on the grid; its root, so that one hard edge does not outweigh a texture."""
    grey = np.asarray(fine.convert("L"), dtype=np.float32)
    across, down = np.abs(np.diff(grey, axis=1, append=grey[:, -1:])), np.abs(np.diff(grey, axis=0, append=grey[-1:]))
    gathered = (across + down).reshape(rows, _FINE, columns, _FINE).mean((1, 3))
    return np.asarray(np.sqrt(gathered), dtype=np.float32)


def _scaled(values: Map) -> Map:
    spread = values.max() - values.min()
    return np.asarray((values - values.min()) / max(spread, 1e-9), dtype=np.float32)
