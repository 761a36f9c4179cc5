"""Palette: which colours a picture holds, and in what amounts, wherever they stand.

The Lab values of all pixels are projected on fixed directions; the quantiles of each projection are
the feature. The mean absolute difference of two such vectors is the sliced Wasserstein-1 distance of
the two colour distributions (Bonneel et al. 2015).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from velatura.evaluation.metrics.pixels import Picture, Vector, lab, square
from velatura.randomness import generator

DIRECTIONS = 16
QUANTILES = 32


@cache
def _directions() -> Vector:
    """Unit vectors in Lab, shape (3, DIRECTIONS), the same everywhere and always."""
    drawn = generator(0, "palette directions").standard_normal((3, DIRECTIONS))
    unit: Vector = drawn / np.linalg.norm(drawn, axis=0)
    return unit


def describe(image: Picture, side: int = 128) -> Vector:
    """Quantiles of the colours along each direction, in Lab units; shape (DIRECTIONS * QUANTILES,)."""
    projected = np.sort(lab(square(image, side)).reshape(-1, 3) @ _directions(), axis=0)
    middles = (np.arange(QUANTILES) + 0.5) / QUANTILES * len(projected)
    return np.asarray(projected[middles.astype(int)].T.ravel())
