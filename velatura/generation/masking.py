"""What of a picture is painted anew: masks, the part that is worked on, and how the result goes back.

A mask is grey: white is painted anew, black stays. Arithmetic is A1111's (modules/masking.py and processing.py of
1.10), so that the same mask means the same part here and there; where its padding leaves the picture's proportions,
so does this.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from velatura.errors import SettingsError
from velatura.generation.start import fitted

SOLID = 128
"""Greys above it count as white where a mask is to be hard."""

_SPREADS = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1))
"""Radii of the blurs that fill a hole from afar to near, and how often each is laid on."""


class Region(NamedTuple):
    """A part of a picture, in pixels; right and bottom are outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top


def grey(mask: Image.Image, *, hard: bool = True, invert: bool = False) -> Image.Image:
    """A mask out of any picture: its transparency where it has some, else its brightness.

    Args:
        mask: any picture; what is opaque or bright is painted anew.
        hard: white above the middle, black below.
        invert: paint anew what the mask leaves.
    """
    own = mask.convert("RGBA") if "transparency" in mask.info else mask
    alpha = own.getchannel("A") if "A" in own.getbands() else None
    found = alpha if alpha is not None and alpha.getextrema() != (255, 255) else own.convert("L")
    if hard:
        found = found.point([255 if level > SOLID else 0 for level in range(256)])
    return ImageOps.invert(found) if invert else found


def blurred(mask: Image.Image, sigma: float) -> Image.Image:
    """The mask with soft edges: a Gaussian over 2.5 sigma to each side, mirrored at the picture's border.

    Args:
        sigma: pixels; 0: the mask as it is.
    """
    if sigma <= 0:
        return mask
    from scipy.ndimage import correlate1d

    reach = int(2.5 * sigma + 0.5)
    steps = np.arange(-reach, reach + 1, dtype=np.float64)
    kernel = np.exp(-(steps**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    levels = np.asarray(mask, dtype=np.float64)
    for axis in (1, 0):
        levels = np.rint(correlate1d(levels, kernel, axis=axis, mode="mirror"))
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def region(
    mask: Image.Image, padding: int, *, at: tuple[int, int] = (0, 0), whole: tuple[int, int] | None = None
) -> Region:
    """The smallest part of a picture that holds all that is not black, with pixels around it.

    Args:
        mask: of the picture, or of a window of it; black elsewhere.
        padding: pixels.
        at: left and top of the window.
        whole: width and height of the picture; none: the mask's.

    Raises:
        SettingsError: the mask is black all over.
    """
    box = mask.getbbox()
    if box is None:
        raise SettingsError("the mask is black all over, so there is nothing to paint", fix="white is painted anew")
    left, top, right, bottom = box[0] + at[0], box[1] + at[1], box[2] + at[0], box[3] + at[1]
    width, height = whole or mask.size
    return Region(
        max(left - padding, 0), max(top - padding, 0), min(right + padding, width), min(bottom + padding, height)
    )


def grown(part: Region, painted: tuple[int, int], whole: tuple[int, int]) -> Region:
    """The part grown to the proportions that it is painted in, and moved into the picture.

    Args:
        part: what must be in it.
        painted: width and height that it is painted in.
        whole: width and height of the picture; where it has no room, the part keeps other proportions.
    """
    width, height = part.size
    wanted = painted[0] / painted[1]
    if width / height > wanted:
        top, bottom = _grown(part.top, part.bottom, int(width / wanted), whole[1])
        return Region(part.left, top, part.right, bottom)
    left, right = _grown(part.left, part.right, int(height * wanted), whole[0])
    return Region(left, part.top, right, part.bottom)


def _grown(first: int, last: int, length: int, limit: int) -> tuple[int, int]:
    more = length - (last - first)
    first, last = first - more // 2, last + more - more // 2
    if last >= limit:
        first, last = first - (last - limit), limit
    if first < 0:
        first, last = 0, last - first
    return first, min(last, limit)


def filled(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture with what is masked filled by colours from around it, the farther away the softer."""
    kept = Image.new("RGBa", image.size)
    kept.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask))
    whole = Image.new("RGBA", image.size)
    for radius, times in _SPREADS:
        spread = kept.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(times):
            whole.alpha_composite(spread)
    return whole.convert("RGB")


def firm(mask: Image.Image) -> Image.Image:
    """The mask for laying the result over the whole picture: soft edges are drawn outwards, twice as white."""
    return mask.point([min(255, 2 * level) for level in range(256)])


def lay_over(whole: Image.Image, painted: Image.Image, mask: Image.Image, part: Region) -> None:
    """Put what was painted for a part of a picture into it, where the mask is white; the rest stays.

    Args:
        whole: the picture, which changes.
        painted: of any size.
        mask: of the part's size.
        part: where it goes.
    """
    # A1111 lays the original over with premultiplied colours; the sum is the same up to rounding
    whole.paste(fitted(painted.convert("RGB"), *part.size, "crop"), (part.left, part.top), mask)
