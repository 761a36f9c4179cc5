"""Animals and the snowman, in their own frame as `objects` has it.

Each has a pose of its own, so that silhouettes alone tell them apart: the cat sits and looks at
us, the dog stands in profile, the bird is a ball with a beak, the fish leaps.
"""

from __future__ import annotations

import math

import numpy as np

from velatura.pocket.objects import CHARCOAL, Look
from velatura.pocket.palette import accent, luminance
from velatura.pocket.scene import Colour, Shape
from velatura.pocket.shapes import band, box, ellipse, polygon

PUPIL: Colour = (18, 18, 22)
BEAK: Colour = (248, 150, 30)
SNOW: Colour = (246, 248, 252)


def _eye(x: float, y: float, radius: float) -> list[Shape]:
    """A white eye with a dark pupil: seen on black fur as well as on white."""
    return [
        ellipse(x, y, radius, radius, (252, 252, 250), shading="none", outlined=False),
        ellipse(x, y, radius * 0.6, radius * 0.6, PUPIL, shading="none", outlined=False),
    ]


def cat(colour: Colour, look: Look) -> list[Shape]:
    """Sitting, face to us: pointed ears, slit pupils, the tail curled up at one side."""
    shade = accent(colour, 0.14)
    iris = (236, 214, 70) if luminance(colour) < 130 else (84, 160, 74)
    t = np.linspace(0, 1, 10)
    tail = [(0.22 + 0.22 * math.sin(2.8 * s), -0.07 - 0.46 * s) for s in t]
    shapes = [
        band(tail, 0.09, shade),
        ellipse(0, -0.26, 0.28, 0.28, colour),
        ellipse(-0.14, -0.05, 0.11, 0.065, shade),
        ellipse(0.14, -0.05, 0.11, 0.065, shade),
    ]
    for side in (-1, 1):
        shapes += [
            polygon([(side * 0.29, -1.0), (side * 0.04, -0.84), (side * 0.29, -0.62)], colour),
            polygon(
                [(side * 0.25, -0.92), (side * 0.12, -0.82), (side * 0.25, -0.72)],
                (244, 150, 160),
                shading="none",
                outlined=False,
            ),
        ]
    shapes.append(ellipse(0, -0.66, 0.3, 0.24, colour))
    for side in (-1, 1):
        shapes += [
            ellipse(side * 0.125, -0.68, 0.072, 0.08, iris, shading="none"),
            ellipse(side * 0.125, -0.68, 0.028, 0.066, PUPIL, shading="none", outlined=False),
        ]
    shapes.append(polygon([(-0.045, -0.59), (0.045, -0.59), (0, -0.53)], (238, 120, 132), shading="none"))
    return shapes


def dog(colour: Colour, look: Look) -> list[Shape]:
    """Standing in profile: four legs, raised tail, snout with a dark nose, hanging ear, collar."""
    shade = accent(colour, 0.3)
    tail = [(-0.36, -0.42), (-0.44, -0.52), (-0.48, -0.66), (-0.46, -0.76)]
    return [
        band(tail, 0.08, colour),
        box(-0.28, -0.3, 0.1, 0.29, shade),
        box(0.06, -0.3, 0.1, 0.29, shade),
        box(-0.39, -0.32, 0.11, 0.32, colour),
        box(0.15, -0.32, 0.11, 0.32, colour),
        polygon([(-0.4, -0.44), (-0.32, -0.52), (0.2, -0.54), (0.3, -0.4), (0.24, -0.22), (-0.36, -0.22)], colour),
        polygon([(0.04, -0.5), (0.12, -0.78), (0.34, -0.74), (0.28, -0.36)], colour),
        ellipse(0.22, -0.78, 0.18, 0.165, colour),
        ellipse(0.39, -0.72, 0.13, 0.09, colour),
        ellipse(0.49, -0.755, 0.045, 0.04, PUPIL if luminance(colour) > 60 else (90, 80, 84), shading="none"),
        ellipse(0.11, -0.72, 0.075, 0.16, shade),
        *_eye(0.28, -0.82, 0.045),
    ]


def bird(colour: Colour, look: Look) -> list[Shape]:
    """A round bird in profile: tail, folded wing, large beak, two legs."""
    shade = accent(colour, 0.28)
    return [
        band([(-0.06, -0.2), (-0.06, 0)], 0.045, BEAK),
        band([(0.1, -0.2), (0.1, 0)], 0.045, BEAK),
        polygon([(-0.18, -0.3), (-0.52, -0.62), (-0.48, -0.34), (-0.36, -0.24)], shade),
        ellipse(0, -0.42, 0.31, 0.28, colour),
        polygon([(0.36, -0.82), (0.54, -0.7), (0.36, -0.62)], BEAK),
        ellipse(0.2, -0.7, 0.22, 0.21, colour),
        polygon([(0.1, -0.5), (-0.02, -0.3), (-0.22, -0.26), (-0.4, -0.4), (-0.12, -0.52)], shade),
        *_eye(0.27, -0.75, 0.06),
    ]


def fish(colour: Colour, look: Look) -> list[Shape]:
    """Leaping sideways: a lens-shaped body, forked tail, fins, one eye."""
    shade = accent(colour, 0.26)
    t = np.linspace(0, 1, 12)
    half = 0.24 * np.sin(math.pi * t**0.8)
    upper = np.stack([0.44 - 0.7 * t, -0.4 - half], axis=1)
    lower = np.stack([0.44 - 0.7 * t, -0.4 + half * 0.9], axis=1)[::-1]
    return [
        polygon([(-0.2, -0.4), (-0.5, -0.66), (-0.42, -0.4), (-0.5, -0.14)], shade),
        polygon([(0.2, -0.6), (0.02, -0.8), (-0.12, -0.56)], shade),
        Shape(np.concatenate([upper, lower]), colour),
        polygon([(0.08, -0.38), (-0.14, -0.24), (-0.1, -0.46)], shade, outlined=False),
        *_eye(0.27, -0.46, 0.055),
    ]


def snowman(colour: Colour, look: Look) -> list[Shape]:
    """Two white balls with a hat and a scarf of its colour, a carrot for a nose."""
    return [
        ellipse(0, -0.25, 0.32, 0.26, SNOW),
        ellipse(0, -0.61, 0.23, 0.21, SNOW),
        box(-0.22, -0.5, 0.44, 0.1, colour),
        polygon([(0.08, -0.44), (0.2, -0.44), (0.22, -0.2), (0.1, -0.2)], accent(colour, 0.12)),
        box(-0.27, -0.8, 0.54, 0.06, colour),
        box(-0.18, -1.02, 0.36, 0.23, colour),
        *(ellipse(x, -0.68, 0.034, 0.036, CHARCOAL, shading="none", outlined=False) for x in (-0.09, 0.09)),
        polygon([(-0.02, -0.64), (0.24, -0.59), (-0.02, -0.56)], (246, 130, 30)),
        *(ellipse(0, y, 0.034, 0.034, CHARCOAL, shading="none", outlined=False) for y in (-0.32, -0.18)),
    ]
