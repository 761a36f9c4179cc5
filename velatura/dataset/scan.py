"""What a dataset folder holds: its readable pictures with their captions, and everything that is wrong.

One bad file is a problem to report, never the end, and never silently trained as something else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from velatura.dataset import captions, images, layout
from velatura.dataset.layout import Problem as Problem
from velatura.errors import DatasetError


@dataclass(frozen=True)
class Picture:
    """One readable picture; its size is the upright one.

    `captions` is None where there is no caption file, and ("",) where there is an empty one.
    """

    name: str
    path: Path
    sha256: str
    width: int
    height: int
    captions: tuple[str, ...] | None


@dataclass(frozen=True)
class Dataset:
    """The readable pictures in natural order of their names, and the problems met."""

    folder: Path
    pictures: tuple[Picture, ...]
    problems: tuple[Problem, ...]


def scan(folder: Path, *, deep: bool = True, max_pixels: int = images.MAX_PIXELS) -> Dataset:
    """Read a folder of pictures; `velatura.dataset.layout` says where it may keep them.

    Args:
        folder: the dataset.
        deep: decode every picture, which finds files that are cut off; else only headers are read.
        max_pixels: larger pictures are left out.

    Raises:
        DatasetError: the folder is missing, closed to us, or holds no readable picture.
    """
    folder = Path(folder)
    found = layout.find(folder)
    problems = list(found.problems)
    pictures: dict[str, Picture] = {}
    for path in found.pictures:
        name = layout.name_of(path)
        try:
            if name in pictures:
                raise DatasetError("its name is there twice, in two Unicode spellings", fix="rename it")
            picture, note = _read(path, found.captions.get(layout.stem_of(path)), deep=deep, max_pixels=max_pixels)
        except DatasetError as error:
            problems.append(Problem(name, f"is left out: {_sentence(error)}", left_out=True))
        else:
            pictures[name] = picture
            problems += [] if note is None else [note]
    if not pictures:
        raise _nothing(folder, problems)
    problems += _same_files(pictures.values())
    return Dataset(folder, tuple(pictures.values()), tuple(problems))


def _read(
    path: Path, caption_files: list[Path] | None, *, deep: bool, max_pixels: int
) -> tuple[Picture, Problem | None]:
    """One picture with its captions, and a remark on the caption file where there is one to make.

    A picture whose caption cannot be read is an error: trained without it, it would teach something else.
    """
    name = layout.name_of(path)
    if "\N{REPLACEMENT CHARACTER}" in name:
        raise DatasetError("its name is not valid text", fix="rename it")
    width, height = images.picture_size(path, max_pixels=max_pixels)
    if deep:
        images.open_image(path, max_pixels=max_pixels, at_least=64)
    sha256 = _sha256(path)
    if not caption_files:
        return Picture(name, path, sha256, width, height, None), None
    caption_name = layout.name_of(caption_files[0])
    try:
        told = captions.read_captions(caption_files[0])
    except DatasetError as error:
        raise DatasetError(f"{caption_name}: {error.what}", fix=error.fix) from None
    note = None if told.note is None else Problem(caption_name, told.note)
    return Picture(name, path, sha256, width, height, told.captions), note


def _sha256(path: Path) -> str:
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


def _nothing(folder: Path, problems: Iterable[Problem]) -> DatasetError:
    """No readable picture: why, from the problems met."""
    lost = [problem for problem in problems if problem.left_out]
    if not lost:
        return DatasetError("the folder holds no pictures", where=folder, fix="put PNG, JPEG or WebP files into it")
    told = "; ".join(str(problem) for problem in lost[:3]) + ("; ..." if len(lost) > 3 else "")
    return DatasetError(f"the folder holds no picture that can be read: {told}", where=folder)


def _sentence(error: DatasetError) -> str:
    return error.what if error.fix is None else f"{error.what}; {error.fix}"
