"""The page of parity says what the tests hold."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests import parity

ROOT = Path(__file__).parents[1]
ROWS = [row for module in parity.tables() for row in module.ROWS]


def test_the_page_is_what_the_rows_say() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "write_parity.py"))["page"]()

    assert (ROOT / "docs" / "parity.md").read_text(encoding="utf-8") == written, (
        "out of date: run `python docs/write_parity.py`"
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name} = {row.peer}")
def test_every_figure_of_the_page_has_a_test_that_holds_it(row: parity.Row) -> None:
    if row.within is None:
        assert row.note, "a row without a figure says why"
        return
    path, _, name = row.test.partition("::")

    assert f"def {name}(" in (ROOT / "tests" / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name} = {row.peer}")
def test_no_cell_breaks_the_table(row: parity.Row) -> None:
    assert not any(mark in row.name + row.peer + row.note for mark in "|\n")
