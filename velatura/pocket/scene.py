"""A drawn scene as data: shapes in painting order, with the facts that a caption or an oracle may ask for.

A scene holds no pixels. `objects` builds shapes, `compose` puts them together and writes the
caption, `renderings` and `styles` paint the same scene in different hands.
No torch here; numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
"""Red, green, blue, each 0 to 255."""

Shading = Literal["down", "round", "none"]
"""How light falls on a shape: from above, as on a ball, or not at all."""


@dataclass(frozen=True)
class Shape:
    """One filled polygon."""

    points: NDArray[np.float64]
    """Corners, shape (n, 2): x to the right, y down, in picture widths; may lie outside 0..1."""
    colour: Colour
    shading: Shading = "down"
    outlined: bool = True
    """Whether a style that draws contours draws this one."""
    background: bool = False
    """Sky, ground, water, shadow: what lies behind the subject."""


@dataclass(frozen=True)
class Thing:
    """A subject of the scene, as the caption names it."""

    kind: str
    colour: str
    """A colour word, or "" where the kind has one colour only (a cactus)."""
    count: int = 1
    side: Literal["left", "right", ""] = ""


@dataclass(frozen=True)
class Facts:
    """What is true of the picture, whatever hand paints it."""

    things: tuple[Thing, ...]
    setting: str
    """One of the outdoor settings, "table" or "portrait"."""
    time: Literal["day", "sunset", "night", ""] = ""
    background: str = ""
    """The colour word of a wall or a portrait's background; "" outdoors."""
    extras: tuple[str, ...] = ()
    """Everything else that the caption may name: "yellow sun", "two clouds", "glasses"."""


@dataclass
class Scene:
    """Shapes in painting order over a sky that fades from its first colour to its second."""

    seed: int
    facts: Facts
    caption: str
    sky: tuple[Colour, Colour]
    night: bool = False
    shapes: list[Shape] = field(default_factory=list)
