"""A large picture in pieces that a base can paint: which tiles, in which order, and the seams between them.

Arithmetic is that of Ultimate SD upscale, so that its settings mean the same here: a tile is painted with the pixels
around it in view, one after another on the picture as it is by then; seams may be painted over once more, along soft
bands or in tiles that lie half-way between. A piece's mask is made for the part of the picture that it can reach and
no more, so memory does not grow with the picture. No torch.
Source: Coyote-A/ultimate-upscale-for-automatic1111.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageOps

from velatura.generation.masking import Region, blurred

Redraw = Literal["linear", "chess", "none"]
"""Row by row; the black squares of a chessboard and then the white ones; not at all."""

Seams = Literal["none", "bands", "half tiles", "half tiles and crossings"]

STEP = 64
"""Tiles are painted at multiples of it."""


@dataclass(frozen=True)
class Piece:
    """A part of the picture that is painted in one go."""

    box: Region
    """Where its mask is not black; it may hang over the picture's edge."""
    painted: tuple[int, int]
    """Width and height that it is painted in, with what is around it."""
    padding: int
    """Pixels around the mask that are in view."""
    blur: float
    """Sigma of its mask's edges, in pixels."""
    shade: Literal["solid", "rows", "columns", "round"] = "solid"
    """White; or fading to black above and below, to both sides, or all around."""
    seam: bool = False
    """It mends a seam."""


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut up."""

    tile: tuple[int, int]
    """Width and height of a tile, in pixels."""
    padding: int = 32
    blur: float = 8
    redraw: Redraw = "linear"
    seams: Seams = "none"
    seam_width: int = 64
    """Pixels of a band."""
    seam_padding: int = 16
    seam_blur: float = 4


def grid(size: tuple[int, int], tile: tuple[int, int]) -> tuple[int, int]:
    """Columns and rows of tiles that cover a picture."""
    return math.ceil(size[0] / tile[0]), math.ceil(size[1] / tile[1])


def pieces(size: tuple[int, int], told: Tiling) -> list[Piece]:
    """Everything that is painted of a picture, in order."""
    found = [] if told.redraw == "none" else list(_tiles(size, told))
    match told.seams:
        case "bands":
            found += _bands(size, told)
        case "half tiles":
            found += _half_tiles(size, told)
        case "half tiles and crossings":
            found += [*_half_tiles(size, told), *_crossings(size, told)]
    return found


def _tiles(size: tuple[int, int], told: Tiling) -> Iterator[Piece]:
    columns, rows = grid(size, told.tile)
    places = [(column, row) for row in range(rows) for column in range(columns)]
    if told.redraw == "chess":
        places.sort(key=lambda place: sum(place) % 2)  # stable: each colour stays row by row
    width, height = told.tile
    painted = _stepped(width + told.padding), _stepped(height + told.padding)
    for column, row in places:
        # a rectangle of Pillow's holds its last pixels, so tiles overlap by one
        box = Region(column * width, row * height, (column + 1) * width + 1, (row + 1) * height + 1)
        yield Piece(box, painted, told.padding, told.blur)


def _stepped(length: int) -> int:
    return math.ceil(length / STEP) * STEP


def _bands(size: tuple[int, int], told: Tiling) -> Iterator[Piece]:
    """Bands along every seam: from left to right, then from top to bottom."""
    (width, height), wide = size, told.seam_width
    columns, rows = grid(size, told.tile)
    across = wide + 2 * told.seam_padding
    for column in range(1, columns):
        left = column * told.tile[0] - wide // 2
        box = Region(left, 0, left + wide, height)
        yield Piece(box, (across, height), told.seam_padding, 0, "columns", seam=True)
    for row in range(1, rows):
        top = row * told.tile[1] - wide // 2
        yield Piece(Region(0, top, width, top + wide), (width, across), told.seam_padding, 0, "rows", seam=True)


def _half_tiles(size: tuple[int, int], told: Tiling) -> Iterator[Piece]:
    """Tiles half-way down between two, then half-way across."""
    width, height = told.tile
    columns, rows = grid(size, told.tile)
    for row in range(rows - 1):
        for column in range(columns):
            yield _seam_tile(column * width, row * height + height // 2, told, "rows", told.seam_padding)
    for row in range(rows):
        for column in range(columns - 1):
            yield _seam_tile(column * width + width // 2, row * height, told, "columns", told.seam_padding)


def _crossings(size: tuple[int, int], told: Tiling) -> Iterator[Piece]:
    """Tiles over the corners where four meet; nothing around them is in view."""
    width, height = told.tile
    columns, rows = grid(size, told.tile)
    for row in range(rows - 1):
        for column in range(columns - 1):
            yield _seam_tile(column * width + width // 2, row * height + height // 2, told, "round", 0)


def _seam_tile(left: int, top: int, told: Tiling, shade: Literal["rows", "columns", "round"], padding: int) -> Piece:
    box = Region(left, top, left + told.tile[0], top + told.tile[1])
    return Piece(box, told.tile, padding, told.seam_blur, shade, seam=True)


def mask_of(piece: Piece, size: tuple[int, int]) -> tuple[Region, Image.Image]:
    """A piece's mask with its blurred edges, and the window of the picture that it is for; black outside."""
    reach = int(2.5 * piece.blur + 0.5)
    box = piece.box
    window = Region(
        max(0, box.left - reach),
        max(0, box.top - reach),
        min(size[0], box.right + reach),
        min(size[1], box.bottom + reach),
    )
    mask = Image.new("L", window.size)
    mask.paste(_shaded(piece), (box.left - window.left, box.top - window.top))
    return window, blurred(mask, piece.blur)


def _shaded(piece: Piece) -> Image.Image:
    width, height = piece.box.size
    match piece.shade:
        case "rows":
            return _band(width, height) if piece.blur == 0 else _tent(width, height)
        case "columns":
            upright = _band(height, width) if piece.blur == 0 else _tent(height, width)
            return upright.transpose(Image.Transpose.ROTATE_90)
        case "round":
            whole = Image.radial_gradient("L").resize((width, height), Image.Resampling.BICUBIC)
            return ImageOps.invert(whole)
    return Image.new("L", (width, height), 255)


def _band(width: int, height: int) -> Image.Image:
    return _tent(256, 256).resize((width, height), Image.Resampling.BICUBIC)


def _tent(width: int, height: int) -> Image.Image:
    """Black above, white in the middle, black below."""
    half = height // 2
    rising = Image.linear_gradient("L").resize((width, half), Image.Resampling.BICUBIC)
    made = Image.new("L", (width, height))
    made.paste(rising, (0, 0))
    made.paste(rising.transpose(Image.Transpose.ROTATE_180), (0, half))
    return made
