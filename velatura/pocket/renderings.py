"""Everyday hands: the looks that the base model knows before anyone trains a style on it.

Each takes a scene and gives the same RGB picture every time. Together they make a broad prior;
none draws contours, strokes, paper or grids, which belong to the styles kept for training.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from velatura.pocket.painting import (
    OVERSAMPLING,
    Patch,
    Pixels,
    array,
    ball,
    gleam,
    noise,
    paint_flat,
    picture,
    rgb,
    sky,
    slope,
    vignette,
)
from velatura.pocket.palette import lighten, mix, shade
from velatura.pocket.scene import Colour, Scene, Shape

Rendering = Callable[..., Image.Image]
"""`render(scene, *, size=128)`."""


def _stream(scene: Scene, hand: int) -> np.random.Generator:
    """A random stream of one hand for one scene."""
    return np.random.default_rng([scene.seed, 10, hand])


def _shaded(shape: Shape, patch: Patch, light: Colour, dark: Colour) -> Image.Image:
    """The shape's box filled from light to dark as its shading says."""
    fill = Image.new("RGB", (patch.width, patch.height), rgb(light))
    falloff = ball() if shape.shading == "round" else slope()
    fill.paste(rgb(dark), mask=patch.crop(falloff))
    return fill


def _paint_shaded(
    canvas: Image.Image, shapes: list[Shape], *, light: float, dark: float, polished: bool = False
) -> None:
    """Fill polygons with light from above; `light` and `dark` are how far each end goes."""
    for shape in shapes:
        patch = Patch(shape, canvas.width)
        if not patch.visible:
            continue
        fill: Image.Image | tuple[int, int, int] = rgb(shape.colour)
        if shape.shading != "none":
            strength = 0.6 if shape.background else 1.0
            ends = lighten(shape.colour, light * strength), shade(shape.colour, dark * strength)
            fill = _shaded(shape, patch, *ends)
            if polished and not shape.background and min(patch.full_width, patch.full_height) > canvas.width / 12:
                fill.paste((255, 255, 255), mask=patch.crop(gleam()))
        if isinstance(fill, tuple):
            canvas.paste(fill, (*patch.corner, patch.left + patch.width, patch.top + patch.height), patch.mask())
        else:
            canvas.paste(fill, patch.corner, patch.mask())


def render_flat(scene: Scene, *, size: int = 128) -> Image.Image:
    """Plain areas of colour."""
    canvas = sky(scene, size * OVERSAMPLING)
    paint_flat(canvas, scene.shapes)
    return canvas.reduce(OVERSAMPLING)


def render_soft(scene: Scene, *, size: int = 128) -> Image.Image:
    """Every form gently shaded, light from above."""
    canvas = sky(scene, size * OVERSAMPLING)
    _paint_shaded(canvas, scene.shapes, light=0.14, dark=0.26)
    pixels = array(canvas.reduce(OVERSAMPLING))
    return picture(pixels * (0.95 + 0.07 * vignette(size))[..., None])


def _relief(shapes: list[Shape], side: int, roundness: float) -> Pixels:
    """Heights of a puffed-up scene, 0 to 1: every shape rises from its edge inwards."""
    heights = Image.new("L", (side, side))
    for shape in shapes:
        patch = Patch(shape, side)
        if not patch.visible:
            continue
        mask = patch.mask()
        if shape.background:
            heights.paste(0, (*patch.corner, patch.left + patch.width, patch.top + patch.height), mask)
            continue
        radius = max(1.0, min(patch.full_width, patch.full_height) * roundness)
        bulge = mask.filter(ImageFilter.BoxBlur(radius)).filter(ImageFilter.BoxBlur(radius * 0.6))
        heights.paste(bulge, patch.corner, mask)
    relief: Pixels = array(heights) / np.float32(255)
    return relief


def _lit(heights: Pixels, steepness: float) -> tuple[Pixels, Pixels]:
    """How much light falls on a relief from the upper left, and how much of it shines back; around 0."""
    down, across = (rise.astype(np.float32) for rise in np.gradient(heights * steepness))
    length: Pixels = np.sqrt(1 + down**2 + across**2)
    diffuse: Pixels = 0.55 * across + 0.65 * down
    facing = (0.55 * across + 0.65 * down + 0.9) / (length * 1.24)
    shine: Pixels = np.clip(facing, 0, 1) ** 24
    return diffuse / length, shine


def render_glossy(scene: Scene, *, size: int = 128) -> Image.Image:
    """Shiny rounded bodies, as if moulded from plastic."""
    side = size * OVERSAMPLING
    canvas = sky(scene, side)
    _paint_shaded(canvas, scene.shapes, light=0.12, dark=0.24, polished=True)
    heights = _relief(scene.shapes, side, 0.12)
    diffuse, shine = _lit(heights, side / 18)
    solid = (heights > 0.02).astype(np.float32)
    pixels = array(canvas)
    pixels = pixels * (1 + 0.42 * diffuse * solid)[..., None]
    edge = (np.clip(shine - 0.35, 0, 1) * solid * 0.9)[..., None]
    pixels = pixels + (255 - pixels) * np.clip(edge, 0, 0.7)
    return picture(pixels).reduce(OVERSAMPLING)


def render_clay(scene: Scene, *, size: int = 128) -> Image.Image:
    """Matt, soft-edged, slightly dented: modelling clay."""
    rng = _stream(scene, 1)
    side = size * OVERSAMPLING
    canvas = sky(scene, side)
    paint_flat(canvas, scene.shapes)
    heights = _relief(scene.shapes, side, 0.2)
    dents = noise("cloud", side, rng) * 0.05 + noise("fine", side, rng) * 0.006
    diffuse, _ = _lit(heights + dents, side / 14)
    pixels = array(canvas.filter(ImageFilter.GaussianBlur(1.2)))
    pixels = pixels * 0.9 + 12
    return picture(pixels * (1 + 0.36 * diffuse)[..., None]).reduce(OVERSAMPLING)


def _streaks(scene: Scene, side: int, rng: np.random.Generator) -> Pixels:
    """Brush marks: along the ground behind, in one of two directions on each shape."""
    across, upright = noise("across", side, rng), noise("upright", side, rng)
    direction = Image.new("L", (side, side))
    paint_flat_mask(direction, scene.shapes)
    chosen = np.asarray(direction) > 0
    return np.where(chosen, upright, across)


def paint_flat_mask(canvas: Image.Image, shapes: list[Shape]) -> None:
    """White where the topmost shape belongs to the subject and is taller than wide."""
    for shape in shapes:
        patch = Patch(shape, canvas.width)
        if patch.visible:
            value = 255 if not shape.background and patch.full_height > patch.full_width else 0
            canvas.paste(value, (*patch.corner, patch.left + patch.width, patch.top + patch.height), patch.mask())


def render_gouache(scene: Scene, *, size: int = 128) -> Image.Image:
    """Opaque paint: broad dry brush marks, edges a little uneven."""
    rng = _stream(scene, 2)
    side = size * OVERSAMPLING
    canvas = sky(scene, side)
    _paint_shaded(canvas, scene.shapes, light=0.1, dark=0.16)
    flat = np.asarray(canvas)
    sway_x, sway_y = noise("cloud", side, rng), noise("cloud", side, rng)
    rough = noise("fine", side, rng)
    y, x = np.mgrid[0:side, 0:side]
    moved_y = np.clip(y + sway_y * 1.8 + rough * 0.25, 0, side - 1).astype(np.intp)
    moved_x = np.clip(x + sway_x * 1.8 + rough * 0.25, 0, side - 1).astype(np.intp)
    pixels = flat[moved_y, moved_x].astype(np.float32)
    pixels += (_streaks(scene, side, rng) * 8)[..., None]
    return picture(pixels).reduce(OVERSAMPLING)


def render_felt(scene: Scene, *, size: int = 128) -> Image.Image:
    """Soft fibres with fuzzy edges: needle felt."""
    rng = _stream(scene, 3)
    side = size * OVERSAMPLING
    canvas = sky(scene, side)
    _paint_shaded(canvas, scene.shapes, light=0.08, dark=0.2)
    flat = np.asarray(canvas)
    y, x = np.mgrid[0:side, 0:side]
    moved_y = np.clip(y + noise("grain", side, rng) * 1.1, 0, side - 1).astype(np.intp)
    moved_x = np.clip(x + noise("grain", side, rng) * 1.1, 0, side - 1).astype(np.intp)
    pixels = flat[moved_y, moved_x].astype(np.float32)
    fibre = noise("fibre", side, rng)
    pixels = (pixels * 0.92 + 8) * (1 + 0.042 * fibre)[..., None] + (fibre * 2.5)[..., None]
    return picture(pixels).reduce(OVERSAMPLING)


def render_photo(scene: Scene, *, size: int = 128) -> Image.Image:
    """As a camera might: background out of focus, rounded light, grain, dark corners."""
    rng = _stream(scene, 4)
    side = size * OVERSAMPLING
    canvas = sky(scene, side)
    back = [shape for shape in scene.shapes if shape.background]
    front = [shape for shape in scene.shapes if not shape.background]
    _paint_shaded(canvas, back, light=0.12, dark=0.24)
    canvas = canvas.filter(ImageFilter.BoxBlur(3.2)).filter(ImageFilter.BoxBlur(2.4))
    grit = noise("fine", side, rng) * 3.0
    canvas = picture(array(canvas) + grit[..., None])
    _paint_shaded(canvas, front, light=0.14, dark=0.32)
    heights = _relief(scene.shapes, side, 0.16)
    diffuse, _ = _lit(heights, side / 16)
    pixels = array(picture(array(canvas) * (1 + 0.22 * diffuse)[..., None]).reduce(OVERSAMPLING))
    cast = np.asarray(mix((255, 255, 255), (255, 232, 200) if rng.random() < 0.6 else (212, 228, 255), 0.5)) / 255
    pixels = pixels * cast.astype(np.float32) * np.float32(rng.uniform(0.98, 1.1))
    pixels = pixels * (0.74 + 0.3 * vignette(size))[..., None] + (noise("grain", size, rng) * 3.0)[..., None]
    return picture(pixels)


EVERYDAY: dict[str, Rendering] = {
    "flat": render_flat,
    "soft": render_soft,
    "glossy": render_glossy,
    "clay": render_clay,
    "gouache": render_gouache,
    "felt": render_felt,
    "photo": render_photo,
}

_WORDS: dict[str, tuple[str, ...]] = {
    "flat": ("flat colours", "flat colors", "flat"),
    "soft": ("soft shading", "soft"),
    "glossy": ("glossy 3d", "glossy"),
    "clay": ("clay", "modelling clay"),
    "gouache": ("gouache", "gouache painting"),
    "felt": ("felt", "made of felt"),
    "photo": ("photo", "photograph"),
}


def rendering_words(name: str, rng: np.random.Generator) -> str:
    """What a caption may add to name a rendering.

    Raises:
        KeyError: no everyday rendering is called that.
    """
    words = _WORDS[name]
    return words[int(rng.integers(len(words)))] if rng.random() < 0.4 else words[0]
