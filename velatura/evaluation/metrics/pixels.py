"""Pictures brought to a common form: one square size, CIE Lab, lightness.

Shape suffixes: H and W height and width, N pictures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Picture = NDArray[np.uint8]
"""RGB, shape (H, W, 3)."""
Vector = NDArray[np.float64]

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = _TO_XYZ.sum(axis=1)


def square(image: Picture, side: int) -> Picture:
    """The centre of a picture, scaled so that its shorter edge is `side`; shape (side, side, 3).

    Raises:
        ValueError: the array is not RGB, uint8, (H, W, 3), or the side is under 16.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < 1:
        raise ValueError(f"a picture is uint8 of shape (H, W, 3), got {image.dtype} of shape {image.shape}")
    if side < 16:
        raise ValueError(f"the common side must be at least 16 pixels, got {side}")
    if image.shape[:2] == (side, side):
        return image
    return np.asarray(ImageOps.fit(Image.fromarray(image), (side, side), Image.Resampling.LANCZOS))


def lab(image: Picture) -> NDArray[np.float64]:
    """CIE 1976 L*a*b* of sRGB under D65, shape as the picture; L in [0, 100]."""
    share = np.arange(256) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    relative = linear[image] @ (_TO_XYZ.T / _WHITE)
    root = np.where(relative > 216 / 24389, np.cbrt(relative), relative * 841 / 108 + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lightness(image: Picture) -> NDArray[np.float64]:
    """L* as a share, shape (H, W), in [0, 1]: what the eye takes for light and dark."""
    share = np.arange(256) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    luminance = linear[image] @ _TO_XYZ[1]
    dark = luminance * 24389 / 2700
    return np.asarray(np.where(luminance > 216 / 24389, 1.16 * np.cbrt(luminance) - 0.16, dark))


def is_flat(image: Picture) -> bool:
    """Whether a picture shows nothing: one even tone, as a failed decode gives."""
    return bool(lightness(square(image, 32)).std() < 0.01 and image.reshape(-1, 3).std(axis=0).max() < 4)
