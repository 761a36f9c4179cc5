"""Where a dataset folder keeps its pictures and captions, and what in it is passed over.

Read are pictures in the folder itself with captions beside them, or `images/` with captions beside
them or in `captions/`. Hidden files, and originals kept in `.originals`, are not looked at.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from velatura.dataset import captions, images
from velatura.errors import DatasetError

_OTHER_PICTURES = frozenset(
    {".psd", ".psb", ".xcf", ".kra", ".clip", ".svg", ".ai", ".eps", ".pdf", ".zip"}
    | {".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"}
    | {".jxl", ".exr", ".hdr", ".tga", ".ico"}
)
"""Endings that a person may take for pictures of the dataset, and that are not read."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with one file: `what` continues a sentence that begins with `name`.

    `left_out` tells whether a picture is missing from the dataset because of it.
    """

    name: str
    what: str
    left_out: bool = False

    def __str__(self) -> str:
        """The whole sentence."""
        return f"{self.name} {self.what}"


@dataclass
class Layout:
    """Picture files in natural order; caption files by the stem of their picture, the one to read first."""

    pictures: list[Path] = field(default_factory=list)
    captions: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    problems: list[Problem] = field(default_factory=list)


def find(folder: Path) -> Layout:
    """Sort what lies in a dataset folder, without opening any file.

    Raises:
        DatasetError: no such folder, no access, or a project in whose `dataset/` the pictures are.
    """
    top = _entries(folder)
    if _child(top, "recipe.toml") and (inner := _child(top, "dataset")):
        raise DatasetError("this is a project, not a dataset", where=folder, fix=f"its pictures are in {inner}")
    images_in, captions_in = _child(top, "images"), _child(top, "captions")
    if any(_is_picture(path) for path in top):
        images_in = None
    entries = _entries(images_in) if images_in else top
    layout = Layout()
    files = _files(entries, folder, layout)
    caption_files = files + (_files(_entries(captions_in), folder, layout) if captions_in else [])

    for path in files:
        if _is_picture(path):
            layout.pictures.append(path)
        elif path.suffix.lower() in _OTHER_PICTURES:
            what = f"is left out: {path.suffix.lower()} files are not read; export it as PNG"
            layout.problems.append(Problem(name_of(path), what, left_out=True))
    for suffix in captions.SUFFIXES:
        for path in caption_files:
            if path.suffix.lower() == suffix:
                layout.captions[stem_of(path)].append(path)
    for path in dict.fromkeys([*top, *entries]):
        if path not in (images_in, captions_in) and _holds_pictures(path):
            what = "is a folder of its own; the pictures in it are not read"
            layout.problems.append(Problem(f"{name_of(path)}/", what, left_out=True))
    _report_captions(layout)
    return layout


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """A sort key that puts 2 before 10 and does not mind the case of letters."""
    parts = re.findall(r"\d+|\D+", unicodedata.normalize("NFC", name).casefold())
    return [(0, int(part), "") if part[0].isdecimal() else (1, 0, part) for part in parts], name


def name_of(path: Path) -> str:
    """The file's name with composed letters (macOS hands out decomposed ones); U+FFFD for what is not text."""
    text = path.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return unicodedata.normalize("NFC", text)


def stem_of(path: Path) -> str:
    """What a picture and its caption file have in common."""
    return unicodedata.normalize("NFC", path.stem)


def _report_captions(layout: Layout) -> None:
    sharing: dict[str, list[str]] = defaultdict(list)
    for path in layout.pictures:
        sharing[stem_of(path)].append(name_of(path))
    for stem, paths in layout.captions.items():
        names = sharing.get(stem, [])
        if not names:
            layout.problems += [Problem(name_of(path), "is a caption without a picture") for path in paths]
            continue
        if len(names) > 1:
            what = f"share one caption, {name_of(paths[0])}; rename one picture"
            layout.problems.append(Problem(" and ".join(names), what))
        layout.problems += [
            Problem(name_of(path), f"is not read, because there is also {name_of(paths[0])}") for path in paths[1:]
        ]


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, hidden things aside, in natural order."""
    try:
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except FileNotFoundError:
        raise DatasetError("there is no such folder", where=folder, fix="check the path") from None
    except NotADirectoryError:
        raise DatasetError("this is a file, not a folder", where=folder, fix="give the folder it lies in") from None
    except OSError as error:
        what = f"the folder cannot be read ({error.strerror})"
        raise DatasetError(what, where=folder, fix="check its access rights") from None
    return sorted(inside, key=lambda path: natural_key(path.name))


def _files(entries: Iterable[Path], folder: Path, layout: Layout) -> list[Path]:
    """The regular files among them.

    A link may not lead out of the dataset: what it points to would be read, packed and sent along.
    """
    root = folder.resolve()
    files = []
    for path in entries:
        if path.is_file() and path.resolve().is_relative_to(root):
            files.append(path)
        elif path.is_file() and (_is_picture(path) or path.suffix.lower() in captions.SUFFIXES):
            what = "is left out: it is a link out of the folder; copy the file in"
            layout.problems.append(Problem(name_of(path), what, left_out=_is_picture(path)))
        elif path.is_symlink() and not path.exists():
            what = "is left out: it is a link that leads nowhere"
            layout.problems.append(Problem(name_of(path), what, left_out=_is_picture(path)))
    return files


def _holds_pictures(path: Path) -> bool:
    try:
        return path.is_dir() and any(_is_picture(inside) for inside in path.iterdir())
    except OSError:
        return False


def _child(entries: Iterable[Path], name: str) -> Path | None:
    return next((path for path in entries if path.name.lower() == name), None)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in images.SUFFIXES and not path.name.startswith(".") and not path.is_dir()
