"""Skies and grounds: everything behind the subject, for each setting and time of day.

Every function returns background shapes in picture coordinates, painted back to front.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from velatura.pocket.palette import COLOURS, darken, jitter, lighten, mix
from velatura.pocket.scene import Colour, Shape
from velatura.pocket.shapes import arc, behind, box, ellipse, polygon

GROUNDS: dict[str, Colour] = {
    "green hills": (112, 186, 84),
    "desert": (232, 190, 112),
    "snow": (226, 234, 246),
    "sea": (44, 118, 190),
    "mountains": (128, 176, 96),
    "beach": (244, 222, 162),
    "forest": (96, 140, 70),
    "city": (120, 120, 128),
}
WATER: Colour = (46, 124, 194)
SKIES: dict[str, tuple[Colour, Colour]] = {
    "day": ((96, 168, 240), (206, 232, 252)),
    "sunset": ((146, 84, 164), (254, 172, 92)),
    "night": ((20, 26, 70), (62, 74, 134)),
}
CLOUD_WORDS: dict[int, str] = {1: "one cloud", 2: "two clouds", 3: "three clouds"}


@dataclass(frozen=True)
class Light:
    """How the hour tints what it falls on."""

    time: str

    def on_ground(self, colour: Colour) -> Colour:
        """Ground, hills and clouds."""
        if self.time == "night":
            return mix(colour, (26, 32, 84), 0.5)
        return mix(colour, (244, 134, 84), 0.18) if self.time == "sunset" else colour

    def on_subject(self, colour: Colour) -> Colour:
        """The subject: tinted less, so that its colour stays the one that was asked for."""
        if self.time == "night":
            return mix(colour, (26, 32, 84), 0.16)
        return mix(colour, (250, 130, 70), 0.07) if self.time == "sunset" else colour


def stars(rng: np.random.Generator) -> list[Shape]:
    """Small lights over the upper part of the sky."""
    places = rng.uniform((0, 0.02, 0.006), (1, 0.5, 0.011), (18, 3))
    star: Colour = (255, 255, 226)
    return [behind(ellipse(x, y, r, r, star, shading="none", outlined=False)) for x, y, r in places]


def sun(x: float, y: float, colour: str, rng: np.random.Generator) -> Shape:
    """A full disc of a colour word."""
    return behind(ellipse(x, y, 0.105, 0.105, jitter(COLOURS[colour], rng, 4), shading="none"))


def moon(x: float, y: float, *, crescent: bool) -> Shape:
    """A full or a crescent moon."""
    pale: Colour = (252, 244, 200)
    if not crescent:
        return behind(ellipse(x, y, 0.09, 0.09, pale, shading="none"))
    outer = arc(x, y, 0.1, 0.1, -0.32, 0.32, 16)
    inner = arc(x - 0.045, y, 0.085, 0.092, 0.3, -0.3, 14)
    return behind(polygon(outer + inner, pale, shading="none"))


def cloud(x: float, y: float, size: float, colour: Colour) -> Shape:
    """A flat-bottomed cloud of a few bumps, as one outline."""
    turns = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    bump = 1 + 0.2 * np.abs(np.sin(turns * 2.5))
    across, up = 0.14 * size * bump * np.cos(turns), 0.07 * size * bump * np.sin(turns)
    points = np.stack([x + across, y + np.minimum(up, 0.045 * size)], axis=1)
    return Shape(points, colour, background=True)


def cloud_colour(time: str) -> Colour:
    """White by day, rosy at sunset, grey-blue at night."""
    return {"day": (252, 252, 254), "sunset": (255, 216, 200), "night": (132, 142, 182)}[time]


def _hill(rng: np.random.Generator, y: float, height: float, colour: Colour) -> Shape:
    x = np.linspace(-0.05, 1.05, 24)
    ridge = y + height * np.sin(x * rng.uniform(3, 6) + rng.uniform(0, 6))
    points = np.concatenate([np.stack([x, ridge], axis=1), [(1.05, 1.1), (-0.05, 1.1)]])
    return Shape(points, colour, background=True)


def _peaks(rng: np.random.Generator, horizon: float, light: Light) -> list[Shape]:
    """Three snow-capped mountains."""
    shapes = []
    for place in rng.permutation([0.12, 0.5, 0.88]):
        x, height, half = place + rng.uniform(-0.07, 0.07), rng.uniform(0.3, 0.42), rng.uniform(0.28, 0.36)
        foot, top = horizon + 0.04, horizon - height
        rock, white = light.on_ground(jitter((122, 130, 156), rng)), light.on_ground((246, 249, 253))
        cap = 0.34
        edge = top + (foot - top) * cap
        zigzag = [
            (x + half * cap * t, edge + (foot - top) * dy)
            for t, dy in ((1, 0), (0.4, -0.08), (0.05, 0.05), (-0.4, -0.07), (-1, 0))
        ]
        shapes += [polygon([(x - half, foot), (x, top), (x + half, foot)], rock), polygon([(x, top), *zigzag], white)]
    return [behind(shape) for shape in shapes]


def _firs(rng: np.random.Generator, horizon: float, light: Light) -> list[Shape]:
    """Two rows of dark firs, each as one jagged outline."""
    shapes = []
    for row, (height, colour) in enumerate(((0.38, (74, 122, 92)), (0.28, (48, 96, 66)))):
        corners = [(-0.1, horizon + 0.08)]
        x = -0.08 - rng.uniform(0, 0.1)
        while x < 1.1:
            width, tall = rng.uniform(0.15, 0.2), height * rng.uniform(0.8, 1.1)
            corners += [(x, horizon - 0.03 + 0.03 * row), (x + width / 2, horizon - tall), (x + width, horizon - 0.03)]
            x += width
        shapes.append(polygon([*corners, (1.15, horizon + 0.08)], light.on_ground(jitter(colour, rng, 5))))
    return [behind(shape) for shape in shapes]


def _skyline(rng: np.random.Generator, horizon: float, light: Light) -> list[Shape]:
    """A row of tall buildings with lit or dark windows."""
    shapes = []
    pane: Colour = (255, 226, 130) if light.time == "night" else (190, 210, 228)
    x = -0.06
    while x < 1.02:
        width, height = rng.uniform(0.17, 0.25), rng.uniform(0.2, 0.4)
        wall = light.on_ground(jitter(mix((128, 138, 158), (176, 166, 160), float(rng.random())), rng))
        shapes.append(box(x, horizon - height, width, height + 0.06, wall))
        for row in range(3):
            for column in range(2):
                left, top = x + width * (0.16 + 0.4 * column), horizon - height + 0.045 + 0.095 * row
                if top < horizon - 0.06:
                    window = pane if light.time != "night" or rng.random() < 0.7 else darken(wall, 0.3)
                    shapes.append(box(left, top, width * 0.28, 0.05, window, shading="none", outlined=False))
        x += width + 0.005
    return [behind(shape) for shape in shapes]


def _waves(rng: np.random.Generator, top: float, bottom: float, count: int, light: Light) -> list[Shape]:
    """Pale strokes on water."""
    shapes = []
    for y in np.linspace(top, bottom, count):
        x, half = rng.uniform(0.05, 0.95), rng.uniform(0.07, 0.12)
        crest = light.on_ground((160, 208, 238))
        stroke = [(x - half, y), (x, y - 0.012), (x + half, y), (x, y + 0.01)]
        shapes.append(polygon(stroke, crest, shading="none", outlined=False))
    return [behind(shape) for shape in shapes]


def ground(setting: str, horizon: float, light: Light, rng: np.random.Generator) -> list[Shape]:
    """What lies below and at the horizon.

    Args:
        setting: one of the outdoor settings.
        horizon: its height, in picture heights from the top.
        light: tints for the time of day.
        rng: shapes and small colour changes.
    """
    colour = light.on_ground(jitter(GROUNDS[setting], rng))
    if setting == "sea":
        return [behind(box(-0.05, horizon, 1.1, 0.6, colour)), *_waves(rng, horizon + 0.06, 0.97, 5, light)]
    if setting == "beach":
        water = light.on_ground(jitter(WATER, rng))
        return [
            behind(box(-0.05, horizon - 0.02, 1.1, 0.3, water)),
            *_waves(rng, horizon + 0.02, horizon + 0.06, 2, light),
            _hill(rng, horizon + 0.12, 0.015, colour),
        ]
    if setting == "city":
        kerb = behind(box(-0.05, horizon + 0.03, 1.1, 0.05, lighten(colour, 0.3)))
        road = behind(box(-0.05, horizon + 0.07, 1.1, 0.5, colour))
        return [*_skyline(rng, horizon, light), kerb, road]
    far = mix(colour, (160, 180, 216), 0.35) if setting == "snow" else darken(colour, 0.14)
    swell = {"green hills": 0.055, "desert": 0.045, "snow": 0.03}.get(setting, 0.015)
    standing = {"mountains": _peaks, "forest": _firs}.get(setting)
    return [
        *(standing(rng, horizon, light) if standing else []),
        _hill(rng, horizon, swell, far),
        _hill(rng, horizon + 0.1, swell * 0.7, colour),
    ]


def shadow(x: float, y: float, half: float, floor: Colour) -> Shape:
    """The soft dark patch an object stands on."""
    patch = ellipse(x, y, half, half * 0.13, darken(floor, 0.26), shading="none", outlined=False)
    return replace(patch, background=True)
