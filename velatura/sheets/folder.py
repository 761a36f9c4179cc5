"""The folder of a sheet: what it is, its cells, and what a person says of them.

sheet.toml      what the sheet is; `velatura compare FOLDER` goes on with it
cells.json      where each cell stands, which file it is, and by what it is known to be there already
cells/          the pictures, each with its own record; named after what they are made of, so that a cell is found
                again however the axes change
sheet.png ...   all of them, labelled; sheet.html, to look through
notes.json      favourites and notes, by cell; the page reads them, and gives them back to be put here
lock            kept by whoever works on the sheet
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velatura import locks
from velatura.errors import FileProblem, RunError
from velatura.files import disk_problems, write_text
from velatura.sheets.axes import Axis, shown
from velatura.sheets.plan import Cell
from velatura.version import __version__

CELLS, INDEX, NOTES, SHEET, PAGE = "cells", "cells.json", "notes.json", "sheet.toml", "sheet.html"

PASSING = frozenset(
    {
        *("adapters", "batch", "cpu", "in_turn", "pixels", "swapped_blocks", "threads", "together", "torch"),
        *("vae_tiling", "velatura"),
    }
)
"""What a record says of the machine and the hour, and not of the picture."""


@dataclass(frozen=True)
class Placed:
    """A cell, and the file that it is."""

    cell: Cell
    name: str
    """Of its file, without its ending."""

    @property
    def file(self) -> str:
        """In the folder, with "/"."""
        return f"{CELLS}/{self.name}.png"


def named(record: Mapping[str, Any]) -> str:
    """The name of a cell: a digest of all that decides its picture and its record."""
    told = {key: value for key, value in record.items() if key not in PASSING}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:20]


def lock(folder: Path) -> AbstractContextManager[None]:
    """Keep others from a sheet while it is worked on; RunError where another process does."""
    busy = RunError("another process is painting this sheet", where=folder, fix="wait until it has ended, or stop it")
    return locks.hold(folder / "lock", busy=busy)


def write_index(
    folder: Path,
    axes: Sequence[Axis],
    placed: Sequence[Placed],
    *,
    known: Sequence[str | None] | None = None,
    laid_out: Sequence[str] = (),
) -> None:
    """Say which file each cell is.

    Args:
        folder: of the sheet.
        axes: its axes.
        placed: its cells.
        known: a digest of what each cell was asked for; none where that cannot be told.
        laid_out: the pictures and the page that show just these cells; none while they are not there.

    Raises:
        FileProblem: the disk is full, or the folder may not be written.
    """
    told = {
        "axes": [{"name": axis.name, "values": [shown(value) for value in axis.values]} for axis in axes],
        "cells": [
            {"place": list(one.cell.place), "file": one.file, "asked": asked}
            for one, asked in zip(placed, known or [None] * len(placed), strict=True)
        ],
        "laid_out": {"of": _of(folder, axes, placed), "files": list(laid_out)} if laid_out else None,
    }
    write_text(folder / INDEX, json.dumps(told, ensure_ascii=False, indent=1) + "\n")


def read_index(folder: Path) -> dict[str, str]:
    """The cells that are there: digest of what was asked for -> name of its file, without its ending."""
    found = {}
    for cell in _index(folder).get("cells", []):
        name = Path(str(cell.get("file"))).stem if isinstance(cell, dict) else ""
        if name and cell.get("asked") and (folder / CELLS / f"{name}.png").is_file():
            found[str(cell["asked"])] = name
    return found


def laid_out(folder: Path, axes: Sequence[Axis], placed: Sequence[Placed]) -> list[str]:
    """The pictures and the page of a sheet, where they show just these cells and notes already; else none."""
    told = _index(folder).get("laid_out")
    if not isinstance(told, dict) or told.get("of") != _of(folder, axes, placed):
        return []
    files = [str(name) for name in told.get("files", [])]
    return files if all((folder / name).is_file() for name in files) else []


def _index(folder: Path) -> dict[str, Any]:
    """What stands in the index; nothing where there is none, or it is damaged: then cells are found by their names."""
    try:
        told = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _of(folder: Path, axes: Sequence[Axis], placed: Sequence[Placed]) -> str:
    """A digest of what pictures and page are made from."""
    parts = [__version__, str(axes), *(f"{one.cell.place} {one.name}" for one in placed)]
    for name in (SHEET, NOTES):
        path = folder / name
        with disk_problems(path):
            parts.append(path.read_text(encoding="utf-8") if path.exists() else "")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def read_notes(folder: Path) -> dict[str, Any]:
    """Favourites and notes that a person has put beside the sheet; none where there are none.

    Raises:
        FileProblem: the file is damaged.
    """
    path = folder / NOTES
    if not path.exists():
        return {"favourites": [], "notes": {}}
    with disk_problems(path):
        text = path.read_text(encoding="utf-8")
    try:
        told = json.loads(text)
        favourites = sorted({str(name) for name in told["favourites"]})
        return {"favourites": favourites, "notes": {str(key): str(note) for key, note in told["notes"].items()}}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileProblem("the notes are damaged", where=path, fix="mend the file, or move it away") from error
