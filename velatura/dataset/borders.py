"""Bars of one colour at a picture's edges, as films and screenshots have them: found, and cut away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from velatura.dataset import images, pool
from velatura.dataset.framing import Box, Target
from velatura.dataset.layout import Entry
from velatura.dataset.reframing import Options, pick_named, reframe_each
from velatura.dataset.scan import chosen
from velatura.errors import DatasetError
from velatura.events import Event

SPREAD = 6.0
"""Standard deviation in greys up to which a line is of one colour; JPEG makes bars a little uneven."""
LEAST = 0.015
"""Share of the picture's side from which a bar is one, and no outline."""
MOST = 0.45
"""Share above which a picture that is plain itself would be taken for a bar."""
SAME = 10.0
"""Greys by which lines of one bar may differ."""
EDGE = 0.6
"""Share of the first line inside that has another colour than the bar."""


def find(greys: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """Pixels of bars at the left, top, right and bottom of a picture, 0 where there are none.

    Args:
        greys: lightness 0 to 255, shape (height, width).
    """
    top, bottom = _bars(greys)
    left, right = _bars(greys[top : len(greys) - bottom].T)
    return left, top, right, bottom


def _bars(greys: NDArray[np.float32]) -> tuple[int, int]:
    """Rows of one colour at the beginning and at the end: both, of the same colour, or none.

    A single one is more often a floor, a wall or a sky.
    """
    means, spreads = greys.mean(1), greys.std(1)
    rows, found = len(means), list[int]()
    for order in (slice(None), slice(None, None, -1)):
        lines, colour = greys[order], float(means[order][0])
        plain = (spreads[order] < SPREAD) & (np.abs(means[order] - colour) < SAME)
        count = rows if plain.all() else int(plain.argmin())
        # A bar ends all along its edge; a thing before a plain wall or sky does so in its own width alone.
        edge = lines[min(count + 1, rows - 1)]
        ends = float((np.abs(edge - colour) > SAME).mean()) >= EDGE
        found.append(count if ends and LEAST * rows <= count <= MOST * rows else 0)
    if not all(found) or abs(float(means[0] - means[-1])) > SAME:
        return 0, 0
    return found[0], found[1]


def crops(dataset: Path, *, names: Sequence[str] = (), workers: int | None = 1) -> Iterator[Event]:
    """Cut the bars away from every chosen picture, or those named; others stay as they are.

    Yields:
        Progress, Notes and Done, as `reframing.reframe`.
    """
    entries = pick_named(chosen(dataset), names, dataset)
    boxes = pool.over(box_inside, entries, count=len(entries), workers=workers)
    options = {
        entry.name: Options(Target(box=box)) for entry, box in zip(entries, boxes, strict=True) if box is not None
    }
    yield from reframe_each(dataset, options, told="cut away borders", workers=workers)


def box_inside(entry: Entry) -> Box | None:
    """The part of a picture inside its bars; None where it has none, or cannot be read."""
    try:
        image = images.open_image(entry.path).convert("L")
    except DatasetError:
        return None
    left, top, right, bottom = find(np.asarray(image, dtype=np.float32))
    if not (left or top or right or bottom):
        return None
    return left, top, image.width - right, image.height - bottom
