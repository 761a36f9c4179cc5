"""Pictures of nothing in particular, so that the autoencoder learns more than the renderer's scenes.

Noise at every scale, gradients, patterns, polygons, curved strokes and layers with sharp edges:
what drawings and photographs from outside are made of. None imitates a style that is kept for
training; strokes are random curves on any ground, never contours of objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from velatura.pocket.painting import Pixels, array, gradient, noise, picture, rgb
from velatura.pocket.scene import Colour

_OVERSAMPLING = 2


def _colour(rng: np.random.Generator) -> Colour:
    """Any colour; at times a grey, at times close to black or white."""
    red, green, blue = (float(v) for v in rng.uniform(0, 255, 3))
    draw = rng.random()
    if draw < 0.15:
        return (red, red, red)
    if draw < 0.3:
        lift = 255.0 if rng.random() < 0.6 else 0.0
        return (red * 0.15 + lift * 0.85, green * 0.15 + lift * 0.85, blue * 0.15 + lift * 0.85)
    return (red, green, blue)


def _tile(rng: np.random.Generator, name: str, side: int) -> Pixels:
    """Part of a noise table, turned and mirrored at random."""
    part = noise(name, side, rng)
    if rng.random() < 0.5:
        part = part.T
    return part[:: 1 if rng.random() < 0.5 else -1]


def _ground(rng: np.random.Generator, side: int) -> Image.Image:
    """A plain, fading or noisy ground."""
    base = gradient(side, side, _colour(rng), _colour(rng))
    if rng.random() < 0.3:
        base = Image.new("RGB", (side, side), rgb(_colour(rng)))
    if rng.random() < 0.5:
        base = base.rotate(90 * int(rng.integers(4)))
    if rng.random() < 0.4:
        name = ("cloud", "fine", "grain")[int(rng.integers(3))]
        base = picture(array(base) + (_tile(rng, name, side) * rng.uniform(2, 14))[..., None])
    return base


def _curve(rng: np.random.Generator, side: int) -> list[tuple[float, float]]:
    """A cubic Bézier curve through the picture."""
    t = np.linspace(0, 1, 20)[:, None]
    a, b, c, d = rng.uniform(-0.1, 1.1, (4, 2))
    if rng.random() < 0.5:
        b, c, d = (a + rng.normal(0, 0.25, 2) for _ in range(3))
    points = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
    return [(x, y) for x, y in (points * side).tolist()]


def fractal(rng: np.random.Generator, side: int) -> Image.Image:
    """Cloudy noise of three partly independent channels over a gradient."""
    shared = _tile(rng, "cloud", side)
    channels: list[Pixels] = [
        shared * 0.7 + _tile(rng, ("cloud", "fine")[int(rng.random() < 0.3)], side) * 0.6 for _ in range(3)
    ]
    base = array(gradient(side, side, _colour(rng), _colour(rng)))
    depth = np.float32(rng.uniform(8, 55))
    return picture(base + np.stack(channels, axis=-1, dtype=np.float32) * depth)


def strokes(rng: np.random.Generator, side: int) -> Image.Image:
    """Curves of any width and colour on any ground."""
    canvas = _ground(rng, side)
    draw = ImageDraw.Draw(canvas)
    thick = math.exp(rng.uniform(math.log(1.5), math.log(side / 6)))
    for _ in range(int(rng.integers(3, 26))):
        width = max(1, round(thick * rng.uniform(0.5, 1.5)))
        draw.line(_curve(rng, side), fill=rgb(_colour(rng)), width=width, joint="curve")
    return canvas


def line_drawing(rng: np.random.Generator, side: int) -> Image.Image:
    """Thin curves of one colour on a plain ground, dark on light or light on dark."""
    paper, ink = _colour(rng), _colour(rng)
    if abs(sum(paper) - sum(ink)) < 180:
        ink = (255 - paper[0], 255 - paper[1], 255 - paper[2])
    canvas = Image.new("RGB", (side, side), rgb(paper))
    draw = ImageDraw.Draw(canvas)
    width = int(rng.integers(2, 6))
    for _ in range(int(rng.integers(3, 22))):
        if rng.random() < 0.3:
            x, y, rx, ry = rng.uniform(0, 1, 4) * (side, side, side * 0.3, side * 0.3)
            draw.ellipse((x - rx, y - ry, x + rx, y + ry), outline=rgb(ink), width=width)
        else:
            draw.line(_curve(rng, side), fill=rgb(ink), width=width, joint="curve")
    return canvas


def threads(rng: np.random.Generator, side: int) -> Image.Image:
    """Many fine curves or short straight lines of a few colours, lying densely on any ground."""
    canvas = _ground(rng, side)
    draw = ImageDraw.Draw(canvas)
    inks = [rgb(_colour(rng)) for _ in range(int(rng.integers(1, 4)))]
    turn, spread = rng.uniform(0, math.pi), rng.uniform(0, 1.5)
    straight = rng.random() < 0.5
    for _ in range(int(rng.integers(15, 150))):
        ink, width = inks[int(rng.integers(len(inks)))], int(rng.integers(1, 5))
        if straight:
            (x, y), angle = rng.uniform(0, side, 2), turn + rng.normal(0, spread)
            reach = side * math.exp(rng.uniform(math.log(0.02), math.log(0.3)))
            dx, dy = reach * math.cos(angle), reach * math.sin(angle)
            draw.line((x - dx, y - dy, x + dx, y + dy), fill=ink, width=width)
        else:
            draw.line(_curve(rng, side), fill=ink, width=width, joint="curve")
    return canvas


def speckles(rng: np.random.Generator, side: int) -> Image.Image:
    """Grains, chips and dots of one or many sizes strewn evenly over any ground, as in terrazzo or falling snow."""
    canvas = _ground(rng, side)
    draw = ImageDraw.Draw(canvas)
    inks = [rgb(_colour(rng)) for _ in range(int(rng.integers(1, 5)))]
    size, spread = side * math.exp(rng.uniform(math.log(0.004), math.log(0.03))), rng.uniform(0, 0.6)
    count = min(int(rng.uniform(0.05, 0.5) * side**2 / (3 * size**2)), 3000)
    for x, y in rng.uniform(0, side, (count, 2)):
        rx, ry = (size * math.exp(rng.normal(0, spread)) for _ in range(2))
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=inks[int(rng.integers(len(inks)))])
    return canvas


def pattern(rng: np.random.Generator, side: int) -> Image.Image:
    """Stripes, checks or waves, turned to any angle, hard or soft."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    turn = rng.uniform(0, math.pi)
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    frequency = math.exp(rng.uniform(math.log(1.5), math.log(22)))
    wave = np.sin(2 * math.pi * frequency * (along + rng.uniform(0, 0.06) * np.sin(9 * across)))
    if rng.random() < 0.4:
        wave = wave * np.sin(2 * math.pi * frequency * across)
    share: Pixels = np.clip(wave * float(rng.choice([0.5, 2.0, 9.0])) + 0.5, 0, 1)[..., None]
    first, second = np.array([_colour(rng), _colour(rng)], np.float32)
    mixed: Pixels = first * (1 - share) + second * share
    return picture(mixed)


def blobs(rng: np.random.Generator, side: int) -> Image.Image:
    """Regions of a few colours, cut from smooth noise at level lines."""
    field = _tile(rng, "cloud", side)
    grey = Image.fromarray(np.clip(field * 40 + 128, 0, 255).astype(np.uint8))
    number = int(rng.integers(2, 7))
    levels = np.sort(rng.uniform(70, 186, number - 1))
    field = array(grey.filter(ImageFilter.GaussianBlur(rng.uniform(1, 5))))
    palette = np.array([_colour(rng) for _ in range(number)], np.float32)
    return picture(palette[np.digitize(field, levels)])


def polygons(rng: np.random.Generator, side: int) -> Image.Image:
    """Overlapping polygons and ellipses."""
    canvas = _ground(rng, side)
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(3, 18))):
        x, y = rng.uniform(0, side, 2)
        reach = side * rng.uniform(0.04, 0.45)
        if rng.random() < 0.4:
            flatness = rng.uniform(0.4, 1)
            draw.ellipse((x - reach, y - reach * flatness, x + reach, y + reach * flatness), fill=rgb(_colour(rng)))
            continue
        turns = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 8))))
        corners = [(x + reach * math.cos(t), y + reach * math.sin(t)) for t in turns.tolist()]
        draw.polygon(corners, fill=rgb(_colour(rng)))
    return canvas


def photographic(rng: np.random.Generator, side: int) -> Image.Image:
    """Layers in and out of focus, each with its own texture and light, then grain."""
    base = picture(array(_ground(rng, side)) + (_tile(rng, "cloud", side) * rng.uniform(5, 30))[..., None])
    canvas = base.filter(ImageFilter.GaussianBlur(rng.uniform(0, 6)))
    for _ in range(int(rng.integers(2, 7))):
        mask = Image.new("L", (side, side))
        draw = ImageDraw.Draw(mask)
        x, y = rng.uniform(0, side, 2)
        count = int(rng.integers(5, 16))
        turns = np.linspace(0, 2 * math.pi, count, endpoint=False)
        reach = side * rng.uniform(0.06, 0.4) * rng.uniform(0.6, 1.3, count)
        draw.polygon(
            [(x + r * math.cos(t), y + r * math.sin(t)) for r, t in zip(reach, turns.tolist(), strict=True)], fill=255
        )
        mask = mask.filter(ImageFilter.GaussianBlur(float(rng.choice([0.6, 1.5, 5.0]))))
        texture = _tile(rng, ("cloud", "fine", "across", "fibre")[int(rng.integers(4))], side) * rng.uniform(3, 30)
        tint = array(gradient(side, side, _colour(rng), _colour(rng)))
        canvas.paste(picture(tint * rng.uniform(0.5, 1.0) + texture[..., None]), mask=mask)
    return picture(array(canvas) + (_tile(rng, "grain", side) * rng.uniform(0, 6))[..., None])


Maker = Callable[[np.random.Generator, int], Image.Image]

MAKERS: tuple[tuple[Maker, float], ...] = (
    (fractal, 0.1),
    (strokes, 0.14),
    (line_drawing, 0.16),
    (threads, 0.14),
    (speckles, 0.1),
    (pattern, 0.08),
    (blobs, 0.06),
    (polygons, 0.08),
    (photographic, 0.14),
)
"""Each way of making a picture, with its share."""


def texture(seed: int, size: int = 128) -> Image.Image:
    """One picture for the autoencoder: RGB, size x size, the same for the same seed."""
    rng = np.random.default_rng([seed, 20])
    shares = np.array([share for _, share in MAKERS])
    maker = MAKERS[int(rng.choice(len(MAKERS), p=shares))][0]
    return maker(rng, size * _OVERSAMPLING).reduce(_OVERSAMPLING)
