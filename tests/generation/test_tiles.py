"""A picture in tiles, against what Ultimate SD upscale paints (2322caa: its own code, painting recorded)."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from velatura.generation import tiles
from velatura.generation.tiles import Piece, Tiling

SIZE = 300, 200

TILED = {
    ("chess", "none"): [
        ((192, 192), 32, 8, (0, 0, 129, 129), 4243455),
        ((192, 192), 32, 8, (256, 0, 300, 129), 1447380),
        ((192, 192), 32, 8, (128, 128, 257, 200), 2368440),
        ((192, 192), 32, 8, (128, 0, 257, 129), 4243455),
        ((192, 192), 32, 8, (0, 128, 129, 200), 2368440),
        ((192, 192), 32, 8, (256, 128, 300, 200), 807840),
    ],
    ("none", "bands"): [
        ((96, 200), 16, 0, (96, 0, 160, 200), 1638400),
        ((96, 200), 16, 0, (224, 0, 288, 200), 1638400),
        ((300, 96), 16, 0, (0, 96, 300, 160), 2457600),
    ],
    ("none", "half tiles and crossings"): [
        ((128, 128), 16, 4, (0, 64, 128, 192), 2096640),
        ((128, 128), 16, 4, (128, 64, 256, 192), 2096640),
        ((128, 128), 16, 4, (256, 64, 300, 192), 720720),
        ((128, 128), 16, 4, (64, 0, 192, 128), 2096640),
        ((128, 128), 16, 4, (192, 0, 300, 128), 1994368),
        ((128, 128), 16, 4, (64, 128, 192, 200), 1179360),
        ((128, 128), 16, 4, (192, 128, 300, 200), 1121832),
        ((128, 128), 0, 4, (64, 64, 192, 192), 1912287),
        ((128, 128), 0, 4, (192, 64, 300, 192), 1727184),
    ],
}
"""Of 300 x 200 in tiles of 128: what each piece is painted in, its padding, blur, and its mask's bounds and sum."""


def sharp(piece: Piece, size: tuple[int, int]) -> Image.Image:
    """The whole picture's mask, before its edges are blurred."""
    mask = Image.new("L", size)
    mask.paste(tiles._shaded(piece), (piece.box.left, piece.box.top))
    return mask


@pytest.mark.parametrize(("redraw", "seams"), TILED)
def test_pieces_are_those_of_ultimate_sd_upscale_in_its_order(redraw: tiles.Redraw, seams: tiles.Seams) -> None:
    found = tiles.pieces(SIZE, Tiling((128, 128), 32, 8, redraw, seams))
    told = []
    for piece in found:
        mask = sharp(piece, SIZE)
        told.append((piece.painted, piece.padding, piece.blur, mask.getbbox(), int(np.asarray(mask, np.int64).sum())))
    assert told == TILED[redraw, seams]


def test_linear_tiles_cover_every_pixel_once_but_for_the_shared_border() -> None:
    count = np.zeros((900, 1300), int)
    for piece in tiles.pieces((1300, 900), Tiling((256, 384))):
        count[piece.box.top : piece.box.bottom - 1, piece.box.left : piece.box.right - 1] += 1
    assert count.min() == count.max() == 1


@pytest.mark.parametrize("seams", ["none", "bands", "half tiles and crossings"])
def test_a_mask_is_made_for_its_own_part_and_says_what_the_whole_picture_s_would(seams: tiles.Seams) -> None:
    for piece in tiles.pieces(SIZE, Tiling((128, 128), 32, 5, "linear", seams)):
        window, mask = tiles.mask_of(piece, SIZE)
        whole = Image.new("L", SIZE)
        whole.paste(mask, (window.left, window.top))
        wanted = tiles.blurred(sharp(piece, SIZE), piece.blur)
        # where the window ends in the picture, its border mirrors what is black
        assert np.abs(np.asarray(whole, int) - np.asarray(wanted, int)).max() <= 1


def test_the_masks_of_a_huge_picture_are_as_small_as_a_tile() -> None:
    told = Tiling((1024, 1024), seams="half tiles and crossings")
    found = tiles.pieces((4000, 6000), told)
    assert len(found) == 24 + 20 + 18 + 15
    assert max(max(tiles.mask_of(piece, (4000, 6000))[1].size) for piece in found[::7]) <= 1024 + 1 + 2 * 20
