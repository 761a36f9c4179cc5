"""The folder of a sheet: what it is, its cells, and what a person says of them.

sheet.toml      what the sheet is; `velatura compare FOLDER` goes on with it
cells.json      where each cell stands, and which file it is
cells/          the pictures, each with its own record; named after what they are made of, so that a cell is found
                again however the axes change
sheet.png ...   all of them, labelled; sheet.html, to look through
notes.json      favourites and notes, by cell; the page reads them, and gives them back to be put here
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velatura.errors import FileProblem
from velatura.files import disk_problems, write_text
from velatura.sheets.axes import Axis, shown
from velatura.sheets.plan import Cell

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


def write_index(folder: Path, axes: Sequence[Axis], placed: Sequence[Placed]) -> None:
    """Say which file each cell is.

    Raises:
        FileProblem: the disk is full, or the folder may not be written.
    """
    told = {
        "axes": [{"name": axis.name, "values": [shown(value) for value in axis.values]} for axis in axes],
        "cells": [{"place": list(one.cell.place), "file": one.file} for one in placed],
    }
    write_text(folder / INDEX, json.dumps(told, ensure_ascii=False, indent=1) + "\n")


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
