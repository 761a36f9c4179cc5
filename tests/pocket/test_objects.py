"""Objects: each in its own frame, in its own colour, with a silhouette of its own."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from velatura.pocket.objects import Look
from velatura.pocket.palette import COLOURS, HAIR, SKIN
from velatura.pocket.portraits import Person, portrait
from velatura.pocket.scene import Shape
from velatura.pocket.shapes import placed
from velatura.pocket.vocabulary import DRAWN, PEOPLE


def silhouette(shapes: list[Shape]) -> np.ndarray:
    canvas = Image.new("L", (64, 64))
    draw = ImageDraw.Draw(canvas)
    for shape in shapes:
        draw.polygon([(x, y) for x, y in (shape.points * 64).tolist()], fill=255)
    return np.asarray(canvas) > 0


def person(kind: str) -> list[Shape]:
    who = Person(kind, HAIR["brown"], SKIN[0], COLOURS["blue"], (80, 110, 160))
    return portrait(who, x=0.5, y=0.46, size=1)


@pytest.mark.parametrize("kind", DRAWN)
def test_an_object_fills_its_frame_and_stands_on_the_ground(kind: str) -> None:
    points = np.concatenate([shape.points for shape in DRAWN[kind](COLOURS["red"], Look())])

    assert np.abs(points[:, 0]).max() < 0.58
    assert -1.06 < points[:, 1].min() < -0.5
    assert points[:, 1].max() < 0.07


@pytest.mark.parametrize("kind", DRAWN)
def test_an_object_shows_its_colour_and_no_other_changes_with_it(kind: str) -> None:
    red, blue = (DRAWN[kind](COLOURS[word], Look()) for word in ("red", "blue"))

    assert COLOURS["red"] in [shape.colour for shape in red]
    assert COLOURS["red"] not in [shape.colour for shape in blue]
    assert len(red) == len(blue)


def test_silhouettes_are_far_apart() -> None:
    look = Look(second=COLOURS["purple"])
    masks = {kind: silhouette(placed(draw(COLOURS["red"], look), 0.5, 0.95, 0.85)) for kind, draw in DRAWN.items()}

    for first, second in combinations(masks, 2):
        common, either = (masks[first] & masks[second]).sum(), (masks[first] | masks[second]).sum()
        assert common / either < 0.85, (first, second)


def test_woman_man_and_child_differ_in_outline() -> None:
    masks = {kind: silhouette(person(kind)) for kind in PEOPLE}

    for first, second in combinations(masks, 2):
        common, either = (masks[first] & masks[second]).sum(), (masks[first] | masks[second]).sum()
        assert common / either < 0.85, (first, second)


@pytest.mark.parametrize("kind", PEOPLE)
def test_a_face_has_two_eyes_large_enough_for_small_pictures(kind: str) -> None:
    eyes = [shape for shape in person(kind) if shape.colour == (252, 252, 250)]
    widths = [np.ptp(eye.points[:, 0]) * 128 for eye in eyes]

    assert len(eyes) == 2
    assert min(widths) > 12
