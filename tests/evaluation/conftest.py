"""Simulated checkpoints: drawn scenes with dials, so that the truth is known exactly.

A scene is an object on a ground under a sky; the base paints it flat and bright, the style muted, outlined
and hatched. `strength` moves a picture from one to the other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Picture = NDArray[np.uint8]
COLOURS = {
    "red": (214, 52, 45),
    "orange": (238, 140, 40),
    "yellow": (240, 212, 70),
    "green": (66, 160, 74),
    "blue": (50, 92, 200),
    "purple": (130, 70, 170),
}
SIDE = 96
_PAPER = np.array([232.0, 222, 200])
_INK = np.array([58.0, 44, 40])


def draw(
    content: int, *, strength: float = 0.0, seed: int = 0, colour: str | None = None, mirrored: bool = False
) -> Picture:
    """One picture; `content` and `seed` decide what stands where, never how it is painted."""
    random = np.random.default_rng([content, seed, 7])
    paint = COLOURS[colour or list(COLOURS)[int(random.integers(6))]]
    scale = 3
    size = SIDE * scale
    image = Image.new("RGB", (size, size), tuple(int(v) for v in random.integers((120, 170, 200), (170, 215, 250))))
    lines = Image.new("L", (size, size), 0)
    pen, ink = ImageDraw.Draw(image), ImageDraw.Draw(lines)
    horizon = int(size * random.uniform(0.5, 0.75))
    ground = tuple(int(v) for v in random.integers((90, 120, 60), (190, 190, 130)))
    pen.rectangle((0, horizon, size, size), fill=ground)
    ink.line((0, horizon, size, horizon), fill=255, width=4)
    for _ in range(int(random.integers(1, 4))):
        x, y, r = random.uniform(0, size), random.uniform(0.1, 0.9) * horizon, random.uniform(0.04, 0.1) * size
        pen.ellipse((x - 2 * r, y - r, x + 2 * r, y + r), fill=(248, 248, 244))
        ink.ellipse((x - 2 * r, y - r, x + 2 * r, y + r), outline=255, width=3)
    x, r = random.uniform(0.25, 0.75) * size, random.uniform(0.14, 0.24) * size
    y = horizon + random.uniform(-0.05, 0.1) * size
    box = (x - r, y - r, x + r, y + r)
    kind = int(random.integers(3))
    if kind == 0:
        pen.ellipse(box, fill=paint)
        ink.ellipse(box, outline=255, width=5)
    elif kind == 1:
        pen.rectangle(box, fill=paint)
        ink.rectangle(box, outline=255, width=5)
    else:
        corners = [(x - r, y + r), (x + r, y + r), (x, y - r)]
        pen.polygon(corners, fill=paint)
        ink.line([*corners, corners[0]], fill=255, width=5)
    flat = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=float)
    drawn = np.asarray(lines.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=float)[..., None] / 255
    grey = flat.mean(axis=2, keepdims=True)
    muted = 0.55 * flat + 0.25 * grey + 0.2 * _PAPER
    across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    hatch = ((across + down) % 5 < 1.5)[..., None] * np.clip((200 - grey) / 120, 0, 1)
    styled = muted + (_INK - muted) * np.clip(drawn + 0.5 * hatch, 0, 1)
    mixed = flat + strength * (styled - flat) + random.normal(0, 2, flat.shape)
    picture = np.clip(mixed, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(picture[:, ::-1]) if mirrored else picture


def disturb(picture: Picture, *, seed: int = 0) -> Picture:
    """The same picture as a model that knows it by heart paints it: soft, a little noisy and off in tone."""
    random = np.random.default_rng([seed, 11])
    soft = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(0.6)), dtype=float)
    toned = soft * random.uniform(0.92, 1.05, 3) + random.normal(0, 5, soft.shape)
    return np.clip(toned, 0, 255).astype(np.uint8)


@pytest.fixture(name="draw", scope="session")
def _draw() -> Callable[..., Picture]:
    return draw


@pytest.fixture(name="disturb", scope="session")
def _disturb() -> Callable[..., Picture]:
    return disturb


@pytest.fixture(name="colours", scope="session")
def _colours() -> list[str]:
    return list(COLOURS)
