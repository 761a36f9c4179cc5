"""What a detector found in a picture, and which of it is painted anew in which order: ADetailer's arithmetic.

Finds are filtered by their share of the picture, the largest or surest of them kept, and put in order; each then
becomes a mask: its own shape or its box, moved, grown or shrunk, and merged with the others where that is asked.
Source: Bing-su/adetailer (mask.py, args.py), whose presets these are too. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""

Order = Literal["found", "left to right", "centre to edge", "largest first"]


@dataclass(frozen=True)
class Find:
    """One thing that was found."""

    box: Box
    confidence: float = 1.0
    """0 to 1."""
    label: str = ""
    """What it was taken for."""
    mask: Image.Image | None = field(default=None, compare=False)
    """Its shape, grey, of the picture's size; None: its box."""

    @property
    def area(self) -> float:
        """Of the box, in pixels."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)

    def shape(self, size: tuple[int, int]) -> Image.Image:
        """White where it is, black elsewhere."""
        if self.mask is not None:
            return self.mask.convert("L")
        drawn = Image.new("L", size)
        ImageDraw.Draw(drawn).rectangle(self.box, fill=255)
        return drawn


@dataclass(frozen=True)
class Picking:
    """Which finds count, and how each becomes a mask."""

    confidence: float = 0.3
    """Less sure ones are left out."""
    labels: tuple[str, ...] = ()
    """Only these; none: all."""
    least_area: float = 0.0
    """Share of the picture, 0 to 1, below which a find is left out."""
    most_area: float = 1.0
    """The same above."""
    count: int = 0
    """How many are kept; 0: all."""
    by: Literal["area", "confidence"] = "area"
    """Whether the largest or the surest are kept."""
    order: Order = "found"
    grow: int = 4
    """Side of the square by which masks grow, in pixels; below 0: by which they shrink."""
    right: int = 0
    """Pixels by which masks are moved to the right."""
    up: int = 0
    """Pixels by which they are moved up."""
    merge: Literal["none", "merge", "merge and invert"] = "none"
    """Paint all at once; or all but these."""


def picked(finds: Sequence[Find], size: tuple[int, int], told: Picking, *, drawn: Sequence[Find] = ()) -> list[Find]:
    """The finds that count, in the order in which they are painted.

    Args:
        finds: as the detector told them.
        size: the picture's width and height.
        told: what counts.
        drawn: what a person drew, all of which counts.
    """
    area = size[0] * size[1]
    sure = [one for one in finds if one.confidence >= told.confidence and (not told.labels or one.label in told.labels)]
    kept = [one for one in sure if told.least_area <= one.area / area <= told.most_area]
    if told.count:
        worth = [one.area if told.by == "area" else one.confidence for one in kept]
        # of equal ones the last come first, as ADetailer's do
        places = sorted(range(len(kept)), key=lambda place: (worth[place], place))[-told.count :]
        kept = [kept[place] for place in reversed(places)]
    return _ordered([*drawn, *kept], size, told.order)


def _ordered(finds: list[Find], size: tuple[int, int], order: Order) -> list[Find]:
    centre = size[0] / 2, size[1] / 2

    def off_centre(one: Find) -> float:
        left, top, right, bottom = one.box
        return math.dist(centre, ((left + right) / 2, (top + bottom) / 2))

    match order:
        case "left to right":
            return sorted(finds, key=lambda one: one.box[0])
        case "centre to edge":
            return sorted(finds, key=off_centre)
        case "largest first":
            return sorted(finds, key=lambda one: -one.area)
    return finds


def masks(finds: Sequence[Find], size: tuple[int, int], told: Picking) -> list[Image.Image]:
    """The masks to paint by, one after another; those that shrinking leaves nothing of are left out."""
    made = [one.shape(size) for one in finds]
    if told.right or told.up:
        made = [ImageChops.offset(mask, told.right, -told.up) for mask in made]
    if told.grow:
        made = [grown for mask in made if (grown := grown_by(mask, told.grow)).getbbox()]
    if told.merge == "none" or not made:
        return made
    together = made[0]
    for mask in made[1:]:
        together = ImageChops.lighter(together, mask)
    return [ImageChops.invert(together) if told.merge == "merge and invert" else together]


def grown_by(mask: Image.Image, side: int) -> Image.Image:
    """The mask grown by a square of so many pixels, or shrunk where that is below 0."""
    from scipy.ndimage import maximum_filter, minimum_filter

    levels: NDArray[np.uint8] = np.asarray(mask)
    if side > 0:
        levels = maximum_filter(levels, size=side, mode="constant", cval=0)
    elif side < 0:
        levels = minimum_filter(levels, size=-side, mode="constant", cval=255)
    return Image.fromarray(levels)
