"""Zips: taken apart without trusting a word in them, and put together as Civitai takes them.

A zip may name files outside of its folder, hold links, claim to be small and be endless, or be cut off.
Only pictures, captions and lists of captions are taken out, under names that every system takes.
"""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from velatura.dataset import captions, images, rights
from velatura.dataset.layout import Problem
from velatura.dataset.metadata import NAMES as LISTS
from velatura.dataset.names import free_name, legal_name
from velatura.errors import DatasetError
from velatura.files import disk_problems, make_folder

MAX_FILES = 200_000
MAX_FILE = 2 << 30
"""Bytes of one file, unpacked."""
MAX_TOTAL = 200 << 30
MAX_RATIO = 200
"""Pictures and captions do not shrink to less than a two-hundredth; bombs do, to a thousandth."""
FREE_RATIO_BYTES = 10 << 20
"""Smaller files may: a picture of one colour does."""

_BLOCK = 1 << 20
_MADE = (1980, 1, 1, 0, 0, 0)
"""The date of every file in a zip of ours: when it was packed is nobody's business."""
_WANTED = images.SUFFIXES | set(captions.SUFFIXES) | {".json"}


def unpack(path: Path, into: Path) -> list[Problem]:
    """Take the pictures, captions and lists of captions out of a zip.

    Args:
        path: the zip.
        into: an empty folder; the zip's own folders are kept inside it.

    Returns:
        What was passed over, and why.

    Raises:
        DatasetError: not a zip, damaged, encrypted, or larger than a dataset can be; what is in `into`
            is then worth nothing.
        FileProblem: the disk refuses.
    """
    problems: list[Problem] = []
    given = _Given()
    total = 0
    try:
        with disk_problems(path), zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_FILES:
                raise DatasetError(f"the zip holds {len(entries)} files, more than a dataset can", where=path)
            for entry in entries:
                if entry.is_dir() or not _wanted(entry.filename):
                    continue
                if why := _refused(entry):
                    problems.append(Problem(PurePosixPath(entry.filename).name, why, left_out=True))
                    continue
                target = _place(entry.filename, into, given)
                total += _copy(archive, entry, target, left=MAX_TOTAL - total, zip_path=path)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError) as error:
        raise DatasetError(f"the zip is damaged ({error})", where=path, fix="download or pack it again") from None
    return problems


def wrapped_folder(folder: Path) -> Path:
    """The folder inside folders that hold nothing else, as zips of a folder have it."""
    while True:
        inside = list(folder.iterdir())
        if len(inside) != 1 or not inside[0].is_dir() or inside[0].name in ("images", "train", "img", "image"):
            return folder
        if inside[0].name.partition("_")[0].isdecimal():
            return folder
        folder = inside[0]


def pack(path: Path, files: Iterable[tuple[str, Path | bytes]]) -> None:
    """Write a zip of files under the given names. Equal files give an equal zip.

    Raises:
        FileProblem: the disk refuses; there is then no zip.
    """
    with disk_problems(path), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in files:
            entry = zipfile.ZipInfo(name, date_time=_MADE)
            entry.external_attr = 0o644 << 16
            is_text = name.endswith((".txt", ".jsonl", ".json", ".toml"))
            entry.compress_type = zipfile.ZIP_DEFLATED if is_text else zipfile.ZIP_STORED
            if isinstance(source, bytes):
                archive.writestr(entry, source)
                continue
            with source.open("rb") as readable, archive.open(entry, "w", force_zip64=True) as writable:
                while block := readable.read(_BLOCK):
                    writable.write(block)


def _wanted(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    if any(part.startswith(".") and part != ".." for part in path.parts) or "__MACOSX" in path.parts:
        return False
    return path.suffix.lower() in _WANTED or path.name.lower() in (*LISTS, rights.FILE)


def _refused(entry: zipfile.ZipInfo) -> str | None:
    """Why an entry is passed over."""
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.fullmatch(r"[A-Za-z]:", path.parts[0]):
        return "is left out: the zip would have it outside of its folder"
    mode = entry.external_attr >> 16
    if mode and not (stat.S_ISREG(mode) or stat.S_IFMT(mode) == 0):
        return "is left out: it is a link or a device, not a file"
    if entry.flag_bits & 1:
        return "is left out: it is encrypted"
    return None


@dataclass
class _Given:
    """The names given so far. Sets are of what is taken, after `casefold`."""

    stems: dict[str, str] = field(default_factory=dict)
    """Stem in the zip -> its legal name: a picture, its caption and its mask keep one, whichever comes first."""
    taken: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)


def _place(name: str, into: Path, given: _Given) -> Path:
    """Where an entry goes: in its own folders, under legal names, and never where another is."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    folder = into
    for part in parts[:-1]:
        folder /= legal_name(part) or "folder"
    make_folder(folder)
    suffix = PurePosixPath(parts[-1]).suffix
    stem = parts[-1].removesuffix(suffix)
    if stem not in given.stems:
        given.stems[stem] = free_name(legal_name(stem) or "picture", given.taken)
        given.taken.add(given.stems[stem].casefold())
    path = folder / f"{given.stems[stem]}{suffix}"
    number = 1
    while str(path).casefold() in given.paths:
        number += 1
        path = folder / f"{given.stems[stem]}-{number}{suffix}"
    given.paths.add(str(path).casefold())
    return path


def _copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, *, left: int, zip_path: Path) -> int:
    """Unpack one entry, counting what really comes out of it."""
    size = 0
    limit = min(MAX_FILE, left)
    with archive.open(entry) as readable, disk_problems(target), target.open("xb") as writable:
        while block := readable.read(_BLOCK):
            size += len(block)
            if size > limit or (size > FREE_RATIO_BYTES and size > MAX_RATIO * max(entry.compress_size, 1)):
                raise DatasetError(
                    f"{PurePosixPath(entry.filename).name} in the zip unpacks to far more than a picture",
                    where=zip_path,
                    fix="do not use this zip",
                )
            writable.write(block)
    return size
