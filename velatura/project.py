"""A project: the folder with a brief, a recipe, the pictures, the runs and what was painted.

    my-style/
      brief.toml  recipe.toml  dataset/     made here
      runs/  loras/  images/                made by training and painting

It is made beside its place and renamed, so it is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from velatura import recipe as recipes
from velatura import schema
from velatura.brief import FILE as BRIEF
from velatura.brief import Brief
from velatura.dataset.adding import Added, add
from velatura.dataset.journal import forget
from velatura.dataset.layout import Problem
from velatura.dataset.names import LONGEST_NAME as LONGEST_NAME
from velatura.dataset.names import legal_name as legal_name
from velatura.dataset.scan import scan
from velatura.errors import FileProblem
from velatura.files import disk_problems, make_folder, write_text
from velatura.recipe import Recipe

RECIPE = "recipe.toml"
DATASET = "dataset"


@dataclass(frozen=True)
class Created:
    """A new project, and what was met on the way to it."""

    folder: Path
    pictures: int
    problems: tuple[Problem, ...]
    """Of the pictures copied; those that cannot be read were left where they are."""


def create(
    folder: Path, *, recipe: Recipe, brief: Brief, images: Path | None = None, about: Sequence[str] = ()
) -> Created:
    """Make a project; the pictures and captions are copied in, and the originals stay as they are.

    Args:
        about: paragraphs that stand above the recipe as comments.

    Raises:
        FileProblem: something is there already, or the disk refuses.
        DatasetError: there is no picture to copy.
    """
    folder = folder.absolute()
    _refuse_to_overwrite(folder)
    if images is not None:
        scan(images, deep=False)  # a mistaken folder is refused before anything is made
    added = Added((), ())
    make_folder(folder.parent)
    with _beside(folder) as beside:
        make_folder(beside / DATASET)
        if images is not None:
            added = add([images], beside / DATASET)
            forget(beside / DATASET)  # a new project has nothing to undo
        write_text(beside / BRIEF, schema.to_toml(brief, comments=True))
        write_text(beside / RECIPE, _comments(about) + recipes.to_toml(recipe, comments=True))
        with disk_problems(folder):
            if folder.exists():
                folder.rmdir()
            beside.rename(folder)
    return Created(folder, len(added.names), added.problems)


def _comments(paragraphs: Sequence[str]) -> str:
    lines = "\n\n".join(textwrap.fill(paragraph, 100) for paragraph in paragraphs).splitlines()
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + "\n" * bool(lines)


def add_pictures(images: Path, dataset: Path) -> int:
    """Copy the readable pictures of a folder, and their captions, into a dataset; how many there were.

    Nothing in the dataset is replaced: a picture whose name is taken gets a number behind it.

    Raises:
        FileProblem: the disk refuses; the dataset is then as it was.
        DatasetError: there is no picture to copy.
    """
    return len(add([images], dataset).names)


def containing(place: Path) -> Path | None:
    """The project that a file or folder lies in, or None."""
    place = place.absolute()
    return next((folder for folder in (place, *place.parents) if (folder / RECIPE).is_file()), None)


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
