"""Pictures painted on the spot, for tests of datasets."""

from __future__ import annotations

import numpy as np
from PIL import Image


def clouds(seed: int, size: tuple[int, int]) -> Image.Image:
    """Smooth coloured blotches; another seed gives a picture that nobody would take for this one."""
    spots = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(spots).resize(size, Image.Resampling.BICUBIC)
