"""Heads and shoulders of a woman, a man and a child, filling the picture.

The three are told apart by build, not by detail: long hair around an oval face; short hair,
square jaw and broad shoulders; a large round face with large low eyes over small shoulders.
Drawn directly in picture coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

from velatura.pocket.palette import accent, darken, luminance, mix
from velatura.pocket.scene import Colour, Shape
from velatura.pocket.shapes import arc, band, ellipse, placed, polygon, ring

EYE_WHITE: Colour = (252, 252, 250)
PUPIL: Colour = (22, 22, 28)
LIPS: Colour = (200, 60, 72)
RIM: Colour = (30, 30, 36)


@dataclass(frozen=True)
class Person:
    """What one face looks like."""

    kind: str
    """"woman", "man" or "child"."""
    hair: Colour
    skin: Colour
    shirt: Colour
    iris: Colour
    glasses: bool = False
    beard: bool = False
    pigtails: bool = False


def _eyes(
    skin: Colour, iris: Colour, hair: Colour, *, apart: float, y: float, rx: float, ry: float, brow: float
) -> list[Shape]:
    """Two eyes with iris and pupil, brows above; `brow` is their thickness."""
    shapes = []
    brow_colour = darken(hair, 0.25) if luminance(hair) > 70 else hair
    brow_colour = mix(brow_colour, darken(skin, 0.45), 0.3)
    for side in (-1, 1):
        x = side * apart
        line = [(x - rx * 1.1, y - ry - 0.03), (x, y - ry - 0.05), (x + rx * 1.1, y - ry - 0.03)]
        shapes += [
            ellipse(x, y, rx, ry, EYE_WHITE, shading="none"),
            ellipse(x, y, ry * 0.88, ry * 0.92, iris, shading="none", outlined=False),
            ellipse(x, y, ry * 0.5, ry * 0.52, PUPIL, shading="none", outlined=False),
            band(line, brow, brow_colour, shading="none", outlined=False),
        ]
    return shapes


def _glasses(apart: float, y: float, radius: float) -> list[Shape]:
    """Two dark rims and a bridge."""
    return [
        ring(-apart, y, radius, radius * 0.86, 0.02, RIM),
        ring(apart, y, radius, radius * 0.86, 0.02, RIM),
        band([(-apart + radius, y), (apart - radius, y)], 0.02, RIM, shading="none", outlined=False),
    ]


def _shoulders(shirt: Colour, *, half: float, top: float, slope: float) -> Shape:
    """A shirt reaching below the picture."""
    left = arc(-half + slope, top + slope, slope, slope, 0.5, 0.75, 8)
    right = [(-x, y) for x, y in left][::-1]
    return polygon([(-half, 0.7), *left, *right, (half, 0.7)], shirt)


def _nose_and_mouth(skin: Colour, lips: Colour, *, nose: float, mouth: float, width: float) -> list[Shape]:
    """A nose as a soft wedge, a smiling mouth; `nose` and `mouth` are their y."""
    return [
        polygon(
            [(-0.006, nose - 0.085), (0.046, nose - 0.004), (0.03, nose + 0.012), (-0.036, nose + 0.008)],
            darken(skin, 0.26),
            shading="none",
            outlined=False,
        ),
        ellipse(0, mouth, width, width * 0.5, lips, start=0.0, end=0.5, shading="none"),
    ]


def _woman(p: Person) -> list[Shape]:
    hair_back = [(-0.31, 0.36), *arc(0, -0.05, 0.3, 0.31, 0.5, 1.0, 18), (0.31, 0.36)]
    shapes = [
        polygon(hair_back, p.hair),
        polygon([(-0.075, 0.1), (-0.085, 0.36), (0.085, 0.36), (0.075, 0.1)], darken(p.skin, 0.14)),
        _shoulders(p.shirt, half=0.38, top=0.3, slope=0.14),
        polygon([(-0.1, 0.3), (0, 0.42), (0.1, 0.3)], darken(p.skin, 0.06)),
        polygon(
            [
                *arc(0, -0.02, 0.2, 0.24, 0.5, 1.0, 14),
                (0.19, 0.1),
                (0.11, 0.22),
                (0, 0.26),
                (-0.11, 0.22),
                (-0.19, 0.1),
            ],
            p.skin,
            shading="round",
        ),
        *_eyes(p.skin, p.iris, p.hair, apart=0.09, y=0.0, rx=0.06, ry=0.04, brow=0.016),
        *_nose_and_mouth(p.skin, LIPS, nose=0.1, mouth=0.155, width=0.075),
    ]
    fringe = [
        (-0.23, 0.1),
        *arc(0, -0.05, 0.25, 0.27, 0.5, 1.0, 16),
        (0.23, 0.1),
        (0.17, -0.06),
        (0.06, -0.16),
        (-0.02, -0.18),
        (-0.14, -0.08),
    ]
    shapes.append(polygon(fringe, p.hair))
    return shapes


def _man(p: Person) -> list[Shape]:
    ear = darken(p.skin, 0.1)
    jaw = [
        *arc(0, -0.04, 0.21, 0.22, 0.5, 1.0, 14),
        (0.205, 0.1),
        (0.16, 0.23),
        (0.08, 0.28),
        (-0.08, 0.28),
        (-0.16, 0.23),
        (-0.205, 0.1),
    ]
    shapes = [
        polygon([(-0.13, 0.1), (-0.14, 0.38), (0.14, 0.38), (0.13, 0.1)], darken(p.skin, 0.16)),
        _shoulders(p.shirt, half=0.49, top=0.31, slope=0.16),
        polygon([(-0.14, 0.31), (0, 0.4), (0.14, 0.31)], darken(p.skin, 0.08)),
        ellipse(-0.215, 0.03, 0.045, 0.065, ear),
        ellipse(0.215, 0.03, 0.045, 0.065, ear),
        polygon(jaw, p.skin, shading="round"),
    ]
    if p.beard:
        beard = [
            (-0.207, 0.04),
            (-0.15, 0.1),
            (-0.07, 0.105),
            (0.07, 0.105),
            (0.15, 0.1),
            (0.207, 0.04),
            (0.205, 0.14),
            (0.15, 0.27),
            (0.06, 0.32),
            (-0.06, 0.32),
            (-0.15, 0.27),
            (-0.205, 0.14),
        ]
        shapes.append(polygon(beard, p.hair))
    lips = LIPS if p.beard else mix(darken(p.skin, 0.3), LIPS, 0.5)
    hair = [
        (-0.22, 0.0),
        *arc(0, -0.09, 0.225, 0.23, 0.5, 1.0, 16),
        (0.22, 0.0),
        (0.185, -0.02),
        (0.17, -0.12),
        (-0.17, -0.12),
        (-0.185, -0.02),
    ]
    return [
        *shapes,
        *_eyes(p.skin, p.iris, p.hair, apart=0.092, y=0.0, rx=0.054, ry=0.035, brow=0.03),
        *_nose_and_mouth(p.skin, lips, nose=0.105, mouth=0.165, width=0.075),
        polygon(hair, p.hair),
    ]


def _child(p: Person) -> list[Shape]:
    cheeks = mix(p.skin, (240, 90, 90), 0.35)
    shapes = []
    if p.pigtails:
        shapes += [ellipse(side * 0.33, -0.04, 0.1, 0.13, accent(p.hair, 0.1)) for side in (-1, 1)]
    shapes += [
        ellipse(0, -0.06, 0.305, 0.29, p.hair),
        polygon([(-0.07, 0.2), (-0.08, 0.42), (0.08, 0.42), (0.07, 0.2)], darken(p.skin, 0.14)),
        _shoulders(p.shirt, half=0.26, top=0.36, slope=0.12),
        ellipse(-0.28, 0.05, 0.05, 0.06, darken(p.skin, 0.08)),
        ellipse(0.28, 0.05, 0.05, 0.06, darken(p.skin, 0.08)),
        ellipse(0, 0.03, 0.28, 0.27, p.skin),
        ellipse(-0.18, 0.14, 0.055, 0.045, cheeks, shading="none", outlined=False),
        ellipse(0.18, 0.14, 0.055, 0.045, cheeks, shading="none", outlined=False),
        *_eyes(p.skin, p.iris, p.hair, apart=0.115, y=0.04, rx=0.066, ry=0.066, brow=0.016),
        ellipse(0, 0.125, 0.028, 0.02, darken(p.skin, 0.22), shading="none", outlined=False),
        ellipse(0, 0.175, 0.07, 0.05, LIPS, start=0.0, end=0.5, shading="none"),
    ]
    fringe = [*arc(0, -0.04, 0.295, 0.28, 0.53, 0.97, 16), (0.16, -0.14), (0.05, -0.1), (-0.05, -0.14), (-0.16, -0.1)]
    shapes.append(polygon(fringe, p.hair))
    if not p.pigtails:
        tuft = [(-0.06, -0.3), (-0.02, -0.42), (0.01, -0.34), (0.07, -0.4), (0.07, -0.3)]
        shapes.append(polygon(tuft, p.hair, outlined=False))
    return shapes


def portrait(person: Person, *, x: float, y: float, size: float, mirrored: bool = False) -> list[Shape]:
    """Draw one person.

    Args:
        person: who.
        x: the middle of the face, in picture widths.
        y: the middle of the face, in picture heights.
        size: 1 fills the picture; 0.9 to 1.1 look well.
        mirrored: whether the parting falls on the other side.
    """
    shapes = {"woman": _woman, "man": _man, "child": _child}[person.kind](person)
    if person.glasses:
        apart, level, radius = (0.115, 0.04, 0.1) if person.kind == "child" else (0.092, 0.0, 0.08)
        shapes += _glasses(apart, level, radius)
    return placed(shapes, x, y, size, mirrored=mirrored)
