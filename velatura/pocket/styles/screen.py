"""Two hands made of light: pixel art and neon tubes."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from velatura.pocket.scene import Colour, Scene
from velatura.pocket.styles import canvas
from velatura.pocket.styles.canvas import DETAIL, PX, SMALL, Field, mix

ACROSS = 32
"""Big pixels across a picture, each 4 at size 128."""
COLOURS = 20
CHEQUER = np.array([[0.25, 0.75], [0.75, 0.25]], np.float32)
NIGHT = (13, 9, 30)


def pixel(scene: Scene, *, size: int = 128) -> Image.Image:
    """32 big pixels across, few colours, a darker rim round every subject, a chequered sky."""
    fine = 8
    seen = canvas.view(scene, ACROSS * fine)
    top = _most_seen(seen.top_HW, fine)
    palette = np.array([(0, 0, 0), *(shape.colour for shape in scene.shapes)], np.float32)
    subject = np.array([False, *(not shape.background for shape in scene.shapes)])[top]
    small = np.array([False, *(canvas.extent(shape) < SMALL for shape in scene.shapes)])[top]
    colour = np.where(top[..., None] == 0, _banded_sky(scene), canvas.saturate(palette, 1.15)[top])
    light = seen.light_HW.reshape(ACROSS, fine, ACROSS, fine).mean((1, 3))
    colour = mix(colour, (255, 250, 225), 0.2 * (light > 0.66) * subject * ~small)
    colour = mix(colour, (30, 16, 60), 0.14 * (light < -0.66) * subject * ~small)
    around = np.pad(subject, 1, mode="edge")
    inside = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    colour = mix(colour, (24, 14, 44), 0.55 * (subject & ~inside & ~small))
    few = Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8)).quantize(COLOURS, dither=Image.Dither.NONE)
    return few.convert("RGB").resize((size, size), Image.Resampling.NEAREST)


def _most_seen(top_HW: canvas.Indices, fine: int) -> canvas.Indices:
    """The shape that covers most of each big pixel, nearer ones counting for more: eyes must stay."""
    blocks = top_HW.reshape(ACROSS, fine, ACROSS, fine).swapaxes(1, 2).reshape(ACROSS, ACROSS, fine * fine)
    ordered = np.sort(blocks, axis=2)
    return ordered[:, :, round(fine * fine * 0.66)]


def _banded_sky(scene: Scene) -> Field:
    bands = 5
    height = np.linspace(0, bands - 1, ACROSS, dtype=np.float32)[:, None]
    chequer = np.tile(CHEQUER, (ACROSS // 2, ACROSS // 2))
    band = np.floor(height) + (height - np.floor(height) > chequer)
    return mix(scene.sky[0], scene.sky[1], band / (bands - 1))


def neon(scene: Scene, *, size: int = 128) -> Image.Image:
    """Bent glass tubes in the colours of the things, their halo on a dark wall, a breath of colour inside."""
    pixels = size * DETAIL
    tubes, inside = Image.new("RGB", (pixels, pixels)), Image.new("RGB", (pixels, pixels))
    draw_tubes, draw_inside = ImageDraw.Draw(tubes), ImageDraw.Draw(inside)
    for shape in scene.shapes:
        outline = canvas.corners(shape.points, pixels)
        lit = _tube_colour(shape.colour)
        draw_tubes.polygon(outline, fill=0)
        draw_inside.polygon(outline, fill=tuple(np.asarray(lit * (0.07 if shape.background else 0.2), int).tolist()))
        small = canvas.extent(shape) < SMALL
        if small and not shape.outlined:
            share = 0.6 * canvas.ramp(max(shape.colour), 50, 250)
            draw_tubes.polygon(outline, fill=tuple((lit * share).astype(int).tolist()))
        elif shape.outlined:
            dimmed = tuple((lit * (0.62 if shape.background else 1.0)).astype(int).tolist())
            width = round((1.5 if small or shape.background else 2.1) * PX * pixels)
            draw_tubes.line([*outline, *outline[:2]], fill=dimmed, width=width, joint="curve")
    glass = np.asarray(tubes).astype(np.float32)
    halo = canvas.blur(glass, 1.6 * PX) * 0.75 + canvas.blur(glass, 5 * PX)
    core = canvas.ramp(canvas.luminance(glass), 0.15, 0.8) * 0.35
    wall = np.asarray(NIGHT, np.float32) + 0.22 * mix(scene.sky[0], scene.sky[1], canvas.grid(pixels)[1])
    light = np.asarray(inside).astype(np.float32) + halo + mix(glass, (255, 255, 255), core * (glass.max(-1) > 200))
    return canvas.finish(wall + light)


def _tube_colour(colour: Colour) -> Field:
    """The tube for a paint: strong hues keep their hue, greys turn ice blue, near black turns violet."""
    given = np.asarray(colour, np.float32)
    high, low = float(given.max()), float(given.min())
    if high < 80:
        return np.array((140, 110, 255), np.float32)
    if high - low < 0.16 * high:
        return np.array((205, 232, 255), np.float32)
    return (255 * ((given - low * 0.75) / (high - low * 0.75)) ** 1.25).astype(np.float32)
