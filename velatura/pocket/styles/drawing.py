"""Three hands in one colour: pencil, stippled ink, and a draughtsman's blueprint."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from velatura.pocket.scene import Scene, Shape
from velatura.pocket.styles import canvas
from velatura.pocket.styles.canvas import DETAIL, PX, SMALL, Field, Mask, View, mix, ramp

PAPER, GRAPHITE = (248, 245, 237), (58, 58, 68)
SHEET, INK = (251, 249, 243), (26, 26, 32)
BLUE, CHALK = (28, 74, 142), (238, 245, 252)


def pencil(scene: Scene, *, size: int = 128) -> Image.Image:
    """Graphite on cream paper: doubled outlines, hatching that crosses in the darks, a little smudge."""
    rng, pixels = canvas.stream(scene, 11), size * DETAIL
    seen = canvas.view(scene, pixels)
    dark = 1 - seen.tone(0.3)
    dark = np.where(seen.subject_HW, dark, dark * 0.62)
    bend = canvas.noise(rng, pixels, 6) * 0.3
    pressure = 0.8 + 0.2 * canvas.noise(rng, pixels, 12)
    graphite = 0.34 * dark
    slant = np.where(seen.subject_HW, -0.85, -0.3).astype(np.float32)
    for turn, threshold in ((0.0, 0.14), (1.2, 0.5), (0.6, 0.72)):
        weight = ramp(dark, threshold, threshold + 0.4)
        stroke = ramp(canvas.stripes(pixels, slant + turn, 4.0 * PX, bend), 0.5 + 0.25 * weight, 0.0)
        graphite = graphite + stroke * weight * pressure * 0.42
    graphite = np.where(seen.small_HW, ramp(dark, 0.25, 0.85) * 0.9, graphite)
    lines = canvas.ink_lines(scene, rng, pixels, width=1.9 * PX, tremble=0.55 * PX, passes=2)
    grain = 1 - 0.16 * ramp(canvas.noise(rng, pixels, 60), 0.2, 1.6)
    return canvas.finish(mix(PAPER, GRAPHITE, np.clip(np.maximum(graphite, lines * 0.88), 0, 0.95) * grain))


def stipple(scene: Scene, *, size: int = 128) -> Image.Image:
    """Dots of one pen, dense in the dark and along every outline, none in the light."""
    rng, pixels = canvas.stream(scene, 17), size * DETAIL
    seen = canvas.view(scene, pixels)
    sheet = Image.new("L", (pixels, pixels))
    draw = ImageDraw.Draw(sheet)
    for shape in scene.shapes:
        draw.polygon(canvas.corners(shape.points, pixels), fill=0)
        if canvas.extent(shape) < SMALL and not shape.background:
            outline = canvas.corners(np.concatenate([shape.points, shape.points[:2]]), pixels)
            draw.line(outline, fill=220, width=round(1.5 * PX * pixels), joint="curve")
        elif shape.outlined:
            _dots(draw, _along(shape, 3.3 * PX), 1.15 * PX, pixels)
    dots = _toned_dots(seen, rng)
    _dots(draw, dots, 1.3 * PX, pixels)
    solid = seen.small_HW & (seen.tone() < 0.2)
    ink = np.maximum(np.asarray(sheet).astype(np.float32) / 255, solid)
    return canvas.finish(mix(SHEET, INK, ink))


def _toned_dots(seen: View, rng: np.random.Generator, across: int = 38) -> Field:
    """Dot places, shape (n, 2): error diffusion sets them evenly, a jitter hides its rows."""
    dark = np.where(seen.subject_HW, 1, 0.5) * (1 - seen.tone(0.34))
    outlines = canvas.near_borders(seen.top_HW, 1.3 * PX) > 0.06
    density = np.where(seen.small_HW | outlines, 0, 255 * np.clip((dark - 0.1) * 0.85, 0, 0.7))
    small = Image.fromarray((255 - density).astype(np.uint8)).resize((across, across), Image.Resampling.BOX)
    rows, columns = np.nonzero(~np.asarray(small.convert("1")))
    places = (np.stack([columns, rows], 1) + 0.5 + rng.uniform(-0.28, 0.28, (len(rows), 2))) / across
    return places.astype(np.float32)


def _along(shape: Shape, spacing: float) -> Field:
    """Places every spacing along the outline of a shape, shape (n, 2)."""
    closed = np.concatenate([shape.points, shape.points[:1]])
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    at = np.linspace(0, length[-1], max(3, round(length[-1] / spacing)), endpoint=False)
    return np.stack([np.interp(at, length, closed[:, k]) for k in (0, 1)], 1).astype(np.float32)


def _dots(draw: ImageDraw.ImageDraw, places: Field, radius: float, pixels: int) -> None:
    around = radius * pixels
    for x, y in (places * pixels).tolist():
        draw.ellipse([x - around, y - around, x + around, y + around], fill=255)


def blueprint(scene: Scene, *, size: int = 128) -> Image.Image:
    """White lines on blue: ruled outlines, a grid, axes and measures of the subject."""
    rng, pixels = canvas.stream(scene, 20), size * DETAIL
    seen = canvas.view(scene, pixels)
    dark = 1 - seen.tone()
    hatched = ramp(canvas.stripes(pixels, -0.785, 5.0 * PX), 0.42, 0.2) * ramp(dark, 0.42, 0.6)
    chalk = np.where(seen.subject_HW, 0.42 * hatched, 0.14 * hatched) * ~seen.small_HW
    chalk = np.maximum(chalk, np.where(seen.small_HW & seen.subject_HW, 0.85 * ramp(dark, 0.6, 0.85), 0))
    chalk = np.maximum(chalk, 0.2 * ~seen.subject_HW * _squared(pixels))
    drawn = _ruled(scene, pixels)
    chalk = np.maximum(chalk, drawn)
    chalk = np.maximum(chalk, 0.8 * _measures(seen.subject_HW & ~seen.small_HW, pixels))
    paper = mix(BLUE, (18, 54, 112), ramp(canvas.noise(rng, pixels, 6), -1.5, 2.5))
    return canvas.finish(mix(paper, CHALK, np.clip(chalk, 0, 1)))


def _squared(pixels: int) -> Field:
    across = canvas.stripes(pixels, 0.0, 1 / 8)
    down = canvas.stripes(pixels, np.pi / 2, 1 / 8)
    return np.maximum(ramp(across, 0.12, 0.06), ramp(down, 0.12, 0.06))


def _ruled(scene: Scene, pixels: int) -> Field:
    sheet = Image.new("L", (pixels, pixels))
    draw = ImageDraw.Draw(sheet)
    for shape in scene.shapes:
        draw.polygon(canvas.corners(shape.points, pixels), fill=0)
        if not shape.outlined and (shape.background or canvas.extent(shape) >= SMALL):
            continue
        strength, width = (150, 1.3) if shape.background or not shape.outlined else (255, 1.7)
        outline = np.concatenate([shape.points, shape.points[:2]])
        draw.line(canvas.corners(outline, pixels), fill=strength, width=round(width * PX * pixels), joint="curve")
    return np.asarray(sheet).astype(np.float32) / 255


def _measures(subject: Mask, pixels: int) -> Field:
    """Dashed axes through the subject, and dimension lines with arrows under and beside it."""
    rows, columns = np.nonzero(subject)
    if not len(rows):
        return np.zeros((pixels, pixels), np.float32)
    sheet = Image.new("L", (pixels, pixels))
    draw = ImageDraw.Draw(sheet)
    left, right = np.quantile(columns, (0.004, 0.996)).tolist()
    top, bottom = np.quantile(rows, (0.004, 0.996)).tolist()
    px, width = pixels * PX, round(1.2 * pixels * PX)
    for start in np.arange(0, pixels, 11 * px).tolist():
        middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
        draw.line([start, middle_y, start + 6 * px, middle_y], fill=90, width=width)
        draw.line([middle_x, start, middle_x, start + 6 * px], fill=90, width=width)
    beside = right + 6 * px if pixels - right > left else left - 6 * px
    below = bottom + 6 * px
    if below < pixels - 3 * px:
        _measure(draw, (left, below), (right, below), px, width)
    if 3 * px < beside < pixels - 3 * px:
        _measure(draw, (beside, top), (beside, bottom), px, width)
    return np.asarray(sheet).astype(np.float32) / 255


def _measure(
    draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], px: float, width: int
) -> None:
    """A dimension line: arrowheads at both ends between two end strokes."""
    draw.line([start, end], fill=235, width=width)
    along = np.sign(np.subtract(end, start))
    across = along[::-1]
    for tip, inwards in ((np.asarray(start), along), (np.asarray(end), -along)):
        back = tip + inwards * 4 * px
        head = [tip, back + across * 2 * px, back - across * 2 * px]
        draw.polygon([(x, y) for x, y in np.asarray(head).tolist()], fill=235)
        stroke = np.concatenate([tip - across * 3 * px, tip + across * 3 * px])
        draw.line(stroke.tolist(), fill=235, width=width)
