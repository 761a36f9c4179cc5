"""What the command line prints: sentences and tables for people, JSON for machines, errors in one line."""

from __future__ import annotations

import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from velatura.errors import VelaturaError

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that would command the terminal; file names and captions may hold any."""


class Interrupted(Exception):
    """The user pressed Ctrl-C; the sentence says how to go on."""


def say(text: str = "") -> None:
    """A line of the answer, on stdout."""
    _print(text, sys.stdout)


def tell(text: str) -> None:
    """A line beside the answer, on stderr."""
    _print(text, sys.stderr)


def emit(value: object) -> None:
    """One JSON object on a line of stdout."""
    print(json.dumps(value, sort_keys=True), flush=True)


def report(error: VelaturaError, *, as_json: bool) -> None:
    """An error: a sentence on stderr, and for machines its parts on stdout."""
    tell(f"error: {printable(str(error)).replace(chr(10), ' ')}")
    if as_json:
        parts = {"kind": type(error).__name__, "what": error.what, "where": error.where, "fix": error.fix}
        emit({"error": parts})


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows in columns, as wide as they need; letters of East Asia count twice."""
    texts = [list(heads), *([printable(str(cell)).replace("\n", " ") for cell in row] for row in rows)]
    widths = [max(width(row[column]) for row in texts) for column in range(len(heads))]
    lines = (
        "  ".join(cell + " " * (wide - width(cell)) for cell, wide in zip(row, widths, strict=True)) for row in texts
    )
    return "\n".join(line.rstrip() for line in lines)


def columns() -> int:
    """Columns of the terminal; a pipe has a hundred."""
    return shutil.get_terminal_size((100, 24)).columns


def width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )


def printable(text: str) -> str:
    """The text without characters that would command the terminal."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def value(told: object) -> str:
    """A value as a person reads it in one line, cut where it is long."""
    text = json.dumps(told, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def shown(path: Path) -> str:
    """A path as a person reads it: from here where that is shorter, else from the user's folder."""
    path = Path(path)
    for start, sign in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_absolute() and path.is_relative_to(start):
            return sign + path.relative_to(start).as_posix()
    return str(path)


def _print(text: str, stream: IO[str]) -> None:
    print(printable(text), file=stream, flush=True)
