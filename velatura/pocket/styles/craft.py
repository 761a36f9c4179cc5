"""Three hands with a blade or a hammer: cut paper, woodcut, mosaic."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from velatura.pocket.scene import Colour, Scene, Shape
from velatura.pocket.styles import canvas
from velatura.pocket.styles.canvas import DETAIL, PX, SMALL, Field, Indices, View, mix, ramp

CREAM, BLACK = (244, 234, 210), (30, 26, 28)
GROUT = (150, 140, 130)


def paper(scene: Scene, *, size: int = 128) -> Image.Image:
    """Sheets of coloured paper cut with scissors and laid in layers, each with its shadow and a lit edge."""
    rng, pixels = canvas.stream(scene, 16), size * DETAIL
    picture = Image.new("RGB", (pixels, pixels), _whole(scene.sky[0]))
    x = np.linspace(-0.1, 1.1, 9)
    for sheet, share in enumerate((0.35, 0.7, 1.0)):
        wave = 0.2 + 0.19 * sheet + 0.035 * np.sin(x * 7 + rng.uniform(0, 6))
        points = np.concatenate([np.stack([x, wave], 1), [(1.1, 1.2), (-0.1, 1.2)]])
        colour = mix(scene.sky[0], scene.sky[1], share)
        _lay(picture, points, (float(colour[0]), float(colour[1]), float(colour[2])), 1.6)
    for shape in scene.shapes:
        if canvas.extent(shape) < SMALL or not shape.outlined:
            _lay(picture, shape.points, shape.colour, 0.0 if not shape.outlined else 0.6)
        else:
            _lay(picture, _cut(shape, rng), shape.colour, 1.3 if shape.background else 2.0)
    fibres = canvas.noise(rng, pixels, 60) * 2.2 + canvas.noise(rng, pixels, 20) * 1.6
    return canvas.finish(np.asarray(picture).astype(np.float32) + fibres[..., None])


def _cut(shape: Shape, rng: np.random.Generator) -> Field:
    """Scissors go straight: every other point of a curve is left out, corners stay."""
    points = shape.points
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    sharp = np.abs(np.arctan2(turn, (before * after).sum(1))) > 0.5
    kept = points[sharp | (np.arange(len(points)) % 2 == 0)] if len(points) >= 12 else points
    return (kept + rng.normal(size=kept.shape) * 0.25 * PX).astype(np.float32)


def _whole(colour: Colour | Field) -> tuple[int, int, int]:
    red, green, blue = (int(np.clip(value, 0, 255)) for value in colour)
    return red, green, blue


def _lay(picture: Image.Image, points: Field | np.ndarray, colour: Colour, height: float) -> None:
    """Lay one sheet, its height over the last one in pixels of 128."""
    pixels = picture.width
    lift = height * PX * pixels
    margin = int(4 * lift) + 2
    low = np.clip(np.floor(points.min(0) * pixels).astype(int) - margin, 0, pixels)
    high = np.clip(np.ceil(points.max(0) * pixels).astype(int) + margin, 0, pixels)
    if (high <= low).any():
        return
    box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
    size = (box[2] - box[0], box[3] - box[1])

    def cut(right: float, down: float) -> Image.Image:
        mask = Image.new("L", size)
        moved = points * pixels - low + (right, down)
        ImageDraw.Draw(mask).polygon([(a, b) for a, b in moved.tolist()], fill=255)
        return mask

    here = cut(0, 0)
    if lift:
        shadow = cut(lift * 0.8, lift * 1.1).filter(ImageFilter.GaussianBlur(lift * 0.75))
        picture.paste((22, 16, 34), box[:2], shadow.point(lambda value: int(value * 0.55)))
        edge = mix(colour, (255, 255, 255), 0.5)
        picture.paste(_whole(edge), box[:2], here)
        inner = Image.fromarray(np.minimum(np.asarray(here), np.asarray(cut(lift * 0.4, lift * 0.4))))
        picture.paste(_whole(colour), box[:2], inner)
    else:
        picture.paste(_whole(colour), box[:2], here)


def woodcut(scene: Scene, *, size: int = 128) -> Image.Image:
    """A black block carved along the forms on cream paper, and a second block in one colour."""
    rng, pixels = canvas.stream(scene, 18), size * DETAIL
    seen = canvas.view(scene, pixels)
    place = canvas.shake(seen, rng, cells=26, amount=0.45 * PX)
    top, subject, small = seen.top_HW[place], seen.subject_HW[place], seen.small_HW[place]
    tone = seen.tone(0.3)[place]
    turns = rng.uniform(-0.35, 0.35, len(scene.shapes) + 1)
    angle = (turns + np.where([False, *(not shape.background for shape in scene.shapes)], 0.9, 0.0))[top]
    bend = canvas.noise(rng, pixels, 4) * 0.45
    inked = _colour_blocks(scene, seen)[place]
    dark = np.where(subject, 1 - tone, (1 - tone) * 0.72)
    cutting = mix(dark, 0.42 * dark + 0.36 * np.maximum(-seen.light_HW[place], 0), inked)
    wood = canvas.stripes(pixels, angle, 7.4 * PX, bend)
    black = ramp(cutting - wood, -0.12, 0.12)
    black = np.where(cutting < 0.36, 0, np.where(cutting > 0.85, 1, black))
    black = np.where(small, tone < 0.25, black).astype(np.float32)
    rim = canvas.near_borders(top, 1.3 * PX)
    carved = ramp(rim, 0.1, 0.2) * ~small
    lines = canvas.ink_lines(scene, rng, pixels, width=2.6 * PX, tremble=0.35 * PX)
    black = np.maximum(black * (1 - carved), lines)
    printed = mix(CREAM, canvas.saturate(seen.colour_HW3[place], 1.25), inked * 0.95)
    return canvas.finish(mix(printed, BLACK, black))


def _colour_blocks(scene: Scene, seen: View) -> Field:
    """How much coloured ink each place takes: strong hues of the subjects and of an indoor wall, no landscape."""
    chroma: Field = seen.colour_HW3.max(-1) - seen.colour_HW3.min(-1)
    wall = (seen.top_HW == 0) & bool(scene.facts.background)
    share: Field = ramp(chroma, 35, 100) * (seen.subject_HW | wall)
    return share


def mosaic(scene: Scene, *, size: int = 128, across: int = 21) -> Image.Image:
    """Cut stones, each of one colour, broken where a contour runs through them, in grey mortar."""
    rng, pixels = canvas.stream(scene, 21), size * DETAIL
    seen = canvas.view(scene, pixels)
    stone, joint = _stones(rng, pixels, across)
    shade = rng.normal(size=(across + 2) ** 2).astype(np.float32)
    warmth = rng.normal(size=((across + 2) ** 2, 3)).astype(np.float32)
    colour = canvas.saturate(seen.colour_HW3, 1.1)
    colour = colour * (1 + 0.07 * shade)[stone][..., None] + warmth[stone] * 4 + 10 * seen.light_HW[..., None]
    cracks = ramp(canvas.near_borders(np.where(seen.small_HW, -1, seen.top_HW), 0.6 * PX), 0.15, 0.45)
    mortar = np.where(seen.small_HW, 0.0, np.maximum(ramp(joint, 1.5 * PX, 0.6 * PX), cracks))
    return canvas.finish(mix(colour, GROUT, mortar * 0.9))


def _stones(rng: np.random.Generator, pixels: int, across: int) -> tuple[Indices, Field]:
    """Which stone lies at each pixel, and how far into it from the joint, in picture widths.

    Every pixel belongs to the nearest centre of a jittered grid, by the larger of the two ways:
    that leaves four-cornered stones.
    """
    places = np.arange(across + 2) - 0.5
    centres = np.stack(np.meshgrid(places, places), -1)
    centres = (centres + rng.uniform(-0.2, 0.2, centres.shape)).astype(np.float32) / across
    x, y = canvas.grid(pixels)
    column, row = (x * across).astype(np.intp), (y * across).astype(np.intp)
    nearest = np.full((pixels, pixels), 9, np.float32)
    second, stone = nearest.copy(), np.zeros((pixels, pixels), np.intp)
    for down in (0, 1, 2):
        for right in (0, 1, 2):
            centre = centres[row + down, column + right]
            away = np.maximum(np.abs(centre[..., 0] - x), np.abs(centre[..., 1] - y))
            second = np.minimum(second, np.maximum(nearest, away))
            stone = np.where(away < nearest, (row + down) * (across + 2) + column + right, stone)
            nearest = np.minimum(nearest, away)
    return stone, second - nearest
