"""Copies of a picture are found however they were saved, and other pictures are left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
from PIL import Image, ImageEnhance, ImageOps

from tests.paintings import clouds
from velatura.dataset.duplicates import groups, near_duplicates, phash
from velatura.dataset.images import open_image
from velatura.dataset.scan import scan

Paint = Callable[..., Path]


def test_a_copy_with_bars_around_it_is_one(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        clouds(seed, (480, 320)).save(tmp_path / f"{name}.png")
    framed = Image.new("RGB", (480, 440), "white")
    framed.paste(clouds(2, (480, 320)), (0, 60))
    framed.save(tmp_path / "screenshot.png")

    assert near_duplicates(scan(tmp_path).pictures) == ((1, 3),)


def test_the_bits_are_the_signs_of_the_lowest_cosine_frequencies(paint: Paint) -> None:
    image = open_image(paint("a.png", 4))

    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=float)
    spectrum = scipy.fft.dctn(grey, norm=None)[:8, :8].ravel()
    wanted = "".join("1" if value > np.median(spectrum[1:]) else "0" for value in spectrum[1:])

    assert f"{phash(image):064b}"[1:] == wanted


def test_pictures_of_one_colour_have_one_hash() -> None:
    assert {phash(Image.new("RGB", (50, 40), colour)) for colour in ("black", "white", "teal")} == {0}


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((96, 64)),
        lambda image: image.convert("L"),
        lambda image: ImageEnhance.Contrast(image).enhance(0.7),
        lambda image: ImageOps.mirror(image),
    ],
    ids=["half the size", "grey", "less contrast", "mirrored"],
)
def test_a_changed_copy_belongs_to_its_original(
    paint: Paint, tmp_path: Path, change: Callable[[Image.Image], Image.Image]
) -> None:
    original = paint("1.png", 1, size=(192, 128))
    paint("2.png", 2, size=(192, 128))
    change(open_image(original)).save(tmp_path / "3.jpg", quality=60)

    assert near_duplicates(scan(tmp_path).pictures) == ((0, 2),)


def test_forty_different_pictures_are_forty_different_pictures(paint: Paint, tmp_path: Path) -> None:
    for number in range(40):
        paint(f"{number}.png", number, size=(48, 48))

    assert near_duplicates(scan(tmp_path).pictures) == ()


def test_a_series_of_small_changes_is_one_group() -> None:
    chain = [0b0, 0b1111, 0b1111_1111, 0b1111_1111_1111, 2**64 - 1]

    assert groups(chain, chain, distance=4) == ((0, 1, 2, 3),)


def test_the_distance_counts_bits_of_all_64() -> None:
    assert groups([0, 2**63 + 1], [0, 2**63 + 1], distance=2) == ((0, 1),)
    assert groups([0, 2**63 + 1], [0, 2**63 + 1], distance=1) == ()


def test_without_pictures_there_are_no_groups() -> None:
    assert groups([], []) == ()
