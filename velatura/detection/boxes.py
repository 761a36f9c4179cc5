"""Boxes that detectors find: pictures brought into the square that a network takes, and of boxes that overlap the best.

Boxes are left, top, right, bottom, in pixels. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from velatura.generation.finds import Box

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Letterbox:
    """A picture made to fit a size with its proportions kept, in the middle of what is grey."""

    picture: tuple[int, int]
    """Width and height of the picture."""
    size: tuple[int, int]
    """Those of the whole."""
    scale: float
    left: int
    top: int

    @classmethod
    def of(cls, picture: tuple[int, int], size: tuple[int, int]) -> Letterbox:
        """How a picture of a size fits into another."""
        scale = min(size[0] / picture[0], size[1] / picture[1])
        inner = max(1, round(picture[0] * scale)), max(1, round(picture[1] * scale))
        # as ultralytics rounds where the room is odd
        left, top = (round((whole - part) / 2 - 0.1) for whole, part in zip(size, inner, strict=True))
        return cls(picture, size, scale, left, top)

    @property
    def inner(self) -> tuple[int, int]:
        """Width and height that the picture has there."""
        return max(1, round(self.picture[0] * self.scale)), max(1, round(self.picture[1] * self.scale))

    def placed(self, image: Image.Image, grey: int) -> Image.Image:
        """The picture in its place."""
        rgb = image.convert("RGB")
        small = rgb if self.inner == image.size else rgb.resize(self.inner, Image.Resampling.BILINEAR)
        whole = Image.new("RGB", self.size, (grey, grey, grey))
        whole.paste(small, (self.left, self.top))
        return whole

    def back(self, box: Array) -> Box:
        """A box as it lies in the picture, cut off at its borders."""
        width, height = self.picture
        left, top, right, bottom = (float(side) for side in box)
        return (
            min(max((left - self.left) / self.scale, 0.0), width),
            min(max((top - self.top) / self.scale, 0.0), height),
            min(max((right - self.left) / self.scale, 0.0), width),
            min(max((bottom - self.top) / self.scale, 0.0), height),
        )


def overlap(one: Array, others: Array) -> Array:
    """Area that a box shares with each of others, as a share of what both cover."""
    inner = np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2])
    shared = np.prod(np.clip(inner, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(one[2:] - one[:2])
    return np.asarray(shared / np.maximum(areas - shared, 1e-9), dtype=np.float32)


def kept(boxes: Array, scores: Array, most: float, labels: NDArray[np.int64] | None = None) -> list[int]:
    """The places of boxes that no likelier one overlaps, the likeliest first.

    Args:
        boxes: (N, 4).
        scores: (N,).
        most: share of what two cover from which they are one.
        labels: where given, only boxes of one label are compared.
    """
    left = list(np.argsort(-scores, kind="stable"))
    found = []
    while left:
        best = int(left.pop(0))
        found.append(best)
        if left:
            shares = overlap(boxes[best], boxes[left])
            same = np.ones(len(left), bool) if labels is None else labels[left] == labels[best]
            left = [place for place, share, one in zip(left, shares, same, strict=True) if share <= most or not one]
    return found
