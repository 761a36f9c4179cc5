"""What can be measured of one picture by itself: how sharp, how noisy, how damaged, what it looks like.

Everything is measured at the size that training sees at most, `SIDE` pixels on the longer side, and never on
an enlarged picture. Sharpness is that of the sharpest part: what lies out of focus on purpose is no fault.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from velatura.dataset import borders
from velatura.dataset.duplicates import hashes

SIDE = 1024
TILE = 32
"""Pixels of a tile; sharpness, noise and detail are measured tile by tile."""

_FEW_DETAIL = 1.2
"""Greys of middle detail below which a tile says nothing of sharpness."""

_GRAIN = 4.0
"""Greys by which neighbours differ through noise and rounding alone."""

_STROKES = ((24, 0.45), (14, 0.6))
"""Greys by which strokes of writing stand out from what is beside them, plainly or faintly, and the share of the line
that has to be of the ground it stands on: of a drawn thing's edge less is."""

_SAME_GROUND = 14
"""Greys by which the ground may differ from what is above and below the line."""

Grey = NDArray[np.float32]


@dataclass(frozen=True)
class Measures:
    """Numbers of one picture; None is not measured."""

    sharpness: float | None
    """Fine detail against that twice as coarse, in the sharpest tenth of what has any: 0.45 and more is
    sharp, 0.2 is soft, 0.1 was enlarged twice or more."""
    direction: float | None
    """The same along the blurred direction as a share of that across it; below 0.5 it was moved."""
    noise: float
    """Standard deviation of the noise in the smoothest parts, in greys of 255."""
    blocks: float | None
    """How much stronger steps are at the edges of 8 x 8 blocks than elsewhere, less one; 0.3 can be seen."""
    borders: tuple[float, float, float, float]
    """Bars at the left, top, right and bottom, as shares of the side."""
    brightness: float
    contrast: float
    """Mean and standard deviation of lightness, 0 to 1."""
    saturation: float
    """Mean distance from grey, 0 to 1."""
    detail: float
    """Share of the picture that has detail, 0 to 1."""
    text: tuple[float, float, float, float] | None
    """Where there seems to be a line of writing: left, top, right, bottom as shares of the sides."""
    hash: int
    mirrored: int
    """The picture's perceptual hash, and that of its mirror image."""
    palette: tuple[float, ...]
    """Shares of 6 x 6 hues and saturations, then of 6 lightnesses; each group sums to 1."""
    texture: tuple[float, ...]
    """Logarithms of detail at four scales, its directions, and how unevenly it is spread."""
    layout: tuple[float, ...]
    """Lightness on a grid of 6 x 6, mean 0 and deviation 1: the composition."""


def measure(image: Image.Image, *, native: bool) -> Measures:
    """Measure a picture.

    Args:
        image: upright, RGB; decoded smaller, it is still no shorter than `SIDE` on its longer side.
        native: whether these are the file's own pixels, in which blocks of JPEG can still be seen.
    """
    blocks = blockiness(_middle(image)) if native else None
    small = image if max(image.size) <= SIDE else ImageOps.contain(image, (SIDE, SIDE), Image.Resampling.LANCZOS)
    grey = np.asarray(small.convert("L"), dtype=np.float32)
    left, top, right, bottom = borders.find(grey)
    height, width = grey.shape
    inside = grey[top : height - bottom, left : width - right]
    shown = Image.fromarray(inside.astype(np.uint8))
    upright, mirrored = hashes(shown)
    fine, middle = detail_levels(Image.fromarray(inside))
    sharp, direction = sharpness(inside, fine, middle)
    hues = np.asarray(small.resize((64, 64), Image.Resampling.BOX).convert("HSV"), dtype=np.float32) / np.float32(255)
    return Measures(
        sharpness=sharp,
        direction=direction,
        noise=noise(inside),
        blocks=blocks,
        borders=(left / width, top / height, right / width, bottom / height),
        brightness=float(inside.mean() / 255),
        contrast=float(inside.std() / 255),
        saturation=float((hues[..., 1] * hues[..., 2]).mean()),
        detail=float((_tiled(np.abs(middle), _tile_of(middle.shape)) > _FEW_DETAIL).mean()),
        text=writing(small),
        hash=upright,
        mirrored=mirrored,
        palette=_palette(hues),
        texture=_texture(inside, fine, middle),
        layout=_layout(small),
    )


def detail_levels(image: Image.Image) -> tuple[Grey, Grey]:
    """What of a grey picture (mode L or F) is lost when it is halved, and what more when it is halved again."""
    grey = image.convert("F")
    half = _resized(grey, 2)
    quarter = _resized(half, 2)
    whole, halves = np.asarray(grey, dtype=np.float32), np.asarray(half, dtype=np.float32)
    fine = whole - np.asarray(half.resize(grey.size, Image.Resampling.BICUBIC), dtype=np.float32)
    middle = halves - np.asarray(quarter.resize(half.size, Image.Resampling.BICUBIC), dtype=np.float32)
    return fine, middle


def sharpness(grey: Grey, fine: Grey, middle: Grey) -> tuple[float | None, float | None]:
    """Sharpness of the sharpest tenth of the tiles that have detail, and how it depends on direction.

    Args:
        grey: the picture, shape (H, W).
        fine: from `detail_levels`, of the same shape.
        middle: the same, of half the size.
    """
    tile = _tile_of(grey.shape) // 2 * 2
    if not tile:
        return None, None
    strong, weak = np.sqrt(_tiled(middle**2, tile // 2)), np.sqrt(_tiled(fine**2, tile))
    rows, columns = min(strong.shape[0], weak.shape[0]), min(strong.shape[1], weak.shape[1])
    strong, weak = strong[:rows, :columns], weak[:rows, :columns]
    telling = strong > max(2 * _FEW_DETAIL, float(np.quantile(strong, 0.6)) if strong.size > 20 else 0)
    if telling.sum() < 3:
        return None, None
    values = np.sort((weak / np.maximum(strong, 1e-3))[telling])
    sharpest = float(values[-max(1, len(values) // 10) :].mean())

    def along(steps: Grey, where: NDArray[np.bool_]) -> float:
        """Steps between neighbours against steps three times as far, where there is detail."""
        middle = 2 * steps[:, 3:-3]
        near = _tiled(np.maximum(np.abs(middle - steps[:, 2:-4] - steps[:, 4:-2]) - _GRAIN, 0), tile)
        far = _tiled(np.maximum(np.abs(middle - steps[:, :-6] - steps[:, 6:]) - _GRAIN, 0), tile)
        shown = where[: near.shape[0], : near.shape[1]]
        return float(near[shown].sum() / max(float(far[shown].sum()), 1e-3))

    inside = grey[: rows * tile, : columns * tile]
    one, other = sorted((along(inside, telling), along(np.ascontiguousarray(inside.T), telling.T)))
    return sharpest, one / max(other, 1e-3)


def noise(grey: Grey) -> float:
    """Standard deviation of noise in greys, from the smoothest tiles that are not clipped.

    Source: Immerkær 1996, "Fast Noise Variance Estimation".
    """
    if min(grey.shape) < 2 * TILE:
        return 0.0
    second = grey[:, :-2] - 2 * grey[:, 1:-1] + grey[:, 2:]
    both = np.abs(second[:-2] - 2 * second[1:-1] + second[2:])
    levels, means = _tiled(both, TILE), _tiled(grey[1:-1, 1:-1], TILE)
    usable = levels[(means > 12) & (means < 243)]
    if usable.size < 4:
        return 0.0
    return float(math.sqrt(math.pi / 2) / 6 * np.quantile(usable, 0.1))


def blockiness(grey: Grey) -> float | None:
    """How much stronger steps between every eighth row and column are than the others, less one."""
    if min(grey.shape) < 64:
        return None
    found = []
    for axis in (0, 1):
        lines = np.abs(np.diff(grey, axis=axis)).mean(1 - axis)
        lines = lines[: len(lines) // 8 * 8].reshape(-1, 8)
        phases = np.median(lines, 0)
        best = int(phases.argmax())
        others = np.delete(phases, best)
        if np.median(others) < 0.05:
            return None
        # noise makes phases differ a little; blocks make one differ from all the others
        found.append(float((phases[best] - others.max()) / np.median(others)) + 0.0)
    return max(0.0, min(found))


def writing(image: Image.Image) -> tuple[float, float, float, float] | None:
    """Where a line of writing seems to stand: strokes close together, in a low wide strip with calm around it.

    A guess, to be looked at: it knows no letters.
    """
    scale = 512 / max(image.size)
    if min(image.size) * scale < 96 or max(image.size) < 400:
        return None
    small = image.convert("L").resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.float32)
    found = (_line_of_writing(grey, stroke, ground) for stroke, ground in _STROKES)
    return next((box for box in found if box is not None), None)


def _line_of_writing(grey: Grey, stroke: int, ground: float) -> tuple[float, float, float, float] | None:
    rows, columns = grey.shape[0] // 8, grey.shape[1] // 8
    across = np.abs(np.diff(grey, axis=1, append=grey[:, -1:])) > stroke
    down = np.abs(np.diff(grey, axis=0, append=grey[-1:])) > stroke
    dense = [edges[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8).mean((1, 3)) for edges in (across, down)]
    strokes = (dense[0] > 0.08) & (dense[1] > 0.04)
    busy = (dense[0] > 0.04) | (dense[1] > 0.04)
    best: tuple[int, int, int, int] | None = None
    for row in range(rows):
        for start, end in _runs(strokes[row]):
            for high in (1, 2, 3):
                if row + high > rows or end - start < 4 * high or not 4 <= end - start <= columns * 0.7:
                    continue
                inside = strokes[row : row + high, start:end].mean()
                top, bottom = max(0, row - 2), min(rows, row + high + 2)
                left, right = max(0, start - 3), min(columns, end + 3)
                # the line next to the strip may hold what reaches out of it: a g, a T
                ring = np.ones((bottom - top, right - left), bool)
                ring[max(0, row - 1 - top) : row + high + 1 - top, max(0, start - 1 - left) : end + 1 - left] = False
                if not ring.any():
                    continue
                calm = 1 - busy[top:bottom, left:right][ring].mean()
                longer = best is None or end - start > best[2] - best[0]
                if inside > 0.8 and calm > 0.85 and longer and _ground(grey, start, row, end, row + high) >= ground:
                    best = start, row, end, row + high
    if best is None:
        return None
    left, top, right, bottom = best
    return left / columns, top / rows, right / columns, bottom / rows


def _ground(grey: Grey, left: int, top: int, right: int, bottom: int) -> float:
    """How much of a strip, in cells of 8 pixels, has the colour of what is above and below it."""
    strip = grey[8 * top : 8 * bottom, 8 * left : 8 * right]
    around = np.concatenate([grey[max(0, 8 * top - 12) : 8 * top - 4], grey[8 * bottom + 4 : 8 * bottom + 12]])
    if not len(around):
        return 0.0
    # the ground may change along the strip, as a sky does
    ground = [np.median(around[:, max(0, x - 16) : x + 24]) for x in range(8 * left, 8 * right, 8)]
    return float((np.abs(strip - np.repeat(ground, 8)) < _SAME_GROUND).mean())


def _runs(line: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Stretches of a line that are set, small gaps aside."""
    filled = line.copy()
    filled[1:-1] |= line[:-2] & line[2:]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], filled.astype(np.int8), [0]])))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _palette(hues: Grey) -> tuple[float, ...]:
    hue, saturation, value = hues[..., 0].ravel(), hues[..., 1].ravel(), hues[..., 2].ravel()
    strong = (saturation * np.minimum(1, value * 2)).clip(0, 0.999)
    colours = np.histogram2d(hue, strong, bins=(6, 6), range=((0, 1), (0, 1)))[0].ravel()
    lightness = np.histogram(value, bins=6, range=(0, 1))[0]
    return _rounded(np.concatenate([colours / colours.sum(), lightness / lightness.sum()]))


def _texture(grey: Grey, fine: Grey, middle: Grey) -> tuple[float, ...]:
    """Detail at four scales, its directions, its unevenness."""
    levels = [np.abs(fine), np.abs(middle)]
    quarter = _resized(Image.fromarray(grey), 4)
    levels += [np.abs(level) for level in detail_levels(quarter)]
    strengths = [math.log(float(level.mean()) + 0.05) for level in levels]
    coarse = np.asarray(quarter, dtype=np.float32)
    if min(coarse.shape) < 2:
        return _rounded(np.array([*strengths, *([1 / 6] * 6), 0.0]))
    y, x = np.gradient(coarse)
    angles = np.histogram(np.arctan2(y, x) % np.pi, bins=6, range=(0, np.pi), weights=np.hypot(x, y))[0]
    tiles = _tiled(levels[1], _tile_of(levels[1].shape))
    spread = float(tiles.std() / max(float(tiles.mean()), 0.05))
    return _rounded(np.array([*strengths, *(angles / max(float(angles.sum()), 1e-6)), spread]))


def _layout(image: Image.Image) -> tuple[float, ...]:
    small = np.asarray(image.convert("L").resize((6, 6), Image.Resampling.BOX), dtype=np.float32).ravel()
    return _rounded((small - small.mean()) / max(float(small.std()), 4.0))


def _rounded(values: NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)


def _middle(image: Image.Image) -> Grey:
    """The middle of a picture at its own size, from a multiple of 8 pixels on."""
    left, top = (max(0, side - SIDE) // 2 // 8 * 8 for side in image.size)
    part = image.crop((left, top, min(image.width, left + SIDE), min(image.height, top + SIDE)))
    return np.asarray(part.convert("L"), dtype=np.float32)


def _resized(image: Image.Image, times: int) -> Image.Image:
    """That many times smaller; Lanczos, which leaves nothing in the result of what is finer than its pixels."""
    size = max(1, image.width // times), max(1, image.height // times)
    return image.convert("F").resize(size, Image.Resampling.LANCZOS)


def _tile_of(shape: tuple[int, ...]) -> int:
    """A tile's side: `TILE`, or less in a small picture; 0 in one without any."""
    return min(TILE, min(shape) // 4)


def _tiled(values: Grey, tile: int) -> Grey:
    """Means of tiles; what is left at the right and below is not counted."""
    rows, columns = (values.shape[0] // tile, values.shape[1] // tile) if tile else (0, 0)
    if not rows or not columns:
        return np.asarray(values.mean(keepdims=True), dtype=np.float32)
    parts = values[: rows * tile, : columns * tile].reshape(rows, tile, columns, tile)
    return np.asarray(parts.mean((1, 3)), dtype=np.float32)
