"""Every picture of a dataset read once: what it is, what is wrong with its file, what can be measured of it.

On all cores, in bounded memory, and kept in the program's cache: interrupted or run again, only pictures that
are new or changed are read. Nothing is written into the dataset.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from velatura.dataset import captions, images, layout, origin, pool, scan
from velatura.dataset.layout import Entry, Problem
from velatura.dataset.measures import SIDE, Measures, measure
from velatura.dataset.scan import Dataset, Looked, Picture
from velatura.errors import DatasetError, FileProblem
from velatura.events import Done, Event, Progress
from velatura.files import append_line, disk_problems, make_folder, write_text

VERSION = 4
"""Of what is measured; a record of another version is measured anew."""


@dataclass(frozen=True)
class File:
    """What a picture's file is."""

    bytes: int
    format: str
    mode: str
    frames: int
    turned: bool
    profile: str
    transparent: bool
    jpeg_quality: int | None
    origin: str
    training: str
    has_place: bool


@dataclass(frozen=True)
class Surveyed:
    """One readable picture with everything known of it."""

    picture: Picture
    file: File
    measures: Measures


@dataclass(frozen=True)
class Survey:
    """A dataset, and what is known of each of its pictures, in the same order."""

    dataset: Dataset
    pictures: tuple[Surveyed, ...]


@dataclass(frozen=True)
class _Record:
    """What one reading of a picture's file gave, without its captions: they are read every time."""

    looked: Looked
    file: File | None = None
    measures: Measures | None = None


class Surveying:
    """The work, as an iterator of events; `result` is there when it has ended."""

    def __init__(
        self, folder: Path, *, cache: Path | None = None, workers: int | None = 1, everything: bool = False
    ) -> None:
        """Nothing is read before this is iterated; `everything` reads pictures that were decided against too."""
        self.folder, self.cache, self.workers = Path(folder), cache, workers
        self.everything = everything
        self.result: Survey | None = None

    def __iter__(self) -> Iterator[Event]:
        """Read every chosen picture.

        Raises:
            DatasetError: the folder is missing or holds no readable picture.
        """
        found = layout.find(self.folder)
        chosen, aside = (found.entries, ()) if self.everything else scan.judged(self.folder, found.entries)
        path = None if self.cache is None else _cache_file(self.cache, self.folder)
        known = {} if path is None else _load(path)
        keys = {entry.name: _key(entry) for entry in chosen}
        missing = [entry for entry in chosen if keys[entry.name] not in known]
        yield Progress("pictures", len(chosen) - len(missing), len(chosen))
        results = pool.over(_examine, missing, count=len(missing), workers=self.workers)
        for done, (entry, record) in enumerate(zip(missing, results, strict=True), len(chosen) - len(missing) + 1):
            known[keys[entry.name]] = record
            if path is not None:
                append_line(path, json.dumps([keys[entry.name], _plain(record)]))
            yield Progress("pictures", done, len(chosen))
        if path is not None and len(known) > 2 * len(chosen) + 100:  # files that have gone or changed
            _store(path, {key: known[key] for key in keys.values()})
        records = [known[keys[entry.name]] for entry in chosen]
        looked = [_with_captions(entry, record.looked) for entry, record in zip(chosen, records, strict=True)]
        dataset = scan.assemble(self.folder, found, looked, left_aside=aside)
        by_name = {one.picture.name: record for one, record in zip(looked, records, strict=True) if one.picture}
        surveyed = []
        for picture in dataset.pictures:
            record = by_name[picture.name]
            assert record.file is not None and record.measures is not None
            surveyed.append(Surveyed(picture, record.file, record.measures))
        self.result = Survey(dataset, tuple(surveyed))
        yield Done(0, {"pictures": len(surveyed)})


def survey(folder: Path, *, cache: Path | None = None, workers: int | None = 1) -> Survey:
    """Read every chosen picture of a dataset, without telling how far it has come.

    Args:
        folder: the dataset.
        cache: the program's cache folder; None keeps nothing.
        workers: processes; None takes all cores.

    Raises:
        DatasetError: the folder is missing or holds no readable picture.
    """
    work = Surveying(folder, cache=cache, workers=workers)
    for _ in work:
        pass
    assert work.result is not None
    return work.result


def examine(entry: Entry) -> tuple[Picture, File, Measures]:
    """Read one picture, decoded once.

    Raises:
        DatasetError: it cannot be read.
    """
    size = images.picture_size(entry.path)
    header = images.header(entry.path)
    image = images.open_image(entry.path, at_least=_smallest(size))
    measures = measure(image, native=image.size == size)
    made = origin.read(entry.path)
    with disk_problems(entry.path):
        length = entry.path.stat().st_size
    file = File(
        bytes=length,
        format=header.format,
        mode=header.mode,
        frames=header.frames,
        turned=header.orientation != 1,
        profile=header.profile,
        transparent=header.transparent,
        jpeg_quality=header.jpeg_quality,
        origin=made.made,
        training=made.training,
        has_place=made.has_place,
    )
    looked = scan.look(entry, deep=False)
    if looked.picture is None:
        raise DatasetError(looked.problems[0].what.removeprefix("is left out: "))
    return looked.picture, file, measures


def _smallest(size: tuple[int, int]) -> tuple[int, int]:
    """The picture at `SIDE` pixels on its longer side: JPEG is decoded no smaller than that."""
    scale = min(1.0, SIDE / max(size))
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def _examine(entry: Entry) -> _Record:
    looked = scan.look(entry, deep=False)
    if looked.picture is None:
        return _Record(looked)
    try:
        picture, file, measures = examine(entry)
    except (DatasetError, FileProblem) as error:  # it may have gone since it was looked at
        what = error.what if error.fix is None else f"{error.what}; {error.fix}"
        return _Record(Looked(None, (Problem(entry.name, f"is left out: {what}", left_out=True),)))
    return _Record(Looked(picture, looked.problems), file, measures)


def _with_captions(entry: Entry, looked: Looked) -> Looked:
    """Captions as they are now; and paths as they are here."""
    if looked.picture is None:
        return looked
    told, notes = entry.told, tuple[Problem, ...]()
    if entry.caption_files:
        name = layout.name_of(entry.caption_files[0])
        try:
            read = captions.read_captions(entry.caption_files[0])
        except DatasetError as error:
            what = f"is left out: {name}: {error.what}"
            return Looked(None, (Problem(entry.name, what, left_out=True),))
        told = read.captions
        notes = () if read.note is None else (Problem(name, read.note),)
    values = {one.name: getattr(looked.picture, one.name) for one in fields(Picture)}
    return Looked(
        Picture(**(values | {"path": entry.path, "captions": told, "mask": entry.mask, "repeats": entry.repeats})),
        notes,
    )


def _key(entry: Entry) -> str:
    """What a record holds for: the file as it is now, and its mask."""
    parts: list[object] = [VERSION, entry.name]
    for path in (entry.path, entry.mask):
        try:
            told = path.stat() if path is not None else None
        except OSError:
            told = None
        parts.append(None if told is None else [told.st_size, told.st_mtime_ns])
    return json.dumps(parts)


def _cache_file(cache: Path, folder: Path) -> Path:
    name = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return make_folder(cache / "surveys") / f"{name}.jsonl"


def _load(path: Path) -> dict[str, _Record]:
    known: dict[str, _Record] = {}
    if path.is_file():
        with disk_problems(path), path.open(encoding="utf-8") as file:
            for line in file:
                try:
                    key, plain = json.loads(line)
                    known[key] = _record(plain)
                except (ValueError, TypeError, KeyError):  # torn, or of another version
                    continue
    return known


def _store(path: Path, known: Mapping[str, _Record]) -> None:
    write_text(path, "".join(json.dumps([key, _plain(record)]) + "\n" for key, record in known.items()))


def _plain(record: _Record) -> dict[str, Any]:
    picture = record.looked.picture
    return {
        "picture": None
        if picture is None
        else [picture.name, picture.sha256, picture.width, picture.height, picture.mask_sha256],
        "problems": [asdict(problem) for problem in record.looked.problems],
        "file": None if record.file is None else asdict(record.file),
        "measures": None if record.measures is None else asdict(record.measures),
    }


def _record(plain: dict[str, Any]) -> _Record:
    told = plain["picture"]
    picture = None
    if told is not None:
        name, sha256, width, height, mask_sha256 = told
        picture = Picture(name, Path(), sha256, width, height, None, None, mask_sha256)
    values: dict[str, Any] = plain["measures"] or {}
    values = {key: tuple(one) if isinstance(one, list) else one for key, one in values.items()}
    measures = Measures(**values) if values else None
    file = None if plain["file"] is None else File(**plain["file"])
    problems = tuple(Problem(**problem) for problem in plain["problems"])
    return _Record(Looked(picture, problems), file, measures)
