"""The page of a sheet: all in one file, nothing asked of a network, and what a person said of the cells in it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velatura.errors import FileProblem
from velatura.generation.carriers import to_bytes
from velatura.sheets import folder as folders
from velatura.sheets import page, plan
from velatura.sheets.axes import Axis
from velatura.sheets.folder import Placed
from velatura.sheets.plan import Sheet

AXES = (Axis("seed", (1, 2)), Axis("prompt.replace", ("boat", "</script><b>"), "boat"))


@pytest.fixture
def placed(tmp_path: Path) -> list[Placed]:
    """Four cells, two of which are the same picture."""
    (tmp_path / "cells").mkdir()
    found = []
    for number, cell in enumerate(plan.cells(AXES)):
        found.append(Placed(cell, f"cell{min(number, 2)}"))
        pixels = np.random.default_rng(min(number, 2)).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        (tmp_path / found[-1].file).write_bytes(
            to_bytes(Image.fromarray(pixels), "a boat\nSteps: 3, Seed: 1", {"a": 1})
        )
    return found


def read(folder: Path) -> tuple[str, dict[str, object], list[bytes]]:
    text = (folder / "sheet.html").read_text(encoding="utf-8")
    told, pictures = (
        json.loads(found) for found in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S)
    )
    return text, told, [base64.b64decode(link.partition(",")[2]) for link in pictures]


def test_the_page_holds_every_picture_once_as_it_is_and_each_cells_own_words(
    tmp_path: Path, placed: list[Placed]
) -> None:
    assert page.write_page(tmp_path, Sheet(AXES, "a boat"), placed) == []
    _, told, pictures = read(tmp_path)
    assert len(pictures) == 3
    cells = told["cells"]
    assert isinstance(cells, list)
    assert [cell["picture"] for cell in cells] == [0, 1, 2, 2]
    assert cells[0]["text"].startswith("a boat\nSteps: 3")
    for one, cell in zip(placed, cells, strict=True):
        with Image.open(tmp_path / one.file) as first, Image.open(io.BytesIO(pictures[cell["picture"]])) as second:
            assert np.array_equal(np.asarray(first), np.asarray(second.convert("RGB")))
            assert not second.text  # type: ignore[attr-defined]


def test_nothing_is_asked_of_a_network_and_only_its_own_script_may_run(tmp_path: Path, placed: list[Placed]) -> None:
    page.write_page(tmp_path, Sheet(AXES, "<script>alert(1)</script>"), placed)
    text, told, _ = read(tmp_path)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy and "default-src 'none'" in policy
    assert len(scripts) == 1 and "http" not in scripts[0]
    assert told["prompt"] == "<script>alert(1)</script>"
    assert "<b>" not in re.findall(r'id="sheet">(.*?)</script>', text, re.S)[0]


def test_a_page_that_no_mail_takes_shows_smaller_pictures_and_says_so(tmp_path: Path, placed: list[Placed]) -> None:
    (note,) = page.write_page(tmp_path, Sheet(AXES), placed, room=2000)
    assert re.fullmatch(r"the page shows the pictures \d+ of 32 pixels wide at most, to go through a mail", note)
    _, told, pictures = read(tmp_path)
    assert told["smaller"] is not None and sum(map(len, pictures)) < 6000


def test_what_a_person_put_beside_the_sheet_is_in_the_page(tmp_path: Path, placed: list[Placed]) -> None:
    said = {"favourites": ["cell1"], "notes": {"cell0": "too red </script>"}}
    (tmp_path / folders.NOTES).write_text(json.dumps(said), encoding="utf-8")
    page.write_page(tmp_path, Sheet(AXES), placed)
    assert read(tmp_path)[1]["said"] == said


@pytest.mark.parametrize("text", ["", "[]", '{"favourites": 3, "notes": {}}', '{"notes": {}}'])
def test_damaged_notes_are_an_error_and_not_lost(tmp_path: Path, text: str) -> None:
    (tmp_path / folders.NOTES).write_text(text, encoding="utf-8")
    with pytest.raises(FileProblem, match="the notes are damaged"):
        folders.read_notes(tmp_path)
    assert (tmp_path / folders.NOTES).read_text(encoding="utf-8") == text
