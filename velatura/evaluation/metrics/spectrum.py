"""Spectrum: how much there is at each fineness, and which way the fine marks run.

Twelve bands of the windowed power spectrum, evenly spaced in log frequency, and for the finest four the
share of power in each of four directions: hatching, grain, brush, blur.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from velatura.evaluation.metrics.pixels import Picture, Vector, lightness, square

BANDS = 12
ORIENTED_BANDS = 4
ORIENTATIONS = 4
LOWEST = 2.0
"""Where the first band begins, in waves per picture."""
_NOISE_FLOOR = 1e-7
"""Added to the mean power of a band, so that an empty one has a logarithm; about 8-bit rounding noise."""


@cache
def _maps(side: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Window (side, side); band (-1 outside) and orientation of each coefficient of `rfft2`."""
    window = np.outer(np.hanning(side), np.hanning(side))
    down = np.fft.fftfreq(side)[:, None] * side
    across = np.fft.rfftfreq(side)[None, :] * side
    radius = np.hypot(down, across)
    limits = np.geomspace(LOWEST, side / 2, BANDS + 1)
    band: NDArray[np.int64] = (np.digitize(radius, limits) - 1).astype(np.int64)
    band[(radius < LOWEST) | (band >= BANDS)] = -1
    angle = np.mod(np.arctan2(down, across) + np.pi / (2 * ORIENTATIONS), np.pi)
    orientation = np.minimum((angle / np.pi * ORIENTATIONS).astype(np.int64), ORIENTATIONS - 1)
    unit: NDArray[np.float64] = window / np.sqrt((window**2).mean())
    return unit, band, orientation


def describe(image: Picture, side: int = 128) -> Vector:
    """Log10 power of each band, then direction shares, shape (12 + 4 * 4,)."""
    window, band, orientation = _maps(side)
    light = lightness(square(image, side))
    power = np.abs(np.fft.rfft2((light - light.mean()) * window)) ** 2 / side**2
    inside = band >= 0
    total = np.bincount(band[inside], weights=power[inside], minlength=BANDS)
    count = np.maximum(np.bincount(band[inside], minlength=BANDS), 1)
    fine = band >= BANDS - ORIENTED_BANDS
    cell = (band[fine] - (BANDS - ORIENTED_BANDS)) * ORIENTATIONS + orientation[fine]
    sums = np.bincount(cell, weights=power[fine], minlength=ORIENTED_BANDS * ORIENTATIONS)
    directed = sums.reshape(ORIENTED_BANDS, ORIENTATIONS) + _NOISE_FLOOR
    shares = directed / directed.sum(axis=1, keepdims=True)
    return np.concatenate([np.log10(total / count + _NOISE_FLOOR), shares.ravel()])
