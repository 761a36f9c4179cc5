"""What a dataset folder holds: its readable pictures with their captions, and everything that is wrong.

One bad file is a problem to report, never the end, and never silently trained as something else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from velatura.dataset import captions, choice, images, layout, masks
from velatura.dataset.journal import unfinished
from velatura.dataset.layout import Entry
from velatura.dataset.layout import Problem as Problem
from velatura.errors import DatasetError


@dataclass(frozen=True)
class Picture:
    """One readable picture; its size is the upright one.

    `captions` is None where there is no caption, and ("",) where there is an empty file.
    """

    name: str
    path: Path
    sha256: str
    width: int
    height: int
    captions: tuple[str, ...] | None
    mask: Path | None = None
    """How much each part counts, black to white."""
    mask_sha256: str | None = None
    repeats: int = 1
    """How often an epoch holds it."""


@dataclass(frozen=True)
class Dataset:
    """The readable pictures that are chosen, in natural order of their names, and the problems met."""

    folder: Path
    pictures: tuple[Picture, ...]
    problems: tuple[Problem, ...]
    left_aside: tuple[str, ...] = ()
    """Pictures that were decided against."""


def scan(
    folder: Path, *, deep: bool = True, max_pixels: int = images.MAX_PIXELS, whole: Collection[str] = ()
) -> Dataset:
    """Read a folder of pictures; `velatura.dataset.layout` says where it may keep them.

    Args:
        folder: the dataset.
        deep: decode every picture, which finds files that are cut off; else only headers are read.
        max_pixels: larger pictures are left out.
        whole: hashes of files that have been decoded before, which need not be again.

    Raises:
        DatasetError: the folder is missing, closed to us, or holds no readable picture.
    """
    folder = Path(folder)
    found = layout.find(folder)
    chosen, aside = judged(folder, found.entries)
    looked = (look(entry, deep=deep, max_pixels=max_pixels, whole=whole) for entry in chosen)
    return assemble(folder, found, looked, left_aside=aside)


def judged(folder: Path, entries: Iterable[Entry]) -> tuple[list[Entry], tuple[str, ...]]:
    """The pictures that are part of the set, and the names of those that were decided against."""
    made = choice.load(folder)
    chosen, aside = [], []
    for entry in entries:
        if made.chosen(entry.name):
            chosen.append(entry)
        else:
            aside.append(entry.name)
    return chosen, tuple(aside)


def chosen(folder: Path) -> list[Entry]:
    """The pictures that are part of the set, unread.

    Raises:
        DatasetError: there are none.
    """
    found = layout.find(folder)
    entries, aside = judged(folder, found.entries)
    if not entries:
        raise nothing(folder, found.problems, aside)
    return entries


@dataclass(frozen=True)
class Looked:
    """What one file turned out to be: a picture, or a problem that leaves it out; and remarks."""

    picture: Picture | None
    problems: tuple[Problem, ...] = ()


def look(
    entry: Entry, *, deep: bool = True, max_pixels: int = images.MAX_PIXELS, whole: Collection[str] = ()
) -> Looked:
    """Read one picture with its captions and its mask. Whatever is wrong with it is a problem, never an error."""
    try:
        if "\N{REPLACEMENT CHARACTER}" in entry.name:
            raise DatasetError("its name is not valid text", fix="rename it")
        return _read(entry, deep=deep, max_pixels=max_pixels, whole=whole)
    except DatasetError as error:
        return Looked(None, (Problem(entry.name, f"is left out: {_sentence(error)}", left_out=True),))


def assemble(
    folder: Path, found: layout.Layout, looked: Iterable[Looked], *, left_aside: tuple[str, ...] = ()
) -> Dataset:
    """A dataset from what was found in its folder and what each file turned out to be.

    Raises:
        DatasetError: there is no readable picture.
    """
    problems = list(found.problems)
    if (edit := unfinished(folder)) is not None:
        what = f"was interrupted in an edit, {edit.told}; run it again, or `velatura dataset undo`"
        problems.append(Problem("the dataset", what))
    pictures: dict[str, Picture] = {}
    for one in looked:
        problems += one.problems
        if one.picture is None:
            continue
        if one.picture.name in pictures:
            what = "is left out: its name is there twice, in two Unicode spellings; rename it"
            problems.append(Problem(one.picture.name, what, left_out=True))
        else:
            pictures[one.picture.name] = one.picture
    if not pictures:
        raise nothing(folder, problems, left_aside)
    problems += _same_files(pictures.values())
    return Dataset(folder, tuple(pictures.values()), tuple(problems), left_aside)


def _read(entry: Entry, *, deep: bool, max_pixels: int, whole: Collection[str]) -> Looked:
    """One picture with its captions, and remarks on the files beside it.

    A picture whose caption or mask cannot be read is an error: trained without, it would teach something else.
    """
    path = entry.path
    width, height = images.picture_size(path, max_pixels=max_pixels)
    sha256 = sha256_of(path)
    if deep and sha256 not in whole:
        images.open_image(path, max_pixels=max_pixels, at_least=64)
    notes = []
    told = entry.told
    if entry.caption_files:
        caption_name = layout.name_of(entry.caption_files[0])
        try:
            read = captions.read_captions(entry.caption_files[0])
        except DatasetError as error:
            raise DatasetError(f"{caption_name}: {error.what}", fix=error.fix) from None
        told = read.captions
        notes += [] if read.note is None else [Problem(caption_name, read.note)]
    mask_sha256 = None
    if entry.mask is not None:
        try:
            masks.read(entry.mask, (width, height))
        except DatasetError as error:
            raise DatasetError(f"its mask {layout.name_of(entry.mask)}: {error.what}", fix=error.fix) from None
        mask_sha256 = sha256_of(entry.mask)
    picture = Picture(entry.name, path, sha256, width, height, told, entry.mask, mask_sha256, entry.repeats)
    return Looked(picture, tuple(notes))


def sha256_of(path: Path) -> str:
    """Hash of a picture or mask, hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"the file cannot be read ({error.strerror})", fix="try again") from None


def _same_files(pictures: Iterable[Picture]) -> list[Problem]:
    first: dict[str, str] = {}
    return [
        Problem(picture.name, f"is the same file as {first[picture.sha256]}")
        for picture in pictures
        if first.setdefault(picture.sha256, picture.name) != picture.name
    ]


def nothing(folder: Path, problems: Iterable[Problem], left_aside: tuple[str, ...] = ()) -> DatasetError:
    """That there is no readable picture: why, from the problems met."""
    if left_aside:
        what = f"none of the pictures is chosen: {len(left_aside)} are set aside"
        return DatasetError(what, where=folder, fix="take some back with `velatura dataset undecide`")
    lost = [problem for problem in problems if problem.left_out]
    if not lost:
        return DatasetError("the folder holds no pictures", where=folder, fix="put PNG, JPEG or WebP files into it")
    told = "; ".join(str(problem) for problem in lost[:3]) + ("; ..." if len(lost) > 3 else "")
    return DatasetError(f"the folder holds no picture that can be read: {told}", where=folder)


def _sentence(error: DatasetError) -> str:
    return error.what if error.fix is None else f"{error.what}; {error.fix}"
