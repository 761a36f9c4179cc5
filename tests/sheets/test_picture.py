"""All cells as pictures with labels: of any size, in bounded memory, nothing refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from PIL import Image

from velatura.sheets import picture, plan
from velatura.sheets.axes import Axis
from velatura.sheets.folder import Placed
from velatura.sheets.plan import Sheet


def sheet_of(folder: Path, *sizes: int, side: int = 16) -> tuple[Sheet, list[Placed]]:
    """A sheet whose cells are of one colour each."""
    names = ("seed", "cfg", "steps", "clip_skip")
    axes = tuple(Axis(name, tuple(range(1, size + 1))) for name, size in zip(names, sizes, strict=False))
    (folder / "cells").mkdir()
    placed = []
    for number, cell in enumerate(plan.cells(axes)):
        placed.append(Placed(cell, f"{number:04d}"))
        Image.new("RGB", (side, side), colour(cell.place)).save(folder / placed[-1].file)
    return Sheet(axes, "a boat"), placed


def colour(place: tuple[int, ...]) -> tuple[int, int, int]:
    x, y, *rest = (*place, 0)
    return 10 + 10 * x, 10 + 10 * y, 100 + 10 * sum(rest)


def found(path: Path) -> set[tuple[int, int, int]]:
    with Image.open(path) as image:
        return {pixel for _, pixel in image.convert("RGB").getcolors(1 << 20)}


def test_every_cell_stands_in_its_column_and_row(tmp_path: Path) -> None:
    sheet, placed = sheet_of(tmp_path, 3, 2)
    assert picture.write_pictures(tmp_path, sheet, placed) == ["sheet.png"]
    with Image.open(tmp_path / "sheet.png") as image:
        where = {
            pixel: (x, y)
            for y, x in itertools.product(range(image.height), range(image.width))
            if (pixel := image.getpixel((x, y))) in {colour(one.cell.place) for one in placed}
        }
    assert len(where) == 6
    assert where[colour((0, 0))][0] < where[colour((1, 0))][0] < where[colour((2, 0))][0]
    assert where[colour((0, 0))][1] < where[colour((0, 1))][1]


def test_further_axes_make_a_picture_each_and_one_axis_makes_a_line(tmp_path: Path) -> None:
    sheet, placed = sheet_of(tmp_path, 2, 2, 3)
    assert picture.write_pictures(tmp_path, sheet, placed) == ["sheet-1.png", "sheet-2.png", "sheet-3.png"]
    assert {colour((1, 0, 2)), colour((0, 1, 2))} <= found(tmp_path / "sheet-3.png")
    (tmp_path / "line").mkdir()
    sheet, placed = sheet_of(tmp_path / "line", 4)
    assert picture.write_pictures(tmp_path / "line", sheet, placed) == ["sheet.png"]


def test_what_is_too_large_for_one_picture_is_there_as_a_whole_made_smaller_and_in_parts_at_full_size(
    tmp_path: Path,
) -> None:
    sheet, placed = sheet_of(tmp_path, 5, 3)
    names = picture.write_pictures(tmp_path, sheet, placed, limit=4 * 16 * 16)
    assert names == ["sheet.png", *(f"sheet-{y}-{x}.png" for y in (1, 2) for x in (1, 2, 3))]
    parts = [found(tmp_path / name) for name in names[1:]]
    for one in placed:
        assert sum(colour(one.cell.place) in part for part in parts) == 1
        assert colour(one.cell.place) in found(tmp_path / "sheet.png")


def test_pictures_of_a_sheet_that_was_larger_are_gone(tmp_path: Path) -> None:
    sheet, placed = sheet_of(tmp_path, 2, 2, 3)
    picture.write_pictures(tmp_path, sheet, placed)
    smaller = Sheet(sheet.axes[:2], "a boat")
    cut = [Placed(plan.Cell(one.cell.place[:2], one.cell.values[:2]), one.name) for one in placed[:4]]
    picture.write_pictures(tmp_path, smaller, cut)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["sheet.png"]


@pytest.mark.parametrize("side", [128])
def test_a_sheet_of_400_cells_takes_no_more_memory_at_a_time_than_its_limit(
    tmp_path: Path, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet, placed = sheet_of(tmp_path, 20, 20, side=side)
    drawn: list[int] = []
    real = picture.contact_sheet

    def contact_sheet(images: list[Image.Image], **told: object) -> Image.Image:
        made = real(images, **told)  # type: ignore[arg-type]
        drawn.append(made.width * made.height + sum(image.width * image.height for image in images))
        return made

    monkeypatch.setattr(picture, "contact_sheet", contact_sheet)
    limit = 500_000
    assert len(picture.write_pictures(tmp_path, sheet, placed, limit=limit)) == 1 + 16
    assert max(drawn) <= 3.5 * limit, "the cells, and the picture that they are laid out on, with its labels"
