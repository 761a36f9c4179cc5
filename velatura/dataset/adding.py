"""Pictures from anywhere into a dataset of the plain layout: copied, with captions, masks and origin.

What is copied from is never touched. Nothing in the dataset is replaced, a file that is there already is not
added twice, and all of it can be undone.
"""

from __future__ import annotations

import glob
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from velatura.dataset import archives, authors, kohya, layout, masks, metadata, pool, rights, scan
from velatura.dataset.captions import decode, lines_of
from velatura.dataset.journal import Edit, edit
from velatura.dataset.layout import Entry, Layout, Problem
from velatura.dataset.names import free_name, legal_name, natural_key
from velatura.errors import DatasetError, FileProblem, counted
from velatura.files import disk_problems, make_folder

SPARE = 64 << 20
"""Bytes of the disk that are left free."""


@dataclass(frozen=True)
class Added:
    """What came into the dataset, under its new names, and what was met on the way."""

    names: tuple[str, ...]
    problems: tuple[Problem, ...]
    regularisation: int = 0
    """Pictures of the class that came into `reg/`."""


def add(sources: Sequence[Path | str], dataset: Path, *, workers: int | None = 1) -> Added:
    """Copy pictures into a dataset, which is made where there is none.

    Args:
        sources: pictures, folders in any layout, zips, kohya's dataset TOML, or patterns such as `photos/*.jpg`.
        dataset: a folder of the plain layout.
        workers: processes that look at the pictures; None takes all cores.

    Raises:
        DatasetError: a source is not there or holds no picture that can be read, or the dataset is of another layout;
            it is as it was.
        FileProblem: the disk refuses; the dataset is as it was.
    """
    _refuse_other_layouts(dataset)
    with ExitStack() as stack:
        found = [read_source(source, stack) for source in _expanded(sources)]
        entries = [entry for one in found for entry in one.entries]
        problems = [problem for one in found for problem in one.problems]
        looked = list(
            pool.over(partial(scan.look, deep=True), entries, count=len(entries), workers=workers),
        )
        problems += [problem for one in looked for problem in one.problems]
        problems += _unlike_repeats(entries)
        readable = [(entry, one.picture) for entry, one in zip(entries, looked, strict=True) if one.picture]
        if not readable:
            lost = "; ".join(str(problem) for problem in problems if problem.left_out)
            what = f"there is no picture to add{f': {lost}' if lost else ''}"
            raise DatasetError(what, where=", ".join(str(source) for source in sources), fix="name other files")
        _refuse_without_room(dataset, [entry.path for entry, _ in readable])
        make_folder(dataset)
        told = f"add {counted(len(readable), 'picture')}"
        with edit(dataset, told) as changes:
            names, remarks = _copy_in(readable, dataset, changes, _noted_rights(found))
            regularisation = _copy_class([entry for one in found for entry in one.regularisation], dataset, changes)
    return Added(tuple(names), (*problems, *remarks), regularisation)


def _refuse_other_layouts(dataset: Path) -> None:
    """Pictures beside folders of pictures would be taken for the whole set."""
    found = layout.find(dataset) if dataset.is_dir() else Layout()
    if found.kind != "plain" and found.entries:
        how = {"folders": "in images/", "kohya": "in folders of repeats and words", "imagefolder": "in metadata.jsonl"}
        what = f"the pictures of this set are {how[found.kind]}; together with others beside them they are not read"
        fix = "make one plain set of both: `velatura dataset add NEW` with this folder and the others"
        raise DatasetError(what, where=dataset, fix=fix)


def read_source(source: Path, stack: ExitStack) -> Layout:
    """What there is to add from one source. A zip is unpacked for as long as the stack lives.

    Raises:
        DatasetError: it is not there, or nothing that pictures come in.
    """
    if source.is_dir():
        return _rooted(layout.find(source), source)
    if not source.exists():
        raise DatasetError("there is no such file or folder", where=source, fix="check the path")
    suffix = source.suffix.lower()
    if suffix == ".zip":
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="velatura-", ignore_cleanup_errors=True))
        problems = archives.unpack(source, Path(temporary))
        inside = archives.wrapped_folder(Path(temporary))
        found = _rooted(layout.find(inside), inside)
        found.problems[:0] = problems
        return found
    if suffix == ".toml":
        return _rooted(_from_toml(source), source.parent)
    if layout.is_picture(source):
        beside = layout.collect(source.parent)
        mine = [entry for entry in beside.entries if entry.path == source]
        return Layout(entries=mine, folder=source.parent)
    raise DatasetError(
        "this is not a picture, a folder, a zip or kohya's dataset TOML", where=source, fix="name the pictures"
    )


def _rooted(found: Layout, folder: Path) -> Layout:
    return replace(found, folder=folder)


def _noted_rights(found: Iterable[Layout]) -> dict[Path, rights.Rights]:
    """What is noted beside the sources of each of their pictures."""
    noted: dict[Path, rights.Rights] = {}
    for one in found:
        record = rights.load(one.folder) if one.folder is not None else rights.Record()
        noted |= {entry.path: record.of(entry.name) for entry in one.entries}
    return noted


def _from_toml(path: Path) -> Layout:
    found = Layout("kohya")
    for subset in kohya.read_toml(path):
        inner = layout.collect(subset.folder)
        found.problems += inner.problems
        listed: dict[str, str | None] = {}
        if subset.metadata is not None:
            listed, remarks = metadata.read(subset.metadata)
            found.problems += [Problem(subset.metadata.name, remark) for remark in remarks]
        by_stem = {Path(name).stem: text for name, text in listed.items()}
        words = (subset.class_words,) if subset.class_words else None
        masks_in = layout.collect(subset.masks).entries if subset.masks is not None else []
        masked = {layout.stem_of(entry.path): entry.path for entry in masks_in}
        entries = []
        for entry in inner.entries:
            files = sorted(entry.caption_files, key=lambda one: one.suffix.lower() != subset.caption_suffix)
            text = by_stem.get(layout.stem_of(entry.path))
            told = words if text is None else (text,)
            mask = masked.get(layout.stem_of(entry.path), entry.mask)
            entries.append(replace(entry, caption_files=tuple(files), told=told, mask=mask, repeats=subset.repeats))
        (found.regularisation if subset.regularisation else found.entries).extend(entries)
    return found


def _unlike_repeats(entries: Iterable[Entry]) -> list[Problem]:
    """The plain layout has no word for how often a picture is repeated."""
    repeats = sorted({entry.repeats for entry in entries})
    if len(repeats) < 2:
        return []
    told = " or ".join(map(str, repeats))
    what = f"are to be repeated {told} times; here every picture is trained equally often: train that folder as it is"
    return [Problem("the pictures", what)]


def _expanded(sources: Sequence[Path | str]) -> list[Path]:
    """Sources with patterns resolved, as shells on Windows leave them to the program."""
    found: list[Path] = []
    for source in sources:
        text = str(source)
        if glob.has_magic(text) and not Path(text).exists():
            matches = sorted(glob.glob(text, recursive=True), key=natural_key)  # noqa: PTH207 - patterns with a root
            if not matches:
                raise DatasetError("no file fits this pattern", where=text, fix="check it")
            found += [Path(match) for match in matches if Path(match).is_dir() or layout.is_picture(Path(match))]
        else:
            found.append(Path(source))
    return found


def _refuse_without_room(dataset: Path, files: Iterable[Path]) -> None:
    with disk_problems(dataset):
        needed = sum(path.stat().st_size for path in files)
        there = next(folder for folder in (dataset.absolute(), *dataset.absolute().parents) if folder.exists())
        free = shutil.disk_usage(there).free
    if needed + SPARE > free:
        what = f"the disk is too full: {needed >> 20} MB are needed and {free >> 20} MB are free"
        raise FileProblem(what, where=dataset, fix="free some space")


def _copy_in(
    readable: list[tuple[Entry, scan.Picture]], dataset: Path, changes: Edit, noted: Mapping[Path, rights.Rights]
) -> tuple[list[str], list[Problem]]:
    """The new names, and remarks."""
    there = layout.find(dataset).entries
    hashes = {scan.sha256_of(entry.path): entry for entry in there}
    taken = {layout.stem_of(path).casefold() for path in dataset.iterdir()}
    origins, written = rights.load(dataset), authors.load(dataset)
    names, remarks = [], []
    captions: dict[str, tuple[Entry, str]] = {}
    for entry, picture in readable:
        known = hashes.get(picture.sha256)
        if known is not None:
            remarks.append(Problem(entry.name, f"is there already as {known.name}, and is not added again"))
            bare = not known.caption_files and known.name not in captions
            here = known.name in names or known.path.parent == dataset
            if bare and here and picture.captions is not None:
                captions[known.name] = entry, _caption_text(entry, picture.captions)
            continue
        stem = free_name(legal_name(layout.stem_of(entry.path)) or "picture", taken)
        taken.add(stem.casefold())
        name = f"{stem}{entry.path.suffix.lower()}"
        _copy_file(entry.path, changes.stage(name))
        changes.put(name)
        if picture.captions is not None:
            captions[name] = entry, _caption_text(entry, picture.captions)
        if entry.mask is not None:
            changes.write(masks.name_for(name), masks.png(masks.read(entry.mask, (picture.width, picture.height))))
        told = noted[entry.path].behind(rights.of_file(entry.path))
        if told != rights.Rights():
            origins = origins.with_picture(name, told)
        hashes[picture.sha256] = replace(entry, name=name)
        names.append(name)
    for name, (_, text) in captions.items():
        changes.write_text(f"{name.rpartition('.')[0]}.txt", text)
    if captions:
        changes.write_text(authors.FILE, _with_authors(written, captions).to_json())
    if origins != rights.load(dataset):
        changes.write_text(rights.FILE, origins.to_toml())
    return names, remarks


def _with_authors(written: authors.Authors, captions: Mapping[str, tuple[Entry, str]]) -> authors.Authors:
    """What is noted in the sources of captions by tools goes with them; of all others it is that they were imported."""
    noted = dict(written.noted)
    known: dict[Path, authors.Authors] = {}
    for name, (entry, text) in captions.items():
        folder, mark = entry.path.parent, authors.mark(lines_of(text))
        if folder not in known:
            try:
                known[folder] = authors.load(folder)
            except DatasetError:
                known[folder] = authors.Authors()
        there = known[folder].noted.get(entry.path.name, {})
        noted[name] = dict(there) if there.get("sha256") == mark else authors.note(mark, by=authors.IMPORT, settings={})
    return authors.Authors(noted)


def _copy_class(entries: list[Entry], dataset: Path, changes: Edit) -> int:
    """Regularisation pictures into `reg/`."""
    taken = {path.stem.casefold() for path in (dataset / "reg").iterdir()} if (dataset / "reg").is_dir() else set()
    for entry in entries:
        stem = free_name(legal_name(layout.stem_of(entry.path)) or "picture", taken)
        taken.add(stem.casefold())
        name = f"reg/{stem}{entry.path.suffix.lower()}"
        _copy_file(entry.path, changes.stage(name))
        changes.put(name)
        if entry.caption_files or entry.told:
            changes.write_text(f"reg/{stem}.txt", _caption_text(entry, entry.told or ("",)))
    return len(entries)


def _caption_text(entry: Entry, told: tuple[str, ...]) -> str:
    """The caption file's text in UTF-8, or the captions that stood elsewhere, one per line."""
    if not entry.caption_files:
        return "".join(f"{one}\n" for one in told)
    path = entry.caption_files[0]
    with disk_problems(path):
        return decode(path.read_bytes(), path)[0]


def _copy_file(source: Path, target: Path) -> None:
    with disk_problems(source), source.open("rb") as readable, disk_problems(target), target.open("wb") as writable:
        shutil.copyfileobj(readable, writable, 1 << 20)
