from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from velatura import brief, project, recipe
from velatura.brief import Brief
from velatura.errors import DatasetError, FileProblem
from velatura.recipe import Recipe


def paint(path: Path, colour: int = 0, caption: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def make(folder: Path, images: Path | None = None) -> project.Created:
    return project.create(folder, recipe=Recipe(name="ink"), brief=Brief(name="ink"), images=images)


def test_a_project_holds_brief_recipe_and_dataset(tmp_path: Path) -> None:
    created = make(tmp_path / "deep" / "ink")

    assert created == project.Created(tmp_path / "deep" / "ink", 0, ())
    assert sorted(path.name for path in created.folder.iterdir()) == ["brief.toml", "dataset", "recipe.toml"]
    assert recipe.load(created.folder) == Recipe(name="ink")
    assert brief.load(created.folder) == Brief(name="ink")
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["ink"]


def test_pictures_and_captions_are_copied_and_the_originals_stay(tmp_path: Path) -> None:
    paint(tmp_path / "pictures" / "a.png", 1, "a boat")
    paint(tmp_path / "pictures" / "b.JPG", 2)
    before = contents(tmp_path / "pictures")

    created = make(tmp_path / "ink", tmp_path / "pictures")

    assert created.pictures == 2
    assert contents(tmp_path / "pictures") == before
    copied = contents(tmp_path / "ink" / "dataset")
    assert copied.pop("authors.json")  # that the captions were there before
    assert copied == {name.lower(): digest for name, digest in before.items()}


def test_captions_in_a_folder_of_their_own_come_to_lie_beside_the_pictures(tmp_path: Path) -> None:
    paint(tmp_path / "set" / "images" / "a.png")
    (tmp_path / "set" / "captions").mkdir()
    (tmp_path / "set" / "captions" / "a.txt").write_text("a boat")

    make(tmp_path / "ink", tmp_path / "set")

    assert (tmp_path / "ink" / "dataset" / "a.txt").read_text() == "a boat"


def test_pictures_that_cannot_be_read_are_reported_and_left_where_they_are(tmp_path: Path) -> None:
    paint(tmp_path / "pictures" / "a.png")
    (tmp_path / "pictures" / "b.png").write_text("no picture")

    created = make(tmp_path / "ink", tmp_path / "pictures")

    assert created.pictures == 1 and "b.png is left out" in str(created.problems[0])
    assert not (tmp_path / "ink" / "dataset" / "b.png").exists()


@pytest.mark.skipif(os.name == "nt", reason="such names cannot be made there")
def test_names_that_another_system_forbids_are_made_legal_and_unlike(tmp_path: Path) -> None:
    names = ["what?.png", "what*.png", "A.png", "a.png", "a.jpg", "con.png", " .png"]
    for place, name in enumerate(names):
        paint(tmp_path / "pictures" / name, place * 30, caption=f"of {name}" if not name.startswith("a") else "small a")

    make(tmp_path / "ink", tmp_path / "pictures")

    copied = sorted(
        path.name for path in (tmp_path / "ink" / "dataset").iterdir() if path.suffix not in (".txt", ".json")
    )
    assert len(copied) == len(names) == len({Path(name).stem.casefold() for name in copied})
    assert not any(set(name) & set('<>:"/\\|?*') for name in copied) and "con.png" not in copied
    for name in copied:
        assert (tmp_path / "ink" / "dataset" / name).with_suffix(".txt").exists()


def test_an_empty_folder_becomes_the_project(tmp_path: Path) -> None:
    (tmp_path / "ink").mkdir()

    make(tmp_path / "ink")

    assert (tmp_path / "ink" / "recipe.toml").exists()


@pytest.mark.parametrize("there", ["project", "folder", "file"])
def test_what_is_there_is_never_overwritten(tmp_path: Path, there: str) -> None:
    if there == "project":
        make(tmp_path / "ink")
    elif there == "folder":
        paint(tmp_path / "ink" / "holiday.png")
    else:
        (tmp_path / "ink").write_text("a letter")
    before = contents(tmp_path)

    with pytest.raises(FileProblem, match="here already"):
        make(tmp_path / "ink")

    assert contents(tmp_path) == before


@pytest.mark.parametrize("images", ["empty", "missing", "broken"])
def test_without_a_picture_nothing_is_made(tmp_path: Path, images: str) -> None:
    folder = tmp_path / "pictures"
    if images != "missing":
        folder.mkdir()
    if images == "broken":
        (folder / "a.png").write_text("no picture")

    with pytest.raises(DatasetError):
        make(tmp_path / "ink", folder)

    assert not (tmp_path / "ink").exists()


def test_a_full_disk_leaves_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(tmp_path / "pictures" / "a.png")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(shutil, "copyfileobj", full)

    with pytest.raises(FileProblem, match="the disk is full"):
        make(tmp_path / "ink", tmp_path / "pictures")

    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_added_pictures_replace_none_that_is_there(tmp_path: Path) -> None:
    paint(tmp_path / "dataset" / "a.png", 1, "old")
    paint(tmp_path / "more" / "a.jpg", 2, "new")
    paint(tmp_path / "more" / "b.png", 3)

    assert project.add_pictures(tmp_path / "more", tmp_path / "dataset") == 2

    dataset = tmp_path / "dataset"
    there = sorted(name for name in contents(dataset) if not name.startswith(".originals/"))
    assert there == ["a-2.jpg", "a-2.txt", "a.png", "a.txt", "authors.json", "b.png"]
    assert (dataset / "a.txt").read_text() == "old" and (dataset / "a-2.txt").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "more"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("my style", "my style"),
        ("größe", "größe"),
        ("gro\u0308ße", "größe"),
        ("a/b\\c:d", "a-b-c-d"),
        ("CON", "CON_"),
        ("nul.tar", "nul_.tar"),
        ("console", "console"),
        (" a. ", "a"),
        ("..", ""),
        ("", ""),
        ("a\nb\x00", "a-b-"),
    ],
)
def test_a_legal_name_is_the_nearest_that_every_system_takes(text: str, name: str) -> None:
    assert project.legal_name(text) == name


@pytest.mark.parametrize("letter", ["x", "é", "墨", "\N{ARTIST PALETTE}"])
def test_a_long_name_is_cut_to_what_a_file_system_takes(letter: str) -> None:
    name = project.legal_name(letter * 300)

    assert set(name) == {letter}
    assert 76 <= len(name.encode()) <= 80


def test_the_project_is_found_from_anything_inside_it(tmp_path: Path) -> None:
    make(tmp_path / "ink")

    assert project.containing(tmp_path / "ink") == tmp_path / "ink"
    assert project.containing(tmp_path / "ink" / "dataset" / "a.png") == tmp_path / "ink"
    assert project.containing(tmp_path) is None
