"""Finds of a detector: which are painted, in which order, by which masks; golden cases from ADetailer's own code."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from velatura.generation.finds import Find, Picking, grown_by, masks, picked

SIZE = 100, 80

FOUND = [
    Find((60, 10, 90, 40), 0.9, "face"),
    Find((5, 5, 25, 25), 0.5, "face"),
    Find((40, 30, 60, 50), 0.35, "hand"),
    Find((0, 60, 4, 64), 0.31, "face"),
    Find((70, 50, 95, 75), 0.2, "face"),
]


def boxes(told: Picking) -> list[float]:
    """The left sides of what is painted, which tell the finds apart."""
    return [one.box[0] for one in picked(FOUND, SIZE, told)]


@pytest.mark.parametrize(
    ("told", "lefts"),
    [
        (Picking(), [60, 5, 40, 0]),
        (Picking(confidence=0), [60, 5, 40, 0, 70]),
        (Picking(labels=("hand",)), [40]),
        (Picking(least_area=0.01), [60, 5, 40]),
        (Picking(most_area=0.1), [5, 40, 0]),
        (Picking(count=2), [60, 40]),
        (Picking(count=2, by="confidence"), [60, 5]),
        (Picking(order="left to right"), [0, 5, 40, 60]),
        (Picking(order="centre to edge"), [40, 60, 5, 0]),
        (Picking(order="largest first"), [60, 5, 40, 0]),
    ],
    ids=str,
)
def test_what_is_painted_and_in_which_order(told: Picking, lefts: list[float]) -> None:
    assert boxes(told) == lefts


def test_what_a_person_drew_counts_whatever_else_is_asked() -> None:
    told = Picking(labels=("hand",), least_area=0.5, count=1, order="left to right")
    drawn = [Find((50, 5, 52, 7)), Find((1, 5, 3, 7))]
    assert [one.box[0] for one in picked(FOUND, SIZE, told, drawn=drawn)] == [1, 50]


def test_masks_grow_by_a_square_that_leans_to_the_left_and_above_where_it_is_even() -> None:
    (mask,) = masks([Find((20, 20, 29, 29))], SIZE, Picking(grow=4))
    assert mask.getbbox() == (19, 19, 32, 32)
    (mask,) = masks([Find((20, 20, 29, 29))], SIZE, Picking(grow=-4))
    assert mask.getbbox() == (22, 22, 29, 29)
    assert masks([Find((20, 20, 22, 22))], SIZE, Picking(grow=-4)) == []


def test_masks_are_moved_to_the_right_and_up() -> None:
    (mask,) = masks([Find((20, 20, 29, 29))], SIZE, Picking(grow=0, right=3, up=5))
    assert mask.getbbox() == (23, 15, 33, 25)


def test_masks_are_merged_and_turned_round() -> None:
    two = [Find((10, 10, 19, 19)), Find((50, 50, 59, 59))]
    (both,) = masks(two, SIZE, Picking(grow=0, merge="merge"))
    (others,) = masks(two, SIZE, Picking(grow=0, merge="merge and invert"))
    assert np.asarray(both).sum() == 2 * 100 * 255
    assert (np.asarray(both) + np.asarray(others) == 255).all()
    assert masks([], SIZE, Picking(merge="merge")) == []


def test_a_shape_counts_before_its_box() -> None:
    shape = Image.new("L", SIZE)
    shape.paste(255, (30, 30, 35, 35))
    (mask,) = masks([Find((20, 20, 50, 50), mask=shape)], SIZE, Picking(grow=0))
    assert mask.getbbox() == (30, 30, 35, 35)


def test_a_mask_at_the_border_grows_into_the_picture_alone_and_shrinks_from_inside_alone() -> None:
    whole = Image.new("L", SIZE, 255)
    assert np.asarray(grown_by(whole, -5)).min() == 255
    assert np.asarray(grown_by(Image.new("L", SIZE), 5)).max() == 0
