"""Polygons to build objects from: ellipses, boxes, bands along a line, and placing a whole drawing.

Objects are drawn in a frame of their own: x from about -0.5 to 0.5, y from -1 (top) to 0 (the
ground they stand on). `placed` moves such a drawing into the picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from velatura.pocket.scene import Colour, Shading, Shape

Point = tuple[float, float]


def polygon(points: Sequence[Point], colour: Colour, *, shading: Shading = "down", outlined: bool = True) -> Shape:
    """A polygon through the given corners."""
    return Shape(np.asarray(points, dtype=np.float64), colour, shading, outlined)


def box(
    left: float,
    top: float,
    width: float,
    height: float,
    colour: Colour,
    *,
    shading: Shading = "down",
    outlined: bool = True,
) -> Shape:
    """An upright rectangle."""
    right, bottom = left + width, top + height
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return polygon(corners, colour, shading=shading, outlined=outlined)


def ellipse(
    x: float,
    y: float,
    rx: float,
    ry: float,
    colour: Colour,
    *,
    start: float = 0.0,
    end: float = 1.0,
    shading: Shading = "round",
    outlined: bool = True,
) -> Shape:
    """An ellipse, or the part of it between two turns (0 is right, 0.25 is down, 0.5 is left)."""
    corners = 14 if max(rx, ry) < 0.08 else 26
    turns = 2 * math.pi * np.linspace(start, end, corners, endpoint=end - start < 0.999)
    points = np.stack([x + rx * np.cos(turns), y + ry * np.sin(turns)], axis=1)
    return Shape(points, colour, shading, outlined)


def band(
    line: Sequence[Point],
    width: float,
    colour: Colour,
    *,
    shading: Shading = "down",
    outlined: bool = True,
) -> Shape:
    """A line of even width with flat ends: a tail, a handle, a stem."""
    points = np.asarray(line, dtype=np.float64)
    along = np.gradient(points, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) * width / 2
    return Shape(np.concatenate([points + across, (points - across)[::-1]]), colour, shading, outlined)


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float, corners: int = 14) -> list[Point]:
    """Points along part of an ellipse, in turns as `ellipse` counts them; for `band` and `polygon`."""
    turns = 2 * math.pi * np.linspace(start, end, corners)
    return [(x + rx * math.cos(turn), y + ry * math.sin(turn)) for turn in turns]


def ring(x: float, y: float, rx: float, ry: float, width: float, colour: Colour) -> Shape:
    """A closed ellipse of line: the rim of a pair of glasses."""
    outer = arc(x, y, rx + width / 2, ry + width / 2, 0.0, 1.0, 20)
    inner = arc(x, y, rx - width / 2, ry - width / 2, 1.0, 0.0, 20)
    return polygon(outer + inner, colour, shading="none", outlined=False)


def placed(
    shapes: Iterable[Shape], x: float, y: float, size: float, *, mirrored: bool = False, tilt: float = 0.0
) -> list[Shape]:
    """Move a drawing from its own frame into the picture.

    Args:
        shapes: the drawing, standing on (0, 0).
        x: where its middle comes, in picture widths.
        y: where its foot comes.
        size: the length of its unit, in picture widths.
        mirrored: whether left and right change places.
        tilt: turn about the foot, in radians, clockwise.
    """
    turn = np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
    scale = np.array([-size if mirrored else size, size])
    return [replace(shape, points=(shape.points * scale) @ turn + (x, y)) for shape in shapes]


def behind(shape: Shape) -> Shape:
    """The same shape as part of the background."""
    return replace(shape, background=True)
