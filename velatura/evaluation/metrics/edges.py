"""Edges: how many there are, how hard and how wide; line weight, density and blur.

At three scales: quantiles of the gradient magnitude, the share of pixels on a weak and on a strong edge,
and the spread of the Laplacian of Gaussian with its light and its dark half apart, since dark lines on
light ground and light lines on dark differ there. Values are scale-normalised (Lindeberg 1998).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from velatura.evaluation.metrics.pixels import Picture, Vector, lightness, square

SCALES = (0.7, 1.5, 3.0)
QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.99)
THRESHOLDS = (0.03, 0.12)
"""A weak and a strong edge, in lightness (0 to 1) per scale."""


def describe(image: Picture, side: int = 128) -> Vector:
    """Ten numbers per scale, shape (30,)."""
    light = lightness(square(image, side))
    numbers: list[float] = []
    for scale in SCALES:
        slope = scale * ndimage.gaussian_gradient_magnitude(light, scale)
        blob = scale**2 * ndimage.gaussian_laplace(light, scale)
        numbers += [float(value) for value in np.quantile(slope, QUANTILES)]
        numbers += [float((slope > threshold).mean()) for threshold in THRESHOLDS]
        halves = (blob, np.maximum(blob, 0), np.maximum(-blob, 0))
        numbers += [float(np.sqrt((half**2).mean())) for half in halves]
    return np.array(numbers)
