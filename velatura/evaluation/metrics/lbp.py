"""Local binary patterns: which small light-dark arrangements a surface is made of.

Every pixel is compared with eight neighbours on a ring; the histogram of the uniform patterns (at most two
changes around the ring), with one bin for all others, at three radii. Source: Ojala et al. 2002.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from velatura.evaluation.metrics.pixels import Picture, Vector, lightness, square

RADII = (1, 2, 4)
_RING = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
BINS = 59


@cache
def _bins() -> NDArray[np.int64]:
    """The histogram bin of each of the 256 patterns; 58 uniform ones, the rest share the last."""
    table = np.full(256, BINS - 1, dtype=np.int64)
    uniform = 0
    for pattern in range(256):
        turned = (pattern >> 1) | ((pattern & 1) << 7)
        if (pattern ^ turned).bit_count() <= 2:
            table[pattern] = uniform
            uniform += 1
    return table


def describe(image: Picture, side: int = 128) -> Vector:
    """Square roots of the pattern shares, so that Euclidean distance is Hellinger's; shape (3 * 59,)."""
    light = lightness(square(image, side))
    parts: list[Vector] = []
    for radius in RADII:
        centre = light[radius:-radius, radius:-radius]
        pattern = np.zeros(centre.shape, dtype=np.int64)
        for bit, (down, across) in enumerate(_RING):
            top, left = radius * (1 + down), radius * (1 + across)
            neighbour = light[top : top + centre.shape[0], left : left + centre.shape[1]]
            pattern |= (neighbour > centre + 1e-3).astype(np.int64) << bit
        counts = np.bincount(_bins()[pattern.ravel()], minlength=BINS)
        parts.append(np.sqrt(counts / pattern.size))
    return np.concatenate(parts)
