"""What the styles share: a scene measured pixel by pixel, paper noise, hatching, a trembling hand, printing.

Every length is in picture widths, and `PX` is one pixel of a 128 pixel picture, so that a drawing
looks the same at any size. Styles work at `DETAIL` times the size asked for; `finish` reduces.

Shape suffixes: H and W the height and width of the working picture (equal), 3 red, green, blue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter

from velatura.pocket.scene import Scene, Shape

Field = NDArray[np.floating[Any]]
"""Numbers over the picture; 32 bits suffice."""
Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]

PX = 1 / 128
DETAIL = 2
SMALL = 0.13
"""Shapes smaller than this, by the root of their area, are details: an eye, a lamp, the rims of glasses."""


@dataclass(frozen=True)
class View:
    """What is seen at every pixel, nearest shape first."""

    top_HW: Indices
    """0 where the sky shows, k where the k-th shape of the scene does, counted from 1."""
    colour_HW3: Field
    """Flat colour, 0 to 255."""
    light_HW: Field
    """From 1 on the lit side of its shape to -1 on the shaded one."""
    subject_HW: Mask
    """Everything that is not background."""
    small_HW: Mask
    """Details, too small for hatching or texture."""

    def tone(self, modelling: float = 0.2) -> Field:
        """Brightness with that much of the light on it, 0 black to 1 white, shape (H, W)."""
        tone: Field = np.clip(luminance(self.colour_HW3) + modelling * self.light_HW, 0, 1)
        return tone


def view(scene: Scene, pixels: int) -> View:
    """Measure a scene on a grid of pixels x pixels."""
    painted = Image.new("I", (pixels, pixels))
    draw = ImageDraw.Draw(painted)
    for index, shape in enumerate(scene.shapes, start=1):
        draw.polygon(corners(shape.points, pixels), fill=index)
    top = np.asarray(painted).astype(np.intp)
    shapes = scene.shapes
    colours = np.array([(0, 0, 0), *(shape.colour for shape in shapes)], np.float32)
    colour = np.where(top[..., None] == 0, _sky(scene, pixels), colours[top])
    subject = np.array([False, *(not shape.background for shape in shapes)])[top]
    small = np.array([False, *(extent(shape) < SMALL for shape in shapes)])[top]
    return View(top, colour, _light(shapes, top), subject, small)


def _sky(scene: Scene, pixels: int) -> Field:
    height = np.linspace(0, 1, pixels, dtype=np.float32)[:, None, None]
    above, below = (np.asarray(colour, np.float32) for colour in scene.sky)
    return np.broadcast_to(above * (1 - height) + below * height, (pixels, pixels, 3))


def _light(shapes: list[Shape], top: Indices) -> Field:
    low = np.array([(0, 0), *(shape.points.min(0) for shape in shapes)], np.float32)
    high = np.array([(1, 1), *(shape.points.max(0) for shape in shapes)], np.float32)
    scale = 1 / np.maximum(high - low, PX)
    x, y = grid(len(top))
    across = (x - low[top, 0]) * scale[top, 0]
    down = (y - low[top, 1]) * scale[top, 1]
    ball = 1 - 2.4 * np.hypot(across - 0.36, down - 0.3)
    kind = np.array([0, *({"none": 0, "down": 1, "round": 2}[shape.shading] for shape in shapes)])[top]
    light: Field = np.clip(np.choose(kind, (np.zeros_like(ball), 1 - 2 * down, ball)), -1, 1)
    return light.astype(np.float32)


def extent(shape: Shape) -> float:
    """The root of the area of a shape, in picture widths."""
    x, y = shape.points.T
    return math.sqrt(abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2)


def stream(scene: Scene, style: int) -> np.random.Generator:
    """The style's own draws for this scene."""
    return np.random.default_rng([scene.seed, style])


def grid(pixels: int) -> tuple[Field, Field]:
    """Across and down in picture widths: x of shape (1, W), y of shape (H, 1)."""
    centres = (np.arange(pixels, dtype=np.float32) + np.float32(0.5)) / pixels
    return centres[None, :], centres[:, None]


def corners(points: NDArray[np.float64], pixels: int) -> list[tuple[float, float]]:
    """Points in picture widths as pixels for PIL."""
    return [(x, y) for x, y in (points * pixels).tolist()]


def luminance(colour_HW3: Field) -> Field:
    """Perceived brightness, 0 to 1."""
    return colour_HW3 @ np.array([0.299, 0.587, 0.114], np.float32) / 255


def mix(first: ArrayLike, second: ArrayLike, share: ArrayLike) -> Field:
    """The first moved towards the second, colours or fields, by a share or a field of shares (H, W)."""
    weight = np.asarray(share, np.float32)
    start = np.asarray(first, np.float32)
    weight = weight if start.ndim == weight.ndim == 2 else weight[..., None]
    return start + (np.asarray(second, np.float32) - start) * weight


def saturate(colour: ArrayLike, amount: float) -> Field:
    """Pull colours away from grey, each 0 to 255; an amount of 1 changes nothing."""
    given = np.asarray(colour, np.float32)
    grey = luminance(given)[..., None] * 255
    return np.clip(grey + (given - grey) * amount, 0, 255)


def ramp(field: ArrayLike, low: float | Field, high: float) -> Field:
    """0 below low, 1 above high, smooth between; falling where low is above high."""
    step: Field = np.clip((np.asarray(field, np.float32) - low) / (high - low), 0, 1)
    return step * step * (3 - 2 * step)


def noise(rng: np.random.Generator, pixels: int, cells: int, *, rows: int | None = None) -> Field:
    """Smooth noise about 0 with deviation near 1; cells across, and down unless rows says otherwise."""
    coarse = rng.normal(size=(rows or cells, cells)).astype(np.float32)
    return resized(coarse, pixels) * np.float32(1.25)


def shake(seen: View, rng: np.random.Generator, *, cells: int, amount: float) -> tuple[Indices, Indices]:
    """Where to look instead of at each pixel, so that outlines tremble; details stay where they are.

    Args:
        seen: the scene; its details are spared.
        rng: draws the way of the trembling.
        cells: bends across the picture.
        amount: their deviation in picture widths.
    """
    pixels = len(seen.top_HW)
    free = (1 - ramp(blur(seen.small_HW.astype(np.float32), 1.5 * PX), 0.05, 0.4)) * amount * pixels
    place = np.arange(pixels)
    across = place[None, :] + noise(rng, pixels, cells) * free
    down = place[:, None] + noise(rng, pixels, cells) * free
    rows, columns = (np.clip(np.rint(way), 0, pixels - 1).astype(np.intp) for way in (down, across))
    return rows, columns


def stripes(pixels: int, angle: ArrayLike, spacing: float, bend: ArrayLike = 0.0) -> Field:
    """How far from the middle of its stripe each pixel lies, 0 to 1.

    Args:
        pixels: width of the picture.
        angle: direction of the stripes in radians, one or a field of shape (H, W).
        spacing: between two stripes, in picture widths.
        bend: shifts the stripes, in spacings; noise makes them a hand's.
    """
    x, y = grid(pixels)
    turn = np.asarray(angle, np.float32)
    phase = (y * np.cos(turn) - x * np.sin(turn)) / spacing + np.asarray(bend, np.float32)
    return np.abs(2 * (phase - np.floor(phase)) - 1)


def borders(top_HW: Indices) -> Mask:
    """Pixels whose right or lower neighbour belongs to another shape."""
    edge = np.zeros(top_HW.shape, bool)
    edge[:, :-1] |= top_HW[:, :-1] != top_HW[:, 1:]
    edge[:-1] |= top_HW[:-1] != top_HW[1:]
    return edge


def near_borders(top_HW: Indices, radius: float) -> Field:
    """The borders blurred, as strong at any size of picture; at most about 0.4 / (radius / PX) beside a line."""
    return blur(borders(top_HW).astype(np.float32), radius) * (len(top_HW) * PX / DETAIL)


def distance(walls: Mask, reach: int) -> Field:
    """Pixels to the nearest wall, exact up to reach and cut there, shape (H, W)."""
    pixels = len(walls)
    squared = np.where(walls, 0, np.float32(reach) ** 2).astype(np.float32)
    for axis in (0, 1):
        padded = np.pad(squared, [(reach, reach) if axis == other else (0, 0) for other in (0, 1)], mode="edge")
        nearest = squared.copy()
        for shift in range(-reach, reach + 1):
            window = slice(reach + shift, reach + shift + pixels)
            np.minimum(nearest, (padded[window] if axis == 0 else padded[:, window]) + shift * shift, out=nearest)
        squared = nearest
    return np.sqrt(squared)


def blur(field: Field, radius: float) -> Field:
    """Gaussian blur; the radius in picture widths.

    Args:
        field: 0 to 1 of shape (H, W), or colours 0 to 255 of shape (H, W, 3); 8 bits of it are kept.
        radius: the deviation of the Gaussian.
    """
    scale = 255 if field.ndim == 2 else 1
    whole = Image.fromarray(np.clip(field * scale, 0, 255).astype(np.uint8))
    blurred = whole.filter(ImageFilter.GaussianBlur(radius * len(field)))
    return np.asarray(blurred).astype(np.float32) / scale


def resized(field: Field, pixels: int) -> Field:
    """A field of shape (h, w) on a grid of pixels x pixels, without rounding its values."""
    return np.asarray(Image.fromarray(field.astype(np.float32)).resize((pixels, pixels), Image.Resampling.BICUBIC))


def hand_line(points: NDArray[np.float64], rng: np.random.Generator, *, tremble: float) -> NDArray[np.float64]:
    """A closed outline as a hand would draw it: more points, each a little beside its place.

    Args:
        points: corners, shape (n, 2), in picture widths.
        rng: draws the deviations, as many for every size of picture.
        tremble: their deviation in picture widths.
    """
    following = np.roll(points, -1, axis=0)
    pieces = []
    for start, end in zip(points, following, strict=True):
        count = max(1, int(np.hypot(*(end - start)) / 0.035))
        pieces.append(start + (end - start) * (np.arange(count) / count)[:, None])
    line = np.concatenate(pieces)
    beside = rng.normal(size=line.shape)
    beside = (beside + np.roll(beside, 1, 0) + np.roll(beside, -1, 0)) / 1.7
    line = line + beside * tremble
    return np.concatenate([line, line[:1]])


def ink_lines(
    scene: Scene, rng: np.random.Generator, pixels: int, *, width: float, tremble: float, passes: int = 1
) -> Field:
    """Outlines of everything that is outlined, hidden parts hidden; 1 where there is a line, shape (H, W).

    A line thins and swells along its way; `width` is its widest, in picture widths.
    """
    sheet = Image.new("L", (pixels, pixels))
    draw = ImageDraw.Draw(sheet)
    for shape in scene.shapes:
        draw.polygon(corners(shape.points, pixels), fill=0)
        if not shape.outlined:
            continue
        for _ in range(passes):
            line = corners(hand_line(shape.points, rng, tremble=tremble), pixels)
            swell = 0.82 + 0.18 * np.sin(np.arange(len(line)) * rng.uniform(0.3, 0.6) + rng.uniform(0, 6))
            thin = 0.8 if shape.background or extent(shape) < SMALL else 1.0
            thickness = np.maximum(np.rint(width * pixels * thin * swell), 2).astype(int).tolist()
            for start, end, thick in zip(line[:-1], line[1:], thickness, strict=False):
                draw.line([start, end], fill=255, width=thick)
                half = (thick - 1) / 2
                draw.ellipse([end[0] - half, end[1] - half, end[0] + half, end[1] + half], fill=255)
    return np.asarray(sheet).astype(np.float32) / 255


def finish(picture_HW3: Field) -> Image.Image:
    """The working picture as an RGB image, `DETAIL` times smaller."""
    whole = np.clip(picture_HW3, 0, 255).astype(np.uint8)
    return Image.fromarray(whole).reduce(DETAIL)
