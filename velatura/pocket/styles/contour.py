"""Contour lines over colour washes: the scene as a map, every form a hill with its lines of height.

The look of the README's story. Loose transparent colour lies under thin lines that follow the
forms inwards, as contour lines climb a hill, and ripple outwards through the background.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from velatura.pocket.scene import Scene
from velatura.pocket.styles import canvas
from velatura.pocket.styles.canvas import DETAIL, PX, Field, View, mix, ramp

PAPER, LINE = (250, 247, 238), (44, 40, 66)
SURVEY, REACH = 128, 76
"""Heights are measured on a grid so many points across, up to so many from an outline, at every size."""


def contour(scene: Scene, *, size: int = 128) -> Image.Image:
    """Lines of equal height in dark ink over washes of colour."""
    rng, pixels = canvas.stream(scene, 15), size * DETAIL
    seen = canvas.view(scene, pixels)
    height = _heights(scene, rng, pixels)
    washes = _washes(seen, rng)
    outlines = canvas.ink_lines(scene, rng, pixels, width=2.3 * PX, tremble=0.25 * PX)
    solid = seen.small_HW & (seen.tone() < 0.17)
    lines = (
        _level_lines(height, width=2.0 * PX * pixels) * np.where(seen.subject_HW, 0.85, 0.72) * _clear_of_details(seen)
    )
    shade = mix(canvas.saturate(seen.colour_HW3, 1.3) * 0.5, LINE, 0.45)
    drawn = mix(washes, shade, lines)
    return canvas.finish(mix(drawn, LINE, np.maximum(outlines * 0.92, solid * 0.9)))


def _heights(scene: Scene, rng: np.random.Generator, pixels: int) -> Field:
    """Height in contour steps: the way to the nearest outline, uneven as land is, shape (H, W)."""
    walls = _major_borders(scene)
    inwards = canvas.distance(walls, REACH) / SURVEY
    rounded = canvas.resized(inwards, SURVEY // 2)
    land = canvas.resized(rounded, pixels) / (7.6 * PX)
    return land + 0.32 * canvas.noise(rng, pixels, 5)


def _major_borders(scene: Scene) -> canvas.Mask:
    """Outlines between forms; what has none (a shadow, a pupil) and details raise no hill of their own."""
    raising = [shape.outlined and canvas.extent(shape) >= canvas.SMALL for shape in scene.shapes]
    large = replace(scene, shapes=[shape for shape, counts in zip(scene.shapes, raising, strict=True) if counts])
    return canvas.borders(canvas.view(large, SURVEY).top_HW)


def _level_lines(height: Field, *, width: float) -> Field:
    """Lines of the same width wherever the height passes a half step, shape (H, W)."""
    down, across = np.gradient(height)
    slope = np.maximum(np.hypot(down, across), 1e-4)
    away = np.abs(height - np.floor(height) - 0.5) / slope
    fading = ramp(slope * len(height), 4, 12)
    return ramp(away, width / 2 + 0.6, width / 2 - 0.6) * fading


def _clear_of_details(seen: View) -> Field:
    """0 on details and close to them, where a level line would spoil an eye, 1 elsewhere, shape (H, W)."""
    return ramp(canvas.blur(seen.small_HW.astype(np.float32), 1.8 * PX), 0.4, 0.1)


def _washes(seen: View, rng: np.random.Generator) -> Field:
    pixels = len(seen.top_HW)
    place = canvas.shake(seen, rng, cells=8, amount=1.4 * PX)
    colour = canvas.saturate(seen.colour_HW3[place], 1.15)
    colour = mix(colour, canvas.blur(colour, 2.5 * PX), np.where(seen.small_HW, 0.0, 0.6))
    flow = canvas.noise(rng, pixels, 4) * 0.6 + canvas.noise(rng, pixels, 10) * 0.4
    load = 0.66 + 0.12 * flow - 0.12 * seen.light_HW[place]
    return mix(PAPER, colour, np.clip(load, 0.3, 0.95))
