"""Buildings, vehicles, plants and what stands on a table: each drawn from a few big polygons.

Every function takes the object's colour and a `Look` and returns shapes in the object's own frame
(see `shapes`). Silhouettes are kept far apart and details large: at 128 pixels a latent cell is
eight pixels wide, and a model of a few million parameters has to tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from velatura.pocket.palette import accent, darken, lighten, luminance, mix
from velatura.pocket.scene import Colour, Shape
from velatura.pocket.shapes import arc, band, box, ellipse, polygon

WOOD: Colour = (126, 84, 50)
GLASS: Colour = (190, 226, 246)
CREAM: Colour = (246, 240, 226)
CHARCOAL: Colour = (42, 42, 48)
STEEL: Colour = (196, 198, 204)
LEAF: Colour = (72, 150, 66)
LAMP: Colour = (255, 232, 128)


@dataclass(frozen=True)
class Look:
    """What an object's drawing depends on beside its own colour."""

    second: Colour | None = None
    """A house's roof, the flowers in a vase; None for the usual."""
    night: bool = False


Draw = Callable[[Colour, Look], list[Shape]]


def _companion(colour: Colour) -> Colour:
    """The white that goes with a colour, or a grey where the colour itself is white."""
    return (176, 182, 192) if luminance(colour) > 225 else (248, 246, 240)


def house(colour: Colour, look: Look) -> list[Shape]:
    """Walls, gable roof, chimney, a door between two windows."""
    roof = look.second or mix(accent(colour, 0.45), WOOD, 0.35)
    pane = LAMP if look.night else GLASS
    return [
        box(0.18, -0.92, 0.13, 0.3, (150, 84, 70)),
        box(-0.4, -0.56, 0.8, 0.56, colour),
        polygon([(-0.52, -0.54), (0, -1.0), (0.52, -0.54)], roof),
        box(-0.1, -0.34, 0.2, 0.34, darken(WOOD, 0.2)),
        box(-0.34, -0.44, 0.18, 0.2, pane),
        box(0.16, -0.44, 0.18, 0.2, pane),
    ]


def tree(colour: Colour, look: Look) -> list[Shape]:
    """A round crown of three balls on a trunk."""
    return [
        polygon([(-0.09, 0), (-0.06, -0.5), (0.06, -0.5), (0.09, 0)], WOOD),
        ellipse(-0.2, -0.52, 0.23, 0.21, accent(colour, 0.1)),
        ellipse(0.2, -0.52, 0.23, 0.21, accent(colour, 0.1)),
        ellipse(0, -0.72, 0.28, 0.27, colour),
    ]


def pine_tree(colour: Colour, look: Look) -> list[Shape]:
    """Three tiers of branches on a short trunk."""
    tiers = [(0.36, -0.14, 0.42), (0.29, -0.4, 0.38), (0.21, -0.66, 0.34)]
    shapes = [box(-0.06, -0.18, 0.12, 0.18, WOOD)]
    for number, (half, foot, height) in enumerate(tiers):
        paint = accent(colour, 0.18 - 0.09 * number)
        shapes.append(polygon([(-half, foot), (0, foot - height), (half, foot)], paint))
    return shapes


def car(colour: Colour, look: Look) -> list[Shape]:
    """Side view: cabin with two windows, body, two wheels, a lamp in front."""
    shapes = [
        polygon([(-0.32, -0.32), (-0.2, -0.56), (0.14, -0.56), (0.32, -0.32)], colour),
        polygon([(-0.25, -0.33), (-0.16, -0.5), (-0.03, -0.5), (-0.03, -0.33)], GLASS),
        polygon([(0.02, -0.33), (0.02, -0.5), (0.11, -0.5), (0.23, -0.33)], GLASS),
        polygon([(-0.5, -0.1), (-0.49, -0.29), (-0.34, -0.35), (0.34, -0.35), (0.48, -0.28), (0.5, -0.1)], colour),
        ellipse(0.45, -0.23, 0.045, 0.045, LAMP, shading="none"),
    ]
    for x in (-0.27, 0.27):
        shapes += [
            ellipse(x, -0.11, 0.125, 0.125, CHARCOAL),
            ellipse(x, -0.11, 0.055, 0.055, STEEL, outlined=False),
        ]
    return shapes


def boat(colour: Colour, look: Look) -> list[Shape]:
    """A sailing boat: coloured hull, mast, two light sails."""
    sail = _companion(colour)
    return [
        box(-0.025, -0.98, 0.04, 0.76, WOOD),
        polygon([(0.04, -0.95), (0.04, -0.29), (0.42, -0.29)], sail),
        polygon([(-0.05, -0.84), (-0.05, -0.29), (-0.33, -0.29)], darken(sail, 0.1)),
        polygon([(-0.5, -0.24), (0.5, -0.24), (0.32, 0.04), (-0.32, 0.04)], colour),
    ]


def flower(colour: Colour, look: Look) -> list[Shape]:
    """One large blossom of six petals on a stem with two leaves."""
    middle = (140, 86, 40) if colour[0] > 200 and colour[1] > 160 and colour[2] < 120 else (252, 208, 60)
    petals = [
        ellipse(0.19 * math.cos(turn), -0.68 + 0.19 * math.sin(turn), 0.145, 0.145, colour)
        for turn in np.arange(6) * math.pi / 3
    ]
    return [
        box(-0.03, -0.62, 0.06, 0.62, LEAF),
        polygon([(0, -0.06), (-0.12, -0.3), (-0.32, -0.34), (-0.2, -0.12)], lighten(LEAF, 0.08)),
        polygon([(0, -0.06), (0.12, -0.3), (0.32, -0.34), (0.2, -0.12)], lighten(LEAF, 0.08)),
        *petals,
        ellipse(0, -0.68, 0.12, 0.12, middle),
    ]


def hot_air_balloon(colour: Colour, look: Look) -> list[Shape]:
    """A large envelope with one pale gore, ropes and a basket."""
    envelope = np.array([*arc(0, -0.62, 0.38, 0.38, -0.59, 0.09, 22), (0.13, -0.2), (-0.13, -0.2)])
    gore = envelope * (0.34, 1.0)
    return [
        band([(-0.11, -0.22), (-0.07, -0.1)], 0.02, WOOD, outlined=False),
        band([(0.11, -0.22), (0.07, -0.1)], 0.02, WOOD, outlined=False),
        Shape(envelope, colour, "round"),
        Shape(gore, mix(colour, _companion(colour), 0.6), "none", outlined=False),
        box(-0.1, -0.13, 0.2, 0.15, (160, 108, 60)),
    ]


def lighthouse(colour: Colour, look: Look) -> list[Shape]:
    """A tapering tower in bands of its colour and white, a lit lantern under a cap."""
    shapes = []
    bands = 5
    pale = mix(colour, _companion(colour), 0.5) if luminance(colour) > 225 else _companion(colour)
    for number in range(bands):
        low, high = number / bands, (number + 1) / bands
        wide, narrow = 0.23 - 0.1 * low, 0.23 - 0.1 * high
        foot, top = -0.72 * low, -0.72 * high
        paint = pale if number % 2 else colour
        shapes.append(polygon([(-wide, foot), (-narrow, top), (narrow, top), (wide, foot)], paint))
    return [
        *shapes,
        box(-0.18, -0.75, 0.36, 0.05, CHARCOAL),
        box(-0.1, -0.88, 0.2, 0.14, LAMP, shading="none"),
        polygon([(-0.16, -0.87), (0, -1.02), (0.16, -0.87)], colour),
    ]


def mushroom(colour: Colour, look: Look) -> list[Shape]:
    """A wide half-round cap with pale dots on a thick stem."""
    dots = (222, 60, 52) if luminance(colour) > 225 else (250, 246, 238)
    return [
        polygon([(-0.17, 0), (-0.12, -0.44), (0.12, -0.44), (0.17, 0)], CREAM),
        ellipse(0, -0.4, 0.48, 0.48, colour, start=0.5, end=1.0),
        *(
            ellipse(x, y, radius, radius, dots, shading="none")
            for x, y, radius in ((-0.25, -0.53, 0.07), (0.02, -0.71, 0.085), (0.26, -0.52, 0.065))
        ),
    ]


def cactus(colour: Colour, look: Look) -> list[Shape]:
    """A tall column with two raised arms."""
    arm = accent(colour, 0.12)
    left = [(-0.05, -0.32), (-0.24, -0.32), *arc(-0.25, -0.4, 0.08, 0.08, 0.25, 0.5, 5), (-0.33, -0.62)]
    right = [(0.05, -0.42), (0.24, -0.42), *arc(0.25, -0.5, 0.08, 0.08, 0.25, 0.0, 5), (0.33, -0.78)]
    column = [(-0.13, 0), (-0.13, -0.82), *arc(0, -0.84, 0.13, 0.13, 0.5, 1.0, 10), (0.13, 0)]
    return [
        band(left, 0.14, arm),
        ellipse(-0.33, -0.62, 0.07, 0.07, arm, start=0.5, end=1.0, shading="down"),
        band(right, 0.14, arm),
        ellipse(0.33, -0.78, 0.07, 0.07, arm, start=0.5, end=1.0, shading="down"),
        polygon(column, colour),
    ]


def rocket(colour: Colour, look: Look) -> list[Shape]:
    """A standing hull of its colour with a round window, pale nose and fins, fire below."""
    trim = _companion(colour)
    height = np.linspace(0, 1, 12)
    half = 0.2 * np.sin(math.pi * (0.16 + 0.62 * (1 - height))) ** 0.7
    half[-1] = 0
    y = -0.16 - height * 0.84
    hull = np.concatenate([np.stack([-half, y], 1), np.stack([half, y], 1)[::-1]])
    nose = [(-half[8], y[8]), (-half[10], y[10]), (0.0, y[11]), (half[10], y[10]), (half[8], y[8])]
    return [
        polygon([(-0.11, -0.17), (0, 0.05), (0.11, -0.17)], (254, 176, 40), shading="none"),
        polygon([(-0.12, -0.5), (-0.38, -0.04), (-0.1, -0.16)], trim),
        polygon([(0.12, -0.5), (0.38, -0.04), (0.1, -0.16)], trim),
        Shape(hull, colour),
        polygon(nose, trim),
        ellipse(0, -0.54, 0.1, 0.1, CHARCOAL, shading="none"),
        ellipse(0, -0.54, 0.072, 0.072, GLASS, shading="none", outlined=False),
    ]


def mug(colour: Colour, look: Look) -> list[Shape]:
    """A wide cup with a handle on one side and dark coffee in it."""
    return [
        band(arc(0.28, -0.34, 0.19, 0.2, -0.25, 0.25), 0.08, accent(colour, 0.12)),
        polygon([(-0.34, -0.66), (-0.3, -0.05), (-0.22, 0), (0.22, 0), (0.3, -0.05), (0.34, -0.66)], colour),
        ellipse(0, -0.66, 0.34, 0.09, accent(colour, 0.3), shading="none"),
        ellipse(0, -0.65, 0.28, 0.062, (86, 52, 34), shading="none", outlined=False),
    ]


def apple(colour: Colour, look: Look) -> list[Shape]:
    """A broad round fruit with a dip at the top, stem and leaf."""
    turns = np.linspace(0, 2 * math.pi, 36, endpoint=False)
    dip = 0.13 * np.exp(-(((turns - 1.5 * math.pi) / 0.38) ** 2))
    foot = 0.05 * np.exp(-(((turns - 0.5 * math.pi) / 0.3) ** 2))
    body = np.stack([0.42 * np.cos(turns), -0.37 + 0.38 * np.sin(turns) + dip - foot], axis=1)
    return [
        Shape(body, colour, "round"),
        band([(0, -0.62), (0.02, -0.78), (0.07, -0.9)], 0.05, WOOD),
        polygon([(0.04, -0.72), (0.16, -0.92), (0.36, -0.9), (0.26, -0.74)], LEAF),
    ]


def pear(colour: Colour, look: Look) -> list[Shape]:
    """A narrow neck over a wide belly, with a stem."""
    half = [0.0, 0.09, 0.13, 0.155, 0.2, 0.28, 0.34, 0.36, 0.33, 0.24, 0.12]
    y = [-0.86, -0.84, -0.77, -0.66, -0.54, -0.43, -0.31, -0.2, -0.09, -0.02, 0.0]
    body = [(-h, v) for h, v in zip(half, y, strict=True)] + [(h, v) for h, v in zip(half, y, strict=True)][::-1]
    return [
        band([(0, -0.82), (0.01, -0.92), (0.06, -1.02)], 0.05, WOOD),
        polygon([(0.04, -0.9), (0.14, -1.02), (0.3, -0.98), (0.2, -0.87)], LEAF),
        polygon(body, colour, shading="round"),
    ]


def vase(colour: Colour, look: Look) -> list[Shape]:
    """A bellied vase; with a second colour, three flowers stand in it."""
    shapes = []
    if look.second is not None:
        for x, y in ((-0.26, -0.78), (0.26, -0.78), (0.0, -0.92)):
            shapes.append(band([(0, -0.45), (x * 0.7, y * 0.8), (x, y)], 0.03, LEAF, outlined=False))
            for turn in np.arange(5) * 2 * math.pi / 5 - math.pi / 2:
                petal = ellipse(x + 0.09 * math.cos(turn), y + 0.09 * math.sin(turn), 0.08, 0.08, look.second)
                shapes.append(petal)
            shapes.append(ellipse(x, y, 0.055, 0.055, (252, 208, 60), shading="none"))
    half = [0.17, 0.11, 0.13, 0.26, 0.3, 0.27, 0.15]
    y_line = [-0.64, -0.56, -0.48, -0.34, -0.22, -0.1, 0.0]
    left = [(-h, v) for h, v in zip(half, y_line, strict=True)]
    right = [(h, v) for h, v in zip(half, y_line, strict=True)]
    return [
        *shapes,
        polygon(left + right[::-1], colour, shading="round"),
        polygon([(-0.295, -0.27), (-0.3, -0.2), (0.3, -0.2), (0.295, -0.27)], accent(colour, 0.28), outlined=False),
    ]


def bottle(colour: Colour, look: Look) -> list[Shape]:
    """A tall bottle: straight body, long neck, cork and a pale label."""
    left = [(-0.19, 0.0), (-0.2, -0.5), (-0.16, -0.6), (-0.07, -0.7), (-0.07, -0.92)]
    return [
        box(-0.05, -1.02, 0.1, 0.12, (200, 156, 104)),
        polygon(left + [(-x, y) for x, y in left][::-1], colour),
        box(-0.195, -0.4, 0.39, 0.22, _companion(colour), outlined=False),
    ]


def book(colour: Colour, look: Look) -> list[Shape]:
    """A closed book standing upright, pages at one side, a pale label on its cover."""
    return [
        polygon([(0.24, -0.8), (0.38, -0.86), (0.38, -0.06), (0.24, 0)], CREAM),
        polygon([(-0.34, -0.8), (-0.2, -0.86), (0.38, -0.86), (0.24, -0.8)], accent(colour, 0.3)),
        box(-0.34, -0.8, 0.58, 0.8, colour),
        box(-0.34, -0.8, 0.09, 0.8, accent(colour, 0.28), outlined=False),
        box(-0.16, -0.62, 0.31, 0.18, _companion(colour), shading="none"),
    ]


def teapot(colour: Colour, look: Look) -> list[Shape]:
    """A round pot with a spout, a handle and a lid with a knob."""
    return [
        band(arc(-0.3, -0.34, 0.17, 0.18, 0.25, 0.75), 0.07, accent(colour, 0.14)),
        polygon(
            [(0.2, -0.14), (0.36, -0.28), (0.42, -0.54), (0.52, -0.56), (0.48, -0.22), (0.26, -0.04)],
            accent(colour, 0.1),
        ),
        ellipse(0, -0.32, 0.36, 0.32, colour),
        ellipse(0, -0.6, 0.2, 0.08, accent(colour, 0.24)),
        ellipse(0, -0.71, 0.06, 0.06, accent(colour, 0.24)),
    ]
