"""Contact sheets."""

from __future__ import annotations

import pytest
from PIL import Image, ImageFont

from velatura.generation.contact import GAP, INK, PAPER, contact_sheet, label_size, wrapped

COLOURS = ["red", "green", "blue", "yellow", "purple"]


def tiles(count: int, size: tuple[int, int] = (64, 48)) -> list[Image.Image]:
    return [Image.new("RGB", size, COLOURS[index % len(COLOURS)]) for index in range(count)]


def colours_of(image: Image.Image) -> dict[tuple[int, ...], int]:
    found = image.getcolors(image.width * image.height) or []
    return {colour: count for count, colour in found if isinstance(colour, tuple)}


def test_pictures_lie_in_rows_and_columns() -> None:
    sheet = contact_sheet(tiles(5), columns=3)
    assert sheet.mode == "RGB"
    assert sheet.size == (3 * (64 + GAP) + GAP, 2 * (48 + GAP) + GAP)
    assert sheet.getpixel((GAP, GAP)) == (255, 0, 0)
    assert sheet.getpixel((GAP + 64 + GAP, GAP)) == (0, 128, 0)
    assert sheet.getpixel((GAP, GAP + 48 + GAP)) == (255, 255, 0)
    assert sheet.getpixel((sheet.width - GAP - 1, sheet.height - GAP - 1)) == PAPER


def test_every_pixel_of_every_picture_is_there_whatever_the_labels() -> None:
    sheet = contact_sheet(
        tiles(6), columns=3, row_labels=["0.0", "1.0"], column_labels=["a", "b", "c"], title="Strengths"
    )
    found = colours_of(sheet)
    assert found[(255, 0, 0)] == 2 * 64 * 48
    assert found[(0, 128, 0)] == found[(0, 0, 255)] == 64 * 48
    assert found[INK] > 0


def test_labels_stand_beside_what_they_name() -> None:
    plain = contact_sheet(tiles(4), columns=2)
    labelled = contact_sheet(tiles(4), columns=2, row_labels=["first", ""], column_labels=["", "right"])
    left, top = labelled.width - plain.width, labelled.height - plain.height
    assert left > 0
    assert top > 0
    row_label = labelled.crop((0, top, left, top + GAP + 48))
    assert INK in colours_of(row_label)
    assert INK not in colours_of(labelled.crop((0, top + GAP + 48, left, labelled.height)))
    assert INK in colours_of(labelled.crop((left + GAP + 64, 0, labelled.width, top + GAP)))
    assert INK not in colours_of(labelled.crop((left, 0, left + GAP + 64, top + GAP)))


def test_long_labels_never_run_out_of_the_sheet_or_over_a_picture() -> None:
    long = "a very long label that no cell of sixty-four pixels could ever hold in one line " * 3
    sheet = contact_sheet(tiles(4), columns=2, row_labels=[long, long], column_labels=[long, long], title=long)
    assert sum(count for colour, count in colours_of(sheet).items() if colour == (255, 0, 0)) == 64 * 48
    frame = Image.new("RGB", (sheet.width, GAP // 2), PAPER)
    assert sheet.crop((0, 0, sheet.width, GAP // 2)).tobytes() == frame.tobytes()
    edges = [sheet.crop((0, 0, 1, sheet.height)), sheet.crop((sheet.width - 1, 0, sheet.width, sheet.height))]
    assert all(set(colours_of(edge)) == {PAPER} for edge in edges)


def test_pictures_of_unequal_size_are_centred_and_transparency_shows_the_paper() -> None:
    small = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    sheet = contact_sheet([Image.new("L", (30, 30), 0), small, Image.new("RGB", (10, 20), "red")], columns=3)
    assert sheet.getpixel((GAP, GAP)) == (0, 0, 0)
    assert sheet.getpixel((GAP + 30 + GAP + 15, GAP + 15)) == PAPER
    assert sheet.getpixel((GAP + 2 * (30 + GAP) + 15, GAP + 15)) == (255, 0, 0)
    assert sheet.getpixel((GAP + 2 * (30 + GAP) + 15, GAP + 2)) == PAPER


def test_lines_fit_their_width_and_end_in_an_ellipsis_when_there_are_too_many() -> None:
    font = ImageFont.load_default(12)
    lines = wrapped("one two three four five six seven eight nine ten", font, 60).split("\n")
    assert len(lines) == 3
    assert lines[-1].endswith("...")
    assert all(font.getlength(line) <= 60 for line in lines)
    assert wrapped("short", font, 60) == "short"
    assert wrapped("", font, 60) == ""
    unbroken = wrapped("supercalifragilisticexpialidocious", font, 60)
    assert font.getlength(unbroken) <= 60


def test_type_grows_with_the_pictures() -> None:
    assert label_size(64) == 12
    assert label_size(512) > label_size(256) > label_size(64)


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(0, 1, None), (3, 0, None), (3, 2, ["only one"]), (3, 2, ["a", "b", "c"])]
)
def test_what_cannot_be_laid_out_is_refused(count: int, columns: int, rows: list[str] | None) -> None:
    with pytest.raises(ValueError, match=r"contact sheet needs|labels for 2 rows"):
        contact_sheet(tiles(count), columns=columns, row_labels=rows)
