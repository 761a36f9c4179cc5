"""Polygons: where they lie and how a drawing is moved into the picture."""

from __future__ import annotations

import numpy as np
import pytest

from velatura.pocket.shapes import band, behind, box, ellipse, placed

GREY = (128.0, 128.0, 128.0)


def test_a_drawing_is_scaled_about_its_foot_and_moved_there() -> None:
    (shape,) = placed([box(-0.5, -1, 1, 1, GREY)], 0.3, 0.9, 0.4)

    np.testing.assert_allclose(shape.points.min(axis=0), [0.1, 0.5])
    np.testing.assert_allclose(shape.points.max(axis=0), [0.5, 0.9])


def test_a_mirrored_drawing_changes_left_and_right_only() -> None:
    plain, mirrored = (placed([box(0, -1, 0.5, 1, GREY)], 0.5, 1, 1, mirrored=m)[0].points for m in (False, True))

    np.testing.assert_allclose(mirrored[:, 0], 1 - plain[:, 0])
    np.testing.assert_allclose(mirrored[:, 1], plain[:, 1])


def test_a_tilt_turns_clockwise_about_the_foot() -> None:
    (shape,) = placed([box(0, -1, 0, 1, GREY)], 0, 0, 1, tilt=np.pi / 2)

    np.testing.assert_allclose(shape.points[0], [1, 0], atol=1e-12)


def test_a_band_has_its_width_everywhere() -> None:
    points = band([(0, 0), (0.5, 0), (1, 0)], 0.2, GREY).points

    assert set(np.round(points[:, 1], 9)) == {0.1, -0.1}


@pytest.mark.parametrize(("start", "end", "side"), [(0.5, 1.0, "above"), (0.0, 0.5, "below")])
def test_half_an_ellipse_lies_on_its_side_of_the_middle(start: float, end: float, side: str) -> None:
    y = ellipse(0, 0, 1, 1, GREY, start=start, end=end).points[:, 1]

    assert (y <= 1e-9).all() if side == "above" else (y >= -1e-9).all()


def test_what_is_put_behind_keeps_all_else() -> None:
    front = box(0, 0, 1, 1, GREY, outlined=False)
    back = behind(front)

    assert (back.background, back.outlined, back.colour) == (True, False, GREY)
