"""What equals other programs, within what, and what differs on purpose: the rows of `docs/parity.md`.

One module per table: `TITLE`, `INTRO` (Markdown above the table) and `ROWS`. Tests take their tolerances from the
rows, so the page cannot promise more than they hold; `python docs/write_parity.py` writes it.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Row:
    """One thing, and how it stands to another program."""

    name: str
    """What it is, as a user would call it."""
    peer: str
    """Whose it is compared with, and which version of theirs."""
    within: float | None
    """The largest difference that its test allows; 0: none at all; None: it is not compared, `note` says why."""
    test: str = ""
    """The test that holds it, as path::name below `tests/`."""
    note: str = ""
    """What differs on purpose, or where it ends."""


def tables() -> list[ModuleType]:
    """Every module of rows, by name."""
    found = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    return sorted(found, key=lambda module: module.__name__)


def within(rows: tuple[Row, ...], name: str, peer: str = "") -> float:
    """The tolerance that the page promises.

    Raises:
        KeyError: there is no such row.
    """
    for row in rows:
        if row.name == name and peer in row.peer and row.within is not None:
            return row.within
    raise KeyError(f"{name}, {peer}")
