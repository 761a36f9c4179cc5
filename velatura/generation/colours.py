"""Colours of a painted picture brought back to those of the picture that painting began with, as A1111 corrects them.

Painting from a picture again and again shifts its colours a little each time. The correction gives each channel of the
painted picture, in CIE L*a*b*, the distribution of values that it has in the other, and then puts the painted picture's
own brightness back on top: colours are corrected, light and shade stay as painted.
Source: CIE 15 (L*a*b*, sRGB's white D65), in steps of 1/255 of L* as OpenCV counts it; W3C Compositing and Blending,
the non-separable blend mode "luminosity".
"""

from __future__ import annotations

import numpy as np
from PIL import Image

TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
"""Linear sRGB -> XYZ."""
WHITE = np.array([0.950456, 1.0, 1.088754])
LINEAR = 0.008856
"""Share of white below which the cube root goes on as a line."""
SLOPE, INTERCEPT = 7.787, 16 / 116
LUMINOSITY = np.array([0.299, 0.587, 0.114])

GAMMA_BITS, MATRIX_BITS, ROOT_BITS = 3, 12, 15
"""Binary places of linear light, of the matrix and of the roots, where OpenCV counts in integers."""
_LEVELS = np.arange(256) / 255
_LINEAR_LIGHT = np.rint(
    (255 << GAMMA_BITS) * np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4)
).astype(np.int64)
_SHARES = np.arange(384 << GAMMA_BITS) / (255 << GAMMA_BITS)
_ROOTS = np.rint((1 << ROOT_BITS) * np.where(_SHARES < LINEAR, SLOPE * _SHARES + INTERCEPT, np.cbrt(_SHARES))).astype(
    np.int64
)
_MATRIX = np.rint((1 << MATRIX_BITS) * TO_XYZ / WHITE[:, None]).astype(np.int64)


def corrected(painted: Image.Image, like: Image.Image) -> Image.Image:
    """A painted picture in the colours of another.

    Args:
        painted: RGB.
        like: RGB, of any size: only how often its colours occur counts.
    """
    lab, target = (to_lab(np.asarray(one.convert("RGB"))) for one in (painted, like))
    for channel in range(3):
        lab[..., channel] = _matched(lab[..., channel], target[..., channel])
    return _lit(np.rint(from_lab(lab)), np.asarray(painted.convert("RGB")))


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """L*, a* and b* of sRGB pixels, uint8 both, (..., 3): L* times 2.55, the others plus 128, as OpenCV rounds them."""
    x, y, z = np.moveaxis(_ROOTS[_rounded(_LINEAR_LIGHT[rgb] @ _MATRIX.T, MATRIX_BITS)], -1, 0)
    one = 1 << ROOT_BITS
    lightness = ((116 * 255 + 50) // 100) * y - (16 * 255 * one + 50) // 100
    lab = np.stack([lightness, 500 * (x - y) + 128 * one, 200 * (y - z) + 128 * one], axis=-1)
    found: np.ndarray = np.clip(_rounded(lab, ROOT_BITS), 0, 255).astype(np.uint8)
    return found


def _rounded(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Without their last binary places."""
    found: np.ndarray = (numbers + (1 << bits - 1)) >> bits
    return found


def from_lab(lab: np.ndarray) -> np.ndarray:
    """The way back, (..., 3) from 0 to 255, not rounded; colours that sRGB does not have are cut off."""
    lightness, a, b = np.moveaxis(lab.astype(np.float32), -1, 0)
    y = (lightness / 2.55 + 16) / 116  # near black, where it is a line, this is that line to a hundredth of a level
    roots = np.stack([y + (a - 128) / 500, y, y - (b - 128) / 200], axis=-1)
    xyz = np.where(roots > SLOPE * LINEAR + INTERCEPT, roots**3, (roots - INTERCEPT) / SLOPE) * WHITE
    linear = np.clip(xyz @ np.linalg.inv(TO_XYZ).T, 0, 1)
    share = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    found: np.ndarray = np.clip(share * 255, 0, 255)
    return found


def _matched(values: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Values moved so that shares of them lie below each as in the target; between two they are cut, not rounded."""
    counts, wanted = np.bincount(values.ravel(), minlength=256), np.bincount(target.ravel(), minlength=256)
    there = np.nonzero(wanted)[0]
    moved = np.interp(np.cumsum(counts) / values.size, np.cumsum(wanted[there]) / target.size, there)
    found: np.ndarray = moved.astype(np.uint8)[values]
    return found


def _lit(coloured: np.ndarray, painted: np.ndarray) -> Image.Image:
    """Pixels in the colours of one picture and the luminosity of the other, both 0 to 255."""
    coloured, painted = coloured / 255, painted / 255
    coloured = coloured + ((painted - coloured) @ LUMINOSITY)[..., None]
    light = (coloured @ LUMINOSITY)[..., None]
    lowest, highest = coloured.min(-1, keepdims=True), coloured.max(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        coloured = np.where(lowest < 0, light + (coloured - light) * light / (light - lowest), coloured)
        coloured = np.where(highest > 1, light + (coloured - light) * (1 - light) / (highest - light), coloured)
    return Image.fromarray((np.clip(coloured, 0, 1) * 255).astype(np.uint8))
