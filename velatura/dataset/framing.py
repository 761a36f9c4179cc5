"""Which part of a picture is kept, and at what size: geometry alone, so that a picture and its mask agree.

Sizes are (width, height) in pixels, boxes (left, top, right, bottom) in pixels of the upright picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from velatura.dataset.buckets import Size

Box = tuple[float, float, float, float]
Focus = Literal["centre", "saliency", "face"]
"""What a crop is laid around."""


@dataclass(frozen=True)
class Target:
    """What pictures are to become; all None leaves size and shape as they are."""

    long_side: int | None = None
    """Length of the longer side, in pixels; the shape stays."""
    cover: Size | None = None
    """Exactly this size: scaled to cover it, the rest cut away."""
    box: Box | None = None
    """Cut to this part first."""
    focus: Focus = "centre"
    enlarge: bool = True
    """Also scale small pictures up."""
    mirror: bool = False

    def __str__(self) -> str:
        """In words, as the history of edits shows it."""
        parts = []
        if self.box is not None:
            parts.append("cut to " + " ".join(f"{side:g}" for side in self.box))
        if self.long_side:
            parts.append(f"long side {self.long_side}")
        if self.cover:
            parts.append(f"{self.cover[0]} x {self.cover[1]} around the {self.focus}")
        if self.mirror:
            parts.append("mirrored")
        if (self.long_side or self.cover) and not self.enlarge:
            parts.append("nothing enlarged")
        return ", ".join(parts)


@dataclass(frozen=True)
class Frame:
    """One picture's own part and size."""

    box: Box
    size: Size
    mirror: bool = False

    def is_all_of(self, size: Size) -> bool:
        """Whether it leaves a picture of this size as it is."""
        return not self.mirror and self.size == size and self.box == (0, 0, *size)


def frame(size: Size, target: Target, *, focus: tuple[float, float] | None = None) -> Frame:
    """The part of a picture that is kept, and its new size.

    Args:
        size: of the upright picture.
        target: what it is to become.
        focus: the point to crop around, in pixels of the picture; None is the middle.

    Raises:
        ValueError: the target's box leaves nothing of the picture.
    """
    left, top, right, bottom = target.box or (0, 0, *size)
    left, top, right, bottom = max(0, left), max(0, top), min(size[0], right), min(size[1], bottom)
    width, height = right - left, bottom - top
    if width < 1 or height < 1:
        raise ValueError(f"nothing of {size[0]} x {size[1]} pixels is inside {target.box}")
    if target.cover is None:
        longest = max(width, height)
        wanted = longest if target.long_side is None else target.long_side
        scale = wanted / longest if target.enlarge else min(1, wanted / longest)
        whole = max(1, round(width * scale)), max(1, round(height * scale))
        return Frame((left, top, right, bottom), whole, target.mirror)

    across, down = target.cover
    scale = max(across / width, down / height)
    if not target.enlarge and scale > 1:  # the largest part of this shape, at its own size
        across, down, scale = int(across / scale), int(down / scale), 1
    kept_width, kept_height = min(width, across / scale), min(height, down / scale)
    x, y = focus or (left + width / 2, top + height / 2)
    start_x = min(max(x - kept_width / 2, left), right - kept_width)
    start_y = min(max(y - kept_height / 2, top), bottom - kept_height)
    return Frame((start_x, start_y, start_x + kept_width, start_y + kept_height), (across, down), target.mirror)
