"""Three painter's hands: ink line over wash, watercolour, pastel on toned paper."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from velatura.pocket.scene import Scene
from velatura.pocket.styles import canvas
from velatura.pocket.styles.canvas import DETAIL, PX, Field, mix, ramp

WHITE_PAPER, CREAM_PAPER, TONED_PAPER = (252, 250, 244), (249, 244, 231), (138, 120, 112)
INK = (36, 30, 44)


def ink(scene: Scene, *, size: int = 128) -> Image.Image:
    """A swelling brush line in dark ink; thin washes that miss it a little and leave the lights bare."""
    rng, pixels = canvas.stream(scene, 12), size * DETAIL
    seen = canvas.view(scene, pixels)
    slip = np.rint(rng.uniform(1.2, 2.4, 2) * rng.choice([-1, 1], 2) * PX * pixels).astype(int)
    rows, columns = canvas.shake(seen, rng, cells=10, amount=0.9 * PX)
    place = (np.clip(rows + slip[0], 0, pixels - 1), np.clip(columns + slip[1], 0, pixels - 1))
    subject, light = seen.subject_HW[place], seen.light_HW[place]
    flow = canvas.noise(rng, pixels, 4) * 0.75 + canvas.noise(rng, pixels, 9) * 0.25
    load = np.clip(0.76 + 0.09 * flow, 0.4, 0.98) * np.where(subject, 1.0, 0.8)
    bare_light = 0.7 * ramp(light, 0.62, 0.8) * subject
    bare_rim = 0.6 * ramp(canvas.near_borders(seen.top_HW[place], 0.7 * PX), 0.1, 0.5)
    load = load * (1 - bare_light) * (1 - bare_rim)
    washed = mix(CREAM_PAPER, canvas.saturate(seen.colour_HW3[place], 1.15), load)
    lines = canvas.ink_lines(scene, rng, pixels, width=2.5 * PX, tremble=0.4 * PX)
    solid = seen.small_HW & (seen.tone() < 0.17)
    return canvas.finish(mix(washed, INK, np.maximum(lines, solid) * 0.95))


def watercolour(scene: Scene, *, size: int = 128) -> Image.Image:
    """No lines: transparent colour that pools at its edges, blooms inside, and leaves rims of white paper."""
    rng, pixels = canvas.stream(scene, 13), size * DETAIL
    seen = canvas.view(scene, pixels)
    place = canvas.shake(seen, rng, cells=16, amount=0.8 * PX)
    top, subject, light = seen.top_HW[place], seen.subject_HW[place], seen.light_HW[place]
    small = seen.small_HW[place]
    colour = canvas.saturate(seen.colour_HW3[place], 1.2)
    wet = canvas.blur(colour, 4 * PX)
    colour = np.where(subject[..., None], colour, 0.5 * colour + 0.5 * wet)
    rim = ramp(canvas.near_borders(top, 0.75 * PX), 0.08, 0.4)
    pool = canvas.near_borders(top, 2.2 * PX) * 2.2
    bloom = canvas.noise(rng, pixels, 5)
    edge_of_bloom = ramp(np.abs(bloom - 0.7), 0.16, 0.0)
    grains = canvas.noise(rng, pixels, 56)
    load = 0.74 + 0.1 * bloom - 0.14 * light + 0.34 * pool + 0.07 * edge_of_bloom + 0.02 * grains
    load = np.where(small, 0.95, load)
    pigment = mix(colour, colour * 0.62, ramp(load, 0.75, 1.35) * 0.8)
    painted = mix(WHITE_PAPER, pigment, np.clip(load, 0.25, 0.97) * (1 - 0.72 * rim * ~small))
    x, y = canvas.grid(pixels)
    inset = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)) + canvas.noise(rng, pixels, 9) * 1.1 * PX
    return canvas.finish(mix(WHITE_PAPER, painted, ramp(inset, 4.4 * PX, 5.6 * PX)))


def pastel(scene: Scene, *, size: int = 128) -> Image.Image:
    """Chalk on warm grey paper: broad slanting strokes, the paper's grain between them, thick lights."""
    rng, pixels = canvas.stream(scene, 19), size * DETAIL
    seen = canvas.view(scene, pixels)
    place = canvas.shake(seen, rng, cells=40, amount=0.7 * PX)
    subject, light, small = seen.subject_HW[place], seen.light_HW[place], seen.small_HW[place]
    colour = canvas.saturate(seen.colour_HW3[place], 1.12)
    angle = np.where(subject, -0.9, -0.25).astype(np.float32)
    bend = canvas.noise(rng, pixels, 6) * 0.5
    stroke = canvas.stripes(pixels, angle, 6.5 * PX, bend)
    colour = mix(colour, (255, 250, 240), 0.34 * ramp(light + 0.5 * (stroke - 0.5), 0.1, 1.0) + 0.06)
    colour = mix(colour, (40, 30, 60), 0.34 * ramp(-light + 0.5 * (stroke - 0.5), 0.1, 1.0))
    grain = np.where(subject, _slanting_grain(rng, pixels, -0.9), _slanting_grain(rng, pixels, -0.25))
    pressure = 0.9 - 0.8 * ramp(stroke, 0.5, 1.0) + 0.25 * np.abs(light) + np.where(subject, 0.55, 0.0)
    rim = canvas.near_borders(seen.top_HW[place], 1.2 * PX)
    cover = ramp(pressure - grain - 1.6 * rim * ~small, -0.9, 0.7)
    cover = np.where(small, 1, 0.25 + 0.75 * cover)
    return canvas.finish(mix(TONED_PAPER, colour, cover * 0.96))


def _slanting_grain(rng: np.random.Generator, pixels: int, angle: float) -> Field:
    """Grain drawn out along the strokes, about 0 with deviation near 0.6, shape (H, W)."""
    wide = canvas.noise(rng, pixels * 3 // 2, 26, rows=84) * 0.6
    turned = Image.fromarray(wide).rotate(-math.degrees(angle), Image.Resampling.BILINEAR)
    margin = (turned.width - pixels) // 2
    return np.asarray(turned.crop((margin, margin, margin + pixels, margin + pixels)))
