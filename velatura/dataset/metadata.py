"""One file with the captions of many pictures: Hugging Face's metadata.jsonl and metadata.csv, kohya's JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from velatura.dataset.captions import decode
from velatura.errors import DatasetError
from velatura.files import disk_problems

NAMES = ("metadata.jsonl", "metadata.csv")
SUFFIXES = (".jsonl", ".csv")
FOLDERS = ("train",)
"""Where a dataset of several splits has its pictures."""

_CAPTION_KEYS = ("text", "caption", "prompt", "tags", "description")
MAX_BYTES = 200_000_000
"""A larger file is not a list of captions."""


def find(by_name: Mapping[str, Path]) -> Path | None:
    """The file that lists captions among what lies in a folder, by names in small letters, or in its `train/`."""
    places = [by_name.get(name) for name in NAMES]
    places += [by_name[inner] / name for inner in FOLDERS if inner in by_name for name in NAMES]
    return next((path for path in places if path is not None and path.is_file()), None)


def read(path: Path) -> tuple[dict[str, str | None], list[str]]:
    """File name -> caption, None where there is none; and what is wrong with lines that are passed over.

    Raises:
        DatasetError: the file is too large, or is not text.
        FileProblem: it cannot be read.
    """
    with disk_problems(path):
        if path.stat().st_size > MAX_BYTES:
            raise DatasetError("the file is too large for a list of captions", where=path)
        data = path.read_bytes()
    text, note = decode(data, path)
    remarks = [] if note is None else [note]
    rows: dict[str, str | None] = {}
    for number, row in _rows(path, text):
        name = row.get("file_name") if isinstance(row, dict) else None
        if not isinstance(row, dict) or not isinstance(name, str) or not _inside(name):
            remarks.append(f"has no file_name that can be read in line {number}; the line is passed over")
            continue
        told = next((row[key] for key in _CAPTION_KEYS if isinstance(row.get(key), str | list)), None)
        if isinstance(told, list):
            told = ", ".join(str(one) for one in told)
        if told is not None:  # halves of characters, as JSON may have them, are in no file of text
            told = " ".join(told.encode("utf-8", "replace").decode().split())
        rows[PurePosixPath(name.replace("\\", "/")).as_posix()] = told
    return rows, remarks


def _rows(path: Path, text: str) -> Iterator[tuple[int, object]]:
    if path.suffix.lower() == ".csv":
        try:
            yield from enumerate(csv.DictReader(io.StringIO(text)), start=2)
        except csv.Error as error:
            raise DatasetError(f"this is not a table that can be read: {error}", where=path) from None
        return
    if path.suffix.lower() == ".json":
        try:
            tree = json.loads(text)
        except (ValueError, RecursionError):
            raise DatasetError("this is not JSON", where=path) from None
        for number, (name, row) in enumerate(tree.items() if isinstance(tree, dict) else (), start=1):
            yield number, {"file_name": name, **row} if isinstance(row, dict) else row
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, None


def _inside(name: str) -> bool:
    """Whether a file name stays below the folder that it counts from."""
    path = PurePosixPath(name.replace("\\", "/"))
    return bool(name) and not path.is_absolute() and ".." not in path.parts and ":" not in path.parts[0]
