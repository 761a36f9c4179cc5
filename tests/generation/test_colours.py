"""Colours that are brought back to those of the picture that painting began with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.parity import painting as page
from tests.parity import within
from velatura.generation.colours import corrected, from_lab, to_lab

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "colours.json").read_text(encoding="utf-8"))
PAIRS = [name for name in GOLDEN if name != "L*a*b*"]
ROW = "Colour correction after image to image and inpainting, in levels of 255"


def pixels(told: str) -> np.ndarray:
    """A square picture."""
    flat = np.frombuffer(bytes.fromhex(told), np.uint8).reshape(-1, 3)
    side = int(len(flat) ** 0.5)
    return flat.reshape(side, side, 3)


@pytest.mark.parametrize("name", PAIRS)
def test_colours_are_those_that_a1111_gives_back(name: str) -> None:
    painted, like, expected = (pixels(GOLDEN[name][which]) for which in ("painted", "like", "corrected"))
    found = np.asarray(corrected(Image.fromarray(painted), Image.fromarray(like)))
    apart = np.abs(found.astype(int) - expected)
    assert apart.max() <= within(page.ROWS, ROW)
    assert np.abs(found.astype(int) - painted).mean() > 30 * apart.mean(), "without it the picture is another"


def test_lightness_and_colour_are_counted_as_opencv_does() -> None:
    rgb, lab = (pixels(GOLDEN["L*a*b*"][which]) for which in ("rgb", "lab"))
    assert np.array_equal(to_lab(rgb), lab)
    assert np.abs(from_lab(to_lab(rgb)) - rgb).max() < 8, "L*a*b* in whole levels is coarser than sRGB"
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    assert np.abs(from_lab(to_lab(greys)) - greys).max() < 2


def test_a_picture_in_its_own_colours_stays_as_it_is_and_light_stays_as_painted() -> None:
    painted, like = (pixels(GOLDEN["another picture"][which]).astype(int) for which in ("painted", "like"))
    one = Image.fromarray(painted.astype(np.uint8))
    assert np.abs(np.asarray(corrected(one, one)).astype(int) - painted).max() <= 8
    found = np.asarray(corrected(one, Image.fromarray(like.astype(np.uint8)))).astype(int)
    light = np.array([0.299, 0.587, 0.114])
    inside = (found.min(-1) > 1) & (found.max(-1) < 254)
    assert np.abs((found - painted) @ light)[inside].max() < 2
    assert np.abs((found - painted).mean((0, 1))).max() > 10, "and yet the colours are others"
