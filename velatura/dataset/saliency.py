"""Where a picture draws the eye: what stands out from its surroundings in lightness, colour and edges.

A crop keeps as much of it as it can. Nothing is recognised; for faces there is `velatura.dataset.faces`.
Sources: Achanta et al. 2009, "Frequency-tuned Salient Region Detection" (distance from the mean colour);
Hou & Zhang 2007, "Saliency Detection: A Spectral Residual Approach".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from velatura.dataset.buckets import Size
from velatura.dataset.framing import Box

SIDE = 64
"""Pixels of the longer side that saliency is measured at: composition, not detail."""

_MIDDLE = 0.35
"""How much the middle counts beforehand: people put there what matters."""

Map = NDArray[np.float32]


def saliency(image: Image.Image) -> Map:
    """How much each part draws the eye, 0 to 1, on a small grid of the picture's shape, (rows, columns)."""
    scale = SIDE / max(image.size)
    size = max(8, round(image.width * scale)), max(8, round(image.height * scale))
    small = image.convert("RGB").resize(size, Image.Resampling.BOX)
    lab = np.asarray(small.filter(ImageFilter.GaussianBlur(1)).convert("YCbCr"), dtype=np.float32)
    distance = np.linalg.norm(lab - lab.mean((0, 1)), axis=-1)
    found = _scaled(distance) + _scaled(_residual(np.asarray(small.convert("L"), dtype=np.float32)))
    rows, columns = found.shape
    y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)[None]
    prior = 1 - _MIDDLE * (x**2 + y**2)
    return _scaled((found * prior).astype(np.float32))


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


def _residual(grey: Map) -> Map:
    """Spectral residual: what of the spectrum is unlike its own smooth course."""
    spectrum = np.fft.fft2(grey)
    amplitude = np.log(np.abs(spectrum) + 1e-6)
    smooth = sum(np.roll(amplitude, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)) / 9
    found = np.abs(np.fft.ifft2(np.exp(amplitude - smooth + 1j * np.angle(spectrum)))) ** 2
    found = _scaled(found.astype(np.float32))
    blurred = Image.fromarray((found * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2.5))
    return np.asarray(blurred, dtype=np.float32)


def _scaled(values: Map) -> Map:
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread > 1e-9 else np.zeros_like(values)
