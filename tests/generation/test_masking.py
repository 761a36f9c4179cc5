"""Masks and the part of a picture that they mean, against numbers of A1111's own code (as in Forge dfdcbab)."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from velatura.errors import SettingsError
from velatura.generation.masking import Region, blurred, filled, firm, grey, grown, lay_over, region

GROWN = [
    ((32, 522, 93, 1030), (640, 896), (339, 1229), (0, 522, 339, 1030)),
    ((429, 96, 929, 126), (640, 896), (1398, 841), (429, 0, 929, 700)),
    ((4, 1425, 917, 1494), (768, 512), (1308, 1625), (4, 1017, 917, 1625)),
    ((62, 22, 115, 688), (512, 896), (1910, 714), (0, 22, 380, 688)),
    ((864, 371, 894, 507), (768, 896), (1469, 507), (821, 371, 937, 507)),
    ((1132, 477, 1486, 714), (768, 896), (1987, 1079), (1132, 389, 1486, 802)),
    ((22, 852, 592, 1057), (768, 1024), (657, 1961), (22, 575, 592, 1335)),
    ((170, 1477, 299, 1532), (768, 1024), (311, 1585), (170, 1413, 299, 1585)),
    ((511, 1034, 612, 1185), (512, 896), (645, 1267), (511, 1022, 612, 1198)),
    ((413, 848, 458, 1224), (1024, 512), (561, 1587), (0, 848, 561, 1224)),
]

BLURRED = {4: [0, 1, 254, 254, 253, 0], 8: [0, 26, 206, 226, 200, 20], 15: [7, 44, 127, 161, 123, 40]}
"""Sigma -> every twentieth pixel of row 40 of a rectangle, as OpenCV blurs it."""


def rectangle(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


@pytest.mark.parametrize(("part", "painted", "whole", "wanted"), GROWN)
def test_a_part_grows_to_the_proportions_it_is_painted_in(
    part: tuple[int, int, int, int], painted: tuple[int, int], whole: tuple[int, int], wanted: tuple[int, int, int, int]
) -> None:
    assert grown(Region(*part), painted, whole) == wanted


def test_the_part_is_what_is_not_black_with_padding_inside_the_picture() -> None:
    mask = rectangle((128, 96), (30, 30, 70, 60))
    assert region(mask, 0) == (30, 30, 70, 60)
    assert region(mask, 40) == (0, 0, 110, 96)
    window = mask.crop((20, 20, 80, 70))
    assert region(window, 40, at=(20, 20), whole=mask.size) == region(mask, 40)
    with pytest.raises(SettingsError, match="black all over"):
        region(Image.new("L", (8, 8)), 32)


@pytest.mark.parametrize("sigma", BLURRED)
def test_edges_are_blurred_as_opencv_blurs_them(sigma: int) -> None:
    found = np.asarray(blurred(rectangle((120, 90), (30, 20, 90, 50)), sigma), int)
    assert np.abs(found[40, ::20] - BLURRED[sigma]).max() <= 1
    assert blurred(rectangle((8, 8), (2, 2, 4, 4)), 0).getextrema() == (0, 255)


def test_a_mask_is_made_of_transparency_or_of_brightness_and_turned_round_when_asked() -> None:
    drawn = Image.new("RGBA", (4, 1), (255, 255, 255, 0))
    drawn.putpixel((0, 0), (0, 0, 0, 200))
    assert list(grey(drawn).tobytes()) == [255, 0, 0, 0]
    opaque = Image.new("RGB", (4, 1))
    for place, level in enumerate((0, 128, 129, 255)):
        opaque.putpixel((place, 0), (level,) * 3)
    assert list(grey(opaque).tobytes()) == [0, 0, 255, 255]
    assert list(grey(opaque, hard=False).tobytes()) == [0, 128, 129, 255]
    assert list(grey(opaque, invert=True).tobytes()) == [255, 255, 0, 0]
    palette = Image.new("P", (2, 1))
    palette.info["transparency"] = 0
    palette.putpixel((1, 0), 1)
    assert list(grey(palette).tobytes()) == [0, 255]


def test_a_hole_is_filled_with_the_colours_around_it() -> None:
    image = Image.new("RGB", (64, 64), (200, 30, 30))
    mask = rectangle((64, 64), (20, 20, 44, 44))
    image.paste((0, 0, 255), (20, 20, 44, 44))
    found = np.asarray(filled(image, mask), int)
    assert np.abs(found[32, 32] - (200, 30, 30)).max() <= 3
    assert (found[5, 5] == (200, 30, 30)).all()


def test_what_was_painted_goes_where_the_mask_is_white_and_nowhere_else() -> None:
    original, new = Image.new("RGB", (40, 30), (10, 20, 30)), Image.new("RGB", (16, 16), (200, 100, 50))
    mask = rectangle((40, 30), (12, 10, 20, 18))
    part, all_of_it = original.copy(), original.copy()
    lay_over(part, new, mask.crop((8, 6, 24, 22)), Region(8, 6, 24, 22))
    found = np.asarray(part)
    assert (found[10:18, 12:20] == (200, 100, 50)).all()
    outside = np.ones((30, 40), bool)
    outside[10:18, 12:20] = False
    assert (found[outside] == (10, 20, 30)).all()
    lay_over(all_of_it, new.resize((40, 30)), mask, Region(0, 0, 40, 30))
    assert (np.asarray(all_of_it) == found).all()


def test_a_firm_mask_is_twice_as_white() -> None:
    soft = Image.frombytes("L", (4, 1), bytes((0, 60, 128, 255)))
    assert list(firm(soft).tobytes()) == [0, 120, 255, 255]
