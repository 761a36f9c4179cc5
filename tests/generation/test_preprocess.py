"""Hints made of pictures, against the arithmetic that A1111's extension documents in OpenCV's words."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.paintings import clouds
from velatura.errors import MissingExtra
from velatura.generation import preprocess

cv2 = pytest.importorskip("cv2")


@pytest.fixture
def drawing() -> Image.Image:
    """Soft colours, and a few lines that are darker than what is around them, but not by half."""
    image = clouds(3, (96, 64)).point([100 + level // 4 for level in range(256)] * 3)
    pen = ImageDraw.Draw(image)
    pen.line([(5, 60), (90, 4)], fill=(40, 30, 60), width=2)
    pen.ellipse([30, 10, 70, 50], outline=(20, 60, 40))
    return image


def test_canny_is_opencv_s_on_the_colours(drawing: Image.Image) -> None:
    expected = cv2.Canny(np.array(drawing), 100, 200)
    found = np.array(preprocess.hint(drawing, "canny"))
    assert (found == expected[..., None]).all()
    assert 0.01 < (expected > 0).mean() < 0.5
    assert (np.array(preprocess.hint(drawing, "canny", 20, 40)) != found).mean() > 0.001


def test_scribble_is_xdog_as_the_extension_has_it(drawing: Image.Image) -> None:
    levels = np.array(drawing)
    narrow, wide = (cv2.GaussianBlur(levels.astype(np.float32), (0, 0), sigma) for sigma in (0.5, 5.0))
    kept = (255 - np.min(wide - narrow, axis=2)).clip(0, 255).astype(np.uint8)
    expected = 2 * (255 - kept) > 32  # in 8 bits, as there: nothing here is so dark that they do not suffice
    assert (255 - kept).max() < 128
    found = np.array(preprocess.hint(drawing, "scribble"))
    assert ((found > 0) == expected[..., None]).all()
    assert 0.01 < expected.mean() < 0.5


def test_the_darkest_strokes_have_no_holes() -> None:
    """Where 8 bits do not suffice, the extension counts on from nothing."""
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).line([(8, 32), (56, 32)], fill="black", width=3)
    found = np.array(preprocess.hint(image, "scribble"))[..., 0]
    assert (found[31:34, 12:52] == 255).all()


def test_tile_is_the_picture_made_coarser_by_areas(drawing: Image.Image) -> None:
    assert preprocess.hint(drawing, "tile").tobytes() == drawing.tobytes()
    small = Image.fromarray(cv2.resize(np.array(drawing), (24, 16), interpolation=cv2.INTER_AREA))
    expected = small.resize(drawing.size, Image.Resampling.LANCZOS)
    assert preprocess.hint(drawing, "tile", 4).tobytes() == expected.tobytes() != drawing.tobytes()


def test_what_is_made_is_of_the_picture_s_size_and_in_colours() -> None:
    for name in preprocess.THRESHOLDS:
        made = preprocess.hint(clouds(1, (37, 51)).convert("RGBA"), name)
        assert (made.size, made.mode) == ((37, 51), "RGB")


def test_without_opencv_it_says_what_to_install(drawing: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match=r"velatura\[vision\]"):
        preprocess.hint(drawing, "canny")
    preprocess.hint(drawing, "invert")
