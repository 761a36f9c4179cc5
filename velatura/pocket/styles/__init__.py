"""Twelve demo styles, each a different hand painting the same scenes. The base was never trained on any of them.

They stand for what a user brings: a folder of pictures in one look. `examples.py` writes such folders.
No torch here; numpy and Pillow only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image

from velatura.pocket.scene import Scene
from velatura.pocket.styles.contour import contour
from velatura.pocket.styles.craft import mosaic, paper, woodcut
from velatura.pocket.styles.drawing import blueprint, pencil, stipple
from velatura.pocket.styles.painting import ink, pastel, watercolour
from velatura.pocket.styles.screen import neon, pixel

Medium = Literal["line", "paint", "print", "craft", "light"]


class Paint(Protocol):
    """Paints a scene; equal scenes and sizes give equal pictures."""

    def __call__(self, scene: Scene, *, size: int = 128) -> Image.Image:
        """An RGB picture of size x size pixels; any size from 64, multiples of 32 for pixel art."""
        ...


@dataclass(frozen=True)
class Style:
    """One look."""

    name: str
    trigger: str
    """What captions call it, after the scene's own caption: "pencil drawing"."""
    description: str
    """One sentence."""
    medium: Medium
    paint: Paint
    coloured: bool = True
    """Whether the colours of things can still be told."""


STYLES: dict[str, Style] = {
    style.name: style
    for style in (
        Style(
            "pencil",
            "pencil drawing",
            "Soft graphite on cream paper, doubled outlines and slanting hatching.",
            "line",
            pencil,
            coloured=False,
        ),
        Style(
            "ink", "ink and wash", "A swelling dark brush line over thin washes that miss it a little.", "paint", ink
        ),
        Style(
            "watercolour",
            "watercolour",
            "Transparent colour with pooled edges, rims of white paper, no lines.",
            "paint",
            watercolour,
        ),
        Style("pixel", "pixel art", "Thirty-two big square pixels across, few colours, dark rims.", "light", pixel),
        Style("neon", "neon sign", "Glowing glass tubes in the colours of the things on a dark wall.", "light", neon),
        Style(
            "paper",
            "cut paper",
            "Layers of coloured paper cut with scissors, with shadows and lit edges.",
            "craft",
            paper,
        ),
        Style(
            "stipple",
            "stipple drawing",
            "Black dots of one pen, dense in the dark and along the outlines.",
            "line",
            stipple,
            coloured=False,
        ),
        Style(
            "woodcut",
            "woodcut print",
            "Carved black lines on cream, coloured ink on the subjects alone.",
            "print",
            woodcut,
        ),
        Style(
            "contour",
            "contour lines over colour wash",
            "A map of the scene: lines of equal height over washes.",
            "paint",
            contour,
        ),
        Style(
            "pastel",
            "chalk pastel",
            "Broad slanting strokes of chalk on warm toned paper that shows between.",
            "paint",
            pastel,
        ),
        Style(
            "blueprint",
            "blueprint",
            "White ruled lines with axes, measures and a grid on blue.",
            "line",
            blueprint,
            coloured=False,
        ),
        Style(
            "mosaic", "mosaic", "Cut stones in pale mortar, broken where a contour runs through them.", "craft", mosaic
        ),
    )
}
