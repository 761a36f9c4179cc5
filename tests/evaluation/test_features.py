"""The features see what they are for, and nothing of size or place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from velatura.evaluation.metrics import edges, lbp, palette, spectrum
from velatura.evaluation.metrics.pixels import Picture, is_flat, lab, lightness, square

DESCRIBE = {"palette": palette.describe, "edges": edges.describe, "spectrum": spectrum.describe, "lbp": lbp.describe}


@pytest.mark.parametrize("name", DESCRIBE)
def test_a_vector_has_one_length_whatever_the_size_of_the_picture(name: str, draw: Callable[..., Picture]) -> None:
    small = draw(1)
    wide = np.asarray(Image.fromarray(small).resize((300, 180)))

    one, other = DESCRIBE[name](small, 64), DESCRIBE[name](wide, 64)

    assert one.shape == other.shape and one.ndim == 1
    assert np.isfinite(one).all() and np.isfinite(other).all()


def test_lab_agrees_with_published_values() -> None:
    picture = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]]], dtype=np.uint8)

    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(lab(picture)[0], expected, atol=0.05)
    np.testing.assert_allclose(lightness(picture), lab(picture)[..., 0] / 100, atol=1e-3)


def test_a_palette_does_not_depend_on_where_the_colours_stand(draw: Callable[..., Picture]) -> None:
    picture = draw(2)
    turned = np.ascontiguousarray(picture[::-1, ::-1])

    np.testing.assert_allclose(palette.describe(picture, 96), palette.describe(turned, 96))


def test_the_palette_distance_of_two_tones_is_their_distance_in_lab() -> None:
    dark, light = (np.full((32, 32, 3), tone, dtype=np.uint8) for tone in (60, 120))

    apart = np.abs(palette.describe(dark, 32) - palette.describe(light, 32)).mean()

    # The mean over random directions of a projected distance is about half the distance in three dimensions.
    assert 0.3 < apart / abs(lab(dark)[0, 0, 0] - lab(light)[0, 0, 0]) < 0.7


def test_blur_takes_fine_power_and_hard_edges_away(draw: Callable[..., Picture]) -> None:
    sharp = draw(3, strength=1.0)
    blurred = np.asarray(Image.fromarray(sharp).resize((24, 24)).resize((96, 96)))

    assert (spectrum.describe(blurred, 96)[8:12] < spectrum.describe(sharp, 96)[8:12]).all()
    assert edges.describe(blurred, 96)[4] < edges.describe(sharp, 96)[4]


def test_the_spectrum_tells_the_direction_of_hatching() -> None:
    down = np.arange(64)[:, None] * np.ones((1, 64))
    across_hatching = (127 + 100 * np.sin(down * 2)).astype(np.uint8)
    picture = np.repeat(across_hatching[..., None], 3, axis=2)
    turned = np.ascontiguousarray(picture.transpose(1, 0, 2))

    ours, theirs = (spectrum.describe(image, 64)[12:].reshape(4, 4) for image in (picture, turned))

    assert ours.max(axis=1).max() > 0.9
    assert ours.sum(axis=0).argmax() != theirs.sum(axis=0).argmax()


def test_texture_is_unmoved_by_brightness(draw: Callable[..., Picture]) -> None:
    picture = (draw(4, strength=1.0) * 0.5 + 40).astype(np.uint8)
    brighter = picture + 40

    other_scene = np.linalg.norm(lbp.describe(picture, 96) - lbp.describe(draw(5), 96))
    assert np.linalg.norm(lbp.describe(picture, 96) - lbp.describe(brighter, 96)) < other_scene / 3


def test_a_picture_of_one_tone_is_called_flat(draw: Callable[..., Picture]) -> None:
    assert is_flat(np.full((40, 60, 3), 128, dtype=np.uint8))
    assert not is_flat(draw(1))


@pytest.mark.parametrize("wrong", [np.zeros((8, 8, 3)), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8), np.uint8)])
def test_an_array_that_is_no_picture_is_refused(wrong: Picture) -> None:
    with pytest.raises(ValueError, match="uint8"):
        square(wrong, 32)
