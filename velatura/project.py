"""A project: the folder with a brief, a recipe, the pictures, the runs and what was painted.

    my-style/
      brief.toml  recipe.toml  dataset/     made here
      runs/  loras/  images/                made by training and painting

It is made beside its place and renamed, so it is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from velatura import recipe as recipes
from velatura import schema
from velatura.brief import FILE as BRIEF
from velatura.brief import Brief
from velatura.dataset import layout
from velatura.dataset.layout import Problem
from velatura.dataset.scan import Dataset, scan
from velatura.errors import FileProblem
from velatura.files import disk_problems, make_folder, write_text
from velatura.recipe import Recipe

RECIPE = "recipe.toml"
DATASET = "dataset"

LONGEST_NAME = 80
"""Bytes in UTF-8; with a number and an ending the name still fits every file system."""

_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?=\.|$)", re.IGNORECASE)
"""Names that Windows keeps for itself, with any ending."""


@dataclass(frozen=True)
class Created:
    """A new project, and what was met on the way to it."""

    folder: Path
    pictures: int
    problems: tuple[Problem, ...]
    """Of the pictures copied; those that cannot be read were left where they are."""


def create(folder: Path, *, recipe: Recipe, brief: Brief, images: Path | None = None) -> Created:
    """Make a project; the pictures and captions are copied in, and the originals stay as they are.

    Raises:
        FileProblem: something is there already, or the disk refuses.
        DatasetError: there is no picture to copy.
    """
    folder = folder.absolute()
    _refuse_to_overwrite(folder)
    found = scan(images) if images is not None else None
    make_folder(folder.parent)
    with _beside(folder) as beside:
        make_folder(beside / DATASET)
        if found is not None:
            _copy(found, beside / DATASET)
        write_text(beside / BRIEF, schema.to_toml(brief, comments=True))
        write_text(beside / RECIPE, recipes.to_toml(recipe, comments=True))
        with disk_problems(folder):
            if folder.exists():
                folder.rmdir()
            beside.rename(folder)
    if found is None:
        return Created(folder, 0, ())
    return Created(folder, len(found.pictures), found.problems)


def add_pictures(images: Path, dataset: Path) -> int:
    """Copy the readable pictures of a folder, and their captions, into a dataset; how many there were.

    Nothing in the dataset is replaced: a picture whose name is taken gets a number behind it.

    Raises:
        FileProblem: the disk refuses; the dataset is then as it was.
        DatasetError: there is no picture to copy.
    """
    found = scan(images)
    make_folder(dataset)
    with _beside(dataset) as beside, disk_problems(dataset):
        beside.mkdir()
        _copy(found, beside, taken={layout.stem_of(path).casefold() for path in dataset.iterdir()})
        for path in sorted(beside.iterdir()):
            path.rename(dataset / path.name)
    return len(found.pictures)


def containing(place: Path) -> Path | None:
    """The project that a file or folder lies in, or None."""
    place = place.absolute()
    return next((folder for folder in (place, *place.parents) if (folder / RECIPE).is_file()), None)


def legal_name(text: str) -> str:
    """The nearest name that a file may have on Windows, macOS and Linux alike.

    Returns:
        The name, shortened where it is long; empty where nothing is left of it.
    """
    name = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode("utf-8"))
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]+', "-", name).strip()
    name = name.encode()[:LONGEST_NAME].decode(errors="ignore").strip(" .")
    return _DEVICES.sub(r"\1_", name, count=1) if _DEVICES.match(name) else name


def _refuse_to_overwrite(folder: Path) -> None:
    with disk_problems(folder):
        if folder.is_dir() and not any(folder.iterdir()):
            return
        if folder.exists() or folder.is_symlink():
            what = (
                "there is a project here already" if (folder / RECIPE).exists() else "there is something here already"
            )
            raise FileProblem(what, where=folder, fix="take another name")


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A place to prepare what is to be at the folder; gone afterwards, with whatever is still in it."""
    beside = folder.with_name(f".{os.getpid()}-new.part")
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _copy(found: Dataset, into: Path, *, taken: Iterable[str] = ()) -> None:
    """Pictures with their captions, under names that are legal and unlike on every system."""
    captions = layout.find(found.folder).captions
    names = set(taken)
    for picture in found.pictures:
        stem = layout.stem_of(picture.path)
        free = _free(legal_name(stem) or "picture", names)
        names.add(free.casefold())
        _copy_file(picture.path, into / f"{free}{picture.path.suffix.lower()}")
        for caption in captions.get(stem, [])[:1]:
            _copy_file(caption, into / f"{free}{caption.suffix.lower()}")


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where another differs in the case of letters at most."""
    free, number = name, 1
    while free.casefold() in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _copy_file(source: Path, target: Path) -> None:
    with disk_problems(source), source.open("rb") as readable, disk_problems(target), target.open("xb") as writable:
        shutil.copyfileobj(readable, writable)
