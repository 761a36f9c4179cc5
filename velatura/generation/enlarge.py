"""Enlarging a picture and painting it over tile by tile: what is told, and the size it comes to (no torch).

Names and defaults are Ultimate SD upscale's, but for the tiles, which are of the base's own size where none is told,
and the size, which is not rounded up to multiples of 64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from velatura.errors import SettingsError, nearest
from velatura.generation.tiles import Redraw, Seams, Tiling

LARGEST = 300_000_000
"""Pixels at most: larger pictures could not be opened here."""

USUAL = ("Lanczos", "Nearest", "None")
"""Upscalers that need no model; None is one Lanczos to the size."""


@dataclass(frozen=True)
class Enlarge:
    """How large a picture becomes, by what, and how its tiles are painted over."""

    scale: float = 2.0
    """Of both sides; where neither `width` nor `height` is given."""
    width: int = 0
    """Pixels; 0: follows from the height."""
    height: int = 0
    """Pixels; 0: follows from the width."""
    upscaler: str = "Lanczos"
    """Of `USUAL`, or the name or file of a model."""
    tile: tuple[int, int] | None = None
    """Width and height in pixels; none: the square that the base was made for."""
    redraw: Redraw = "linear"
    padding: int = 32
    """Pixels around a tile that are in view."""
    blur: float = 8
    """Sigma of the tiles' edges, in pixels."""
    denoising: float = 0.35
    """How much is painted anew, 0 to 1."""
    exact_steps: bool = False
    """Take as many steps as are asked for, and not that share of them."""
    seams: Seams = "none"
    seam_width: int = 64
    """Pixels of a band."""
    seam_padding: int = 16
    seam_blur: float = 4
    seam_denoising: float = 0.35

    def tiling(self, side: int) -> Tiling:
        """How the picture is cut up, for a base that was made for squares of such a side."""
        return Tiling(
            self.tile or (side, side),
            self.padding,
            self.blur,
            self.redraw,
            self.seams,
            self.seam_width,
            self.seam_padding,
            self.seam_blur,
        )

    def words(self, tile: tuple[int, int], upscaler: str) -> dict[str, object]:
        """What A1111 and Ultimate SD upscale write.

        Args:
            tile: width and height of a tile.
            upscaler: the name of what made it larger.
        """
        return {
            "Denoising strength": f"{self.denoising:g}",
            "Mask blur": f"{self.blur:g}" if self.blur else None,
            "Inpaint area": "Only masked",
            "Masked area padding": self.padding,
            "Ultimate SD upscale upscaler": upscaler,
            "Ultimate SD upscale tile_width": tile[0],
            "Ultimate SD upscale tile_height": tile[1],
            "Ultimate SD upscale mask_blur": f"{self.blur:g}",
            "Ultimate SD upscale padding": self.padding,
        }


def check(told: Enlarge) -> None:
    """Refuse what cannot be.

    Raises:
        SettingsError: an unknown order or way with seams, nothing to paint, or a number out of its range.
    """
    for name, value, known in (
        ("order of tiles", told.redraw, get_args(Redraw)),
        ("way with seams", told.seams, get_args(Seams)),
    ):
        if value not in known:
            close = nearest(value, list(known))
            fix = f"did you mean {close!r}?" if close else f"choose from {', '.join(known)}"
            raise SettingsError(f"there is no {name} {value!r}", fix=fix)
    if told.redraw == told.seams == "none":
        raise SettingsError("neither tiles nor seams are to be painted over", fix="leave --redraw out")
    if not 0 <= told.denoising <= 1 or not 0 <= told.seam_denoising <= 1:
        raise SettingsError("denoising is a share, from 0 to 1")
    if min(told.padding, told.blur, told.seam_padding, told.seam_blur) < 0:
        raise SettingsError("padding and blur of tiles and seams are 0 or more")
    if told.seam_width < 2 or (told.tile is not None and min(told.tile) < 64):
        raise SettingsError("tiles are 64 pixels wide or more, and bands along seams 2")


def target(size: tuple[int, int], told: Enlarge) -> tuple[int, int]:
    """The width and height that a picture comes to.

    Raises:
        SettingsError: there is none, or it is too large.
    """
    across, down = size
    if told.width < 0 or told.height < 0 or not 0 < told.scale < float("inf"):
        raise SettingsError("an upscale needs a scale or a size", fix="write --scale 2 or --to 2048x3072")
    if told.width or told.height:
        width = told.width or max(1, round(told.height * across / down))
        height = told.height or max(1, round(told.width * down / across))
    else:
        width, height = (max(1, round(side * told.scale)) for side in size)
    if width * height > LARGEST:
        raise SettingsError(
            f"{width} x {height} pixels are too many", fix=f"stay below {LARGEST // 1_000_000} million in all"
        )
    return width, height


def factors(size: tuple[int, int], wanted: tuple[int, int]) -> list[int]:
    """By what an upscaler enlarges a picture, one after the other: Ultimate SD upscale's twos, threes and fours.

    Those below ten are its own; of larger ones, which it gives up, what is left over comes as a two.
    """
    scale = max(1, -(-max(wanted) // max(size)))
    while scale != 1 and scale % 2 and scale % 3:
        scale += 1
    found, so_far = list[int](), 1
    while so_far < scale:
        left = scale // so_far
        found.append(next((one for one in (4, 3, 2) if left % one == 0), 2))
        so_far *= found[-1]
    return found
