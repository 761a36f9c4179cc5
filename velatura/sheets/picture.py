"""All cells of a sheet as pictures with labels, of any size in bounded memory.

Across stands the first axis, down the second; what else there is makes a picture each. Where such a picture would be
larger than `LIMIT` it is written once as a whole, its cells made smaller, and in parts at full size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from velatura.files import disk_problems, writing
from velatura.generation.contact import contact_sheet
from velatura.sheets.axes import Axis, shown
from velatura.sheets.folder import Placed
from velatura.sheets.plan import Sheet

LIMIT = 40_000_000
"""Pixels of one picture: 120 MB while it is drawn, and what any viewer opens."""


@dataclass(frozen=True)
class Layer:
    """A picture's worth of cells: rows of files, and what stands beside them."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    files: tuple[tuple[Path, ...], ...]


def write_pictures(folder: Path, sheet: Sheet, placed: Sequence[Placed], *, limit: int = LIMIT) -> list[str]:
    """Write the sheet's pictures; the names of their files.

    Raises:
        FileProblem: the disk is full, or a cell is gone.
    """
    names = []
    for old in folder.glob("sheet*.png"):
        with disk_problems(old):
            old.unlink()
    for layer in layers(folder, sheet, placed):
        width, height = _largest(layer)
        across, down = len(layer.columns), len(layer.rows)
        pixels = across * down * width * height
        scale = min(1.0, math.sqrt(limit / pixels))
        names.append(_write(folder / f"{layer.name}.png", layer, scale))
        if scale < 1:
            side = max(1, math.isqrt(limit // (width * height)))
            spans = [(x, y) for y in range(0, down, side) for x in range(0, across, side)]
            names += [
                _write(folder / f"{layer.name}-{y // side + 1}-{x // side + 1}.png", _part(layer, x, y, side), 1.0)
                for x, y in spans
            ]
    return names


def layers(folder: Path, sheet: Sheet, placed: Sequence[Placed]) -> Iterator[Layer]:
    """What stands on each picture; of a sheet with one axis all of it on one line."""
    axes = sheet.axes
    at = {one.cell.place: folder / one.file for one in placed}
    first, second, rest = axes[0], axes[1] if len(axes) > 1 else None, axes[2:]
    several = bool(rest)
    for number, place in enumerate(itertools.product(*(range(len(axis.values)) for axis in rest)), 1):
        told = [axis.label(axis.values[where]) for axis, where in zip(rest, place, strict=True)]
        rows = range(len(second.values)) if second else [None]
        yield Layer(
            f"sheet-{number}" if several else "sheet",
            ", ".join(told) if several else _title(sheet),
            _labels(first),
            _labels(second) if second else ("",),
            tuple(tuple(at[(x, *(() if y is None else (y,)), *place)] for x in range(len(first.values))) for y in rows),
        )


def _labels(axis: Axis) -> tuple[str, ...]:
    return tuple(axis.label(value) for value in axis.values)


def _title(sheet: Sheet) -> str:
    told = [sheet.prompt, *(f"{name} {shown(value)}" for name, value in sheet.settings.items())]
    return ", ".join(part for part in told if part)


def _part(layer: Layer, x: int, y: int, side: int) -> Layer:
    files = tuple(row[x : x + side] for row in layer.files[y : y + side])
    return Layer(layer.name, layer.title, layer.columns[x : x + side], layer.rows[y : y + side], files)


def _largest(layer: Layer) -> tuple[int, int]:
    sizes = []
    for path in itertools.chain.from_iterable(layer.files):
        with disk_problems(path), Image.open(path) as image:
            sizes.append(image.size)
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def _write(path: Path, layer: Layer, scale: float) -> str:
    images = [_opened(file, scale) for row in layer.files for file in row]
    rows = layer.rows if any(layer.rows) else None
    drawn = contact_sheet(
        images, columns=len(layer.columns), row_labels=rows, column_labels=layer.columns, title=layer.title or None
    )
    with writing(path) as file:
        drawn.save(file, "PNG", compress_level=3)
    return path.name


def _opened(path: Path, scale: float) -> Image.Image:
    with disk_problems(path), Image.open(path) as image:
        whole = image.convert("RGB")
    if scale == 1:
        return whole
    size = max(1, int(whole.width * scale)), max(1, int(whole.height * scale))
    return whole.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
