"""Painting polygons with Pillow: antialiased masks, gradients and reusable noise.

Everything is drawn at twice the final size and reduced. Noise comes from one table made at first
use and read at offsets that the scene's seed decides, so that pictures are deterministic and cheap.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from velatura.pocket.scene import Colour, Scene, Shape

Pixels = NDArray[np.float32]
"""Heights by widths, with or without three channels; 0 to 255 where it is colour."""

OVERSAMPLING = 2
_NOISE_SIDE = 512


def rgb(colour: Colour) -> tuple[int, int, int]:
    """The nearest 8-bit colour."""
    red, green, blue = (min(255, max(0, round(value))) for value in colour)
    return (red, green, blue)


def gradient(width: int, height: int, top: Colour, bottom: Colour) -> Image.Image:
    """A picture that fades from one colour at the top to another at the bottom."""
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    column = np.asarray(top, np.float32) * (1 - share) + np.asarray(bottom, np.float32) * share
    pixels = np.clip(column, 0, 255).astype(np.uint8)[:, None]
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)


def sky(scene: Scene, side: int) -> Image.Image:
    """The sky alone."""
    return gradient(side, side, *scene.sky)


class Patch:
    """The part of the canvas that one polygon covers: where it lies, and its mask."""

    def __init__(self, shape: Shape, side: int) -> None:
        """Measure a shape on a canvas of side x side pixels."""
        points = shape.points * side
        left, top = np.maximum(np.floor(points.min(axis=0)).astype(int) - 1, 0)
        right, bottom = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 2, side)
        self.left, self.top = int(left), int(top)
        self.width, self.height = int(right - left), int(bottom - top)
        self.points: list[tuple[float, float]] = [(x, y) for x, y in (points - (left, top)).tolist()]
        full = np.ceil(points.max(axis=0) - points.min(axis=0))
        self.full_width, self.full_height = max(1, int(full[0])), max(1, int(full[1]))
        self.offset = (int(left - points[:, 0].min()), int(top - points[:, 1].min()))
        """Of the visible part within the whole polygon's box."""

    @property
    def visible(self) -> bool:
        """Whether any of it lies on the canvas."""
        return self.width > 1 and self.height > 1

    @property
    def corner(self) -> tuple[int, int]:
        """Where the patch goes."""
        return (self.left, self.top)

    def mask(self) -> Image.Image:
        """255 inside the polygon, 0 outside."""
        mask = Image.new("L", (self.width, self.height))
        ImageDraw.Draw(mask).polygon(self.points, fill=255)
        return mask

    def crop(self, picture: Image.Image) -> Image.Image:
        """The visible part of a picture that is stretched over the polygon's whole box."""
        across, down = self.offset
        scale_x, scale_y = picture.width / self.full_width, picture.height / self.full_height
        frame = (
            max(0.0, across * scale_x),
            max(0.0, down * scale_y),
            min(float(picture.width), (across + self.width) * scale_x),
            min(float(picture.height), (down + self.height) * scale_y),
        )
        return picture.resize((self.width, self.height), Image.Resampling.BILINEAR, box=frame)


def paint_flat(canvas: Image.Image, shapes: list[Shape]) -> None:
    """Fill each polygon with its colour."""
    draw = ImageDraw.Draw(canvas)
    side = canvas.width
    for shape in shapes:
        draw.polygon([(x, y) for x, y in (shape.points * side).tolist()], fill=rgb(shape.colour))


@cache
def ball() -> Image.Image:
    """How dark a lit ball is: 0 at the light, upper left, 255 at the far rim."""
    y, x = np.mgrid[0:48, 0:48].astype(np.float32) / 47
    distance = np.hypot(x - 0.36, y - 0.28) * 1.3
    return Image.fromarray((np.clip(distance, 0, 1) ** 1.2 * 255).astype(np.uint8))


@cache
def gleam() -> Image.Image:
    """A soft window of light in the upper left third of a body; 0 where there is none."""
    y, x = np.mgrid[0:48, 0:48].astype(np.float32) / 47
    distance = np.hypot((x - 0.31) / 0.17, (y - 0.22) / 0.1)
    return Image.fromarray((np.clip(1.6 - distance * 1.1, 0, 1) * 150).astype(np.uint8))


@cache
def slope() -> Image.Image:
    """How dark a wall lit from above is: 0 at the top, 255 at the foot."""
    return Image.fromarray(np.repeat(np.linspace(0, 255, 48).astype(np.uint8)[:, None], 2, axis=1))


def seamless(
    rng: np.random.Generator, slope_x: float, slope_y: float, *, power: float = 1.0, turn: float = 0.0
) -> Pixels:
    """Tileable noise of mean 0 and deviation 1 with a 1/f spectrum, stretched along one axis.

    Args:
        rng: the noise's source.
        slope_x: how fast frequencies across x fade; larger than `slope_y` makes streaks along x.
        slope_y: the same for y.
        power: the exponent of 1/f; 0 is white noise.
        turn: the axes' angle, in radians.
    """
    side = _NOISE_SIDE
    fx, fy = np.fft.rfftfreq(side) * side, np.fft.fftfreq(side)[:, None] * side
    along, across = fx * math.cos(turn) + fy * math.sin(turn), fy * math.cos(turn) - fx * math.sin(turn)
    radius = np.sqrt((along * slope_x) ** 2 + (across * slope_y) ** 2)
    radius[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.normal(size=(side, side))) / radius**power
    noise = np.fft.irfft2(spectrum, (side, side))
    scaled: Pixels = (noise / noise.std()).astype(np.float32)
    return scaled


@cache
def noise_table(name: str) -> Pixels:
    """A fixed 512 x 512 noise: "grain", "cloud", "fine", "across", "upright" or "fibre"."""
    rng = np.random.default_rng([2024, sum(name.encode())])
    if name == "grain":
        return seamless(rng, 1, 1, power=0.0)
    if name == "cloud":
        return seamless(rng, 1, 1, power=1.6)
    if name == "fine":
        return seamless(rng, 1, 1, power=0.6)
    if name == "across":
        return seamless(rng, 1, 0.12, power=1.2)
    if name == "upright":
        return seamless(rng, 0.12, 1, power=1.2)
    if name == "fibre":
        # Threads in five directions, the topmost one showing.
        threads = np.max([seamless(rng, 1, 0.14, power=0.9, turn=k * math.pi / 5) for k in range(5)], axis=0)
        fibre: Pixels = ((threads - threads.mean()) / threads.std()).astype(np.float32)
        return fibre
    raise ValueError(f"no noise called {name!r}")


def noise(name: str, side: int, rng: np.random.Generator) -> Pixels:
    """A square cut from a noise table at a random place; the table repeats beyond its 512 pixels."""
    rows, columns = ((np.arange(side) + start) % _NOISE_SIDE for start in rng.integers(0, _NOISE_SIDE, 2))
    part: Pixels = noise_table(name)[np.ix_(rows, columns)]
    return part


def array(picture: Image.Image) -> Pixels:
    """A picture as float32 pixels."""
    return np.asarray(picture, dtype=np.float32)


def picture(pixels: Pixels) -> Image.Image:
    """Float pixels, clipped, as an RGB picture."""
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@cache
def vignette(side: int) -> Pixels:
    """1 in the middle, down to about 0 in the corners; shape (side, side)."""
    line = np.linspace(-1, 1, side).astype(np.float32)
    corners: Pixels = (line[:, None] ** 2 + line[None] ** 2) / np.float32(2)
    return 1 - corners
