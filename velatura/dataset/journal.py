"""Edits of a dataset folder that can be taken back: every file that is replaced or removed is kept.

    .originals/0001/edit.jsonl     what is done, a line before each change
                    before/...     files as they were
                    after/...      files that are about to be put in place, or that an undo took away

Pictures, captions, masks and sidecars are all changed through an `Edit`. A process that is killed half-way
leaves an edit without its last line: one that can go on is gone on with when the same command runs again,
any other is taken back before the next edit begins. Nothing is ever deleted but by `forget`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from velatura.errors import DatasetError, FileProblem
from velatura.files import append_line, disk_problems, make_folder, sync_folder

FOLDER = ".originals"
_RECORD = "edit.jsonl"

Line = dict[str, Any]


@dataclass
class Edit:
    """One edit of a dataset: files written, removed and renamed together, and taken back together.

    Names are paths inside the dataset, with forward slashes.
    """

    dataset: Path
    folder: Path
    told: str
    """What is done, as a person reads it: "resize --long-side 1024"."""
    resumable: bool = False
    lines: list[Line] = field(default_factory=list)

    def __post_init__(self) -> None:
        """What a resumed edit had written counts as its own."""
        self._written = {line["name"] for line in self.lines if line["do"] == "write"}

    @property
    def number(self) -> int:
        """Its place in the history, from 1."""
        return int(self.folder.name)

    @property
    def state(self) -> str:
        """`open`, `done` or `undone`."""
        return next((line["do"] for line in reversed(self.lines) if line["do"] in ("done", "undone")), "open")

    @property
    def names(self) -> tuple[str, ...]:
        """The files that were changed, each once, in the order of the changes."""
        found = dict.fromkeys(line["name"] for line in self._changes())
        return tuple(name for name in found if not name.startswith(f"{FOLDER}/"))

    @property
    def settled(self) -> dict[str, str]:
        """What an interrupted edit has finished with, as `settle` was told: old name -> new name."""
        return {line["name"]: line["to"] for line in self.lines if line["do"] == "settled"}

    @property
    def marks(self) -> dict[str, str]:
        """What it had to remember of each of these."""
        return {line["name"]: line["mark"] for line in self.lines if line["do"] == "settled" and "mark" in line}

    def settle(self, name: str, new: str, *, mark: str = "") -> None:
        """Note that one picture is finished, so that an interrupted edit goes on with the next.

        Args:
            name: of the picture.
            new: its name from now on.
            mark: what is to be remembered of it when the edit goes on.
        """
        self._record({"do": "settled", "name": name, "to": new} | ({"mark": mark} if mark else {}))

    def stage(self, name: str) -> Path:
        """Where to write the new content of a file before `put` brings it into place."""
        path = self.folder / "after" / _checked(name)
        make_folder(path.parent)
        return path

    def put(self, name: str) -> None:
        """Bring what was written at `stage(name)` into place; what was there is kept."""
        target = self.dataset / name
        with disk_problems(target):
            if name in self._written:
                self.stage(name).replace(target)
                return
            self._do({"do": "write", "name": name, "new": not target.exists()})
            self._written.add(name)

    def write(self, name: str, data: bytes) -> None:
        """Write a file; what was there is kept."""
        path = self.stage(name)
        with disk_problems(path), path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.put(name)

    def write_text(self, name: str, text: str) -> None:
        """Write UTF-8 text with line feeds; what was there is kept."""
        self.write(name, text.encode("utf-8"))

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Write many small files at once, all of them noted before the first is touched; what was there is kept.

        What will be done is synced before it is begun. The files are not: one by one that takes up to a minute for
        thousands, and any sync after them waits for them all. After a failure of power the last of them may be lost,
        but never what they replaced, nor how to bring it back.
        """
        fresh = [name for name in map(_checked, files) if name not in self._written]
        # Strings and not paths: for ten thousand files, pathlib alone would take half of the time.
        places = {
            name: (f"{self.dataset}/{name}", f"{self.folder}/before/{name}", f"{self.folder}/after/{name}")
            for name in files
        }
        for folder in {os.path.dirname(path) for _, *kept in places.values() for path in kept}:  # noqa: PTH120
            make_folder(Path(folder))
        with disk_problems(self.dataset):
            new = {name: not os.path.exists(places[name][0]) for name in fresh}  # noqa: PTH110
            lines: list[Line] = [{"do": "write", "name": name, "new": new[name]} for name in fresh]
            if lines:
                append_line(self.folder / _RECORD, "\n".join(map(json.dumps, lines)))
                self.sync()
            self.lines += lines
            for name, data in files.items():
                with open(places[name][2], "wb") as file:  # noqa: PTH123
                    file.write(data)
            for line in lines:
                target, before, after = places[line["name"]]
                if not line["new"]:
                    _link(target, before)
                os.replace(after, target)  # noqa: PTH105
            for name in files.keys() - set(fresh):
                os.replace(places[name][2], places[name][0])  # noqa: PTH105
        self._written.update(fresh)

    def sync(self, names: Iterable[str] = ()) -> None:
        """Wait until what was noted is on the disk, and that these files are in their places."""
        record = self.folder / _RECORD
        with disk_problems(record), record.open("rb+") as file:
            os.fsync(file.fileno())
        for folder in {os.path.dirname(name) for name in names}:  # noqa: PTH120
            sync_folder(self.dataset / folder)

    def remove(self, name: str) -> None:
        """Take a file out of the dataset; it is kept."""
        self._do({"do": "remove", "name": _checked(name)})

    def rename(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Rename files, all at once: names may be swapped, or differ in the case of letters alone.

        Raises:
            DatasetError: a new name is taken by a file that keeps it, or is given twice.
        """
        wanted = [(_checked(old), _checked(new)) for old, new in pairs if old != new]
        leaving = {old.casefold() for old, _ in wanted}
        seen: set[str] = set()
        for _, new in wanted:
            taken = new.casefold() not in leaving and (self.dataset / new).exists()
            if taken or new.casefold() in seen:
                raise DatasetError(f"there would be two files named {new}", where=self.dataset, fix="take other names")
            seen.add(new.casefold())
        for place, (old, _) in enumerate(wanted):
            self._do({"do": "rename", "name": old, "to": f"{self._inside}/moving/{place}"})
        for place, (_, new) in enumerate(wanted):
            self._do({"do": "rename", "name": f"{self._inside}/moving/{place}", "to": new})

    @property
    def _inside(self) -> str:
        return f"{FOLDER}/{self.folder.name}"

    def _changes(self) -> list[Line]:
        return [line for line in self.lines if line["do"] in ("write", "remove", "rename")]

    def _do(self, line: Line) -> None:
        self._record(line)
        _forward(self, line)

    def _record(self, line: Line) -> None:
        append_line(self.folder / _RECORD, json.dumps(line, ensure_ascii=True))
        self.lines.append(line)


@contextlib.contextmanager
def edit(
    dataset: Path, told: str, *, resumable: bool = False, pausing: tuple[type[Exception], ...] = ()
) -> Iterator[Edit]:
    """Change files of a dataset; where something goes wrong, it is left as it was.

    Args:
        dataset: the folder.
        told: what is done, as a person reads it.
        resumable: an interruption leaves what is done, and the same edit goes on when it is begun again.
        pausing: errors that are such an interruption.

    Raises:
        DatasetError: another edit was interrupted, or is being made by another process.
        FileProblem: the disk refuses; the dataset is as it was.
    """
    with _lock(dataset):
        begun = _begin(dataset, told, resumable=resumable)
        try:
            yield begun
        except BaseException as error:
            if not begun._changes():
                _drop(begun)
            elif not (resumable and isinstance(error, (KeyboardInterrupt, GeneratorExit, *pausing))):
                # What was written and not put in place is worth nothing, and a full disk has no room to note more.
                shutil.rmtree(begun.folder / "after", ignore_errors=True)
                _take_back(begun)
            raise
        if begun._changes():
            begun._record({"do": "done"})
        else:
            _drop(begun)


def history(dataset: Path) -> list[Edit]:
    """The edits of a dataset, oldest first."""
    return [_read(dataset, folder) for folder in _folders(dataset)]


def unfinished(dataset: Path) -> Edit | None:
    """The edit that was interrupted, or None."""
    for folder in reversed(_folders(dataset)):
        if not _is_closed(folder / _RECORD) and (found := _read(dataset, folder)).state == "open":
            return found
    return None


def _folders(dataset: Path) -> list[Path]:
    root = dataset / FOLDER
    if not root.is_dir():
        return []
    folders = [path for path in root.iterdir() if path.name.isdecimal() and (path / _RECORD).is_file()]
    return sorted(folders, key=lambda path: int(path.name))


def _is_closed(record: Path) -> bool:
    """Whether a record ends with `done` or `undone`, by its last bytes: a record may have ten thousand lines."""
    with disk_problems(record), record.open("rb") as file:
        file.seek(max(0, record.stat().st_size - 64))
        return file.read().rsplit(b"\n", 2)[-2:] in ([b'{"do": "done"}', b""], [b'{"do": "undone"}', b""])


def undo(dataset: Path) -> Edit:
    """Take the last edit back, an interrupted one too. What it had written is kept beside what it had replaced.

    Raises:
        DatasetError: there is nothing to take back, or a file written since stands in the way.
    """
    with _lock(dataset):
        last = next((one for one in reversed(history(dataset)) if one.state != "undone"), None)
        if last is None:
            raise DatasetError("there is nothing to undo", where=dataset)
        _take_back(last)
        return last


def redo(dataset: Path) -> Edit:
    """Make again the edit that was taken back last.

    Raises:
        DatasetError: there is none, or the dataset was edited since.
    """
    with _lock(dataset):
        edits = history(dataset)
        while edits and edits[-1].state == "undone" and len(edits) > 1 and edits[-2].state == "undone":
            edits.pop()
        if not edits or edits[-1].state != "undone" or not _was_done(edits[-1]):
            raise DatasetError("there is nothing to do again", where=dataset)
        for line in edits[-1]._changes():
            _forward(edits[-1], line)
        edits[-1]._record({"do": "done"})
        return edits[-1]


def forget(dataset: Path) -> int:
    """Delete what was kept, so that nothing can be undone any more; the bytes that this frees."""
    root = dataset / FOLDER
    if not root.is_dir():
        return 0
    with _lock(dataset), disk_problems(root):
        if unfinished(dataset) is not None:
            raise DatasetError("an edit was interrupted", where=dataset, fix="`velatura dataset undo` first")
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and path.stat().st_nlink == 1)
        for folder in [path for path in root.iterdir() if path.is_dir()]:
            shutil.rmtree(folder)
    return size


def _drop(one: Edit) -> None:
    """An edit that changed nothing is not part of the history."""
    shutil.rmtree(one.folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        one.folder.parent.rmdir()


def _was_done(one: Edit) -> bool:
    return any(line["do"] == "done" for line in one.lines)


def _begin(dataset: Path, told: str, *, resumable: bool) -> Edit:
    last = unfinished(dataset)
    if last is not None and last.resumable:
        if resumable and last.told == told:
            return last
        raise DatasetError(
            f"an edit was interrupted: {last.told}", where=dataset, fix="run it again, or `velatura dataset undo`"
        )
    if last is not None:
        _take_back(last)
    root = make_folder(dataset / FOLDER)
    number = 1 + max((int(path.name) for path in root.iterdir() if path.name.isdecimal()), default=0)
    begun = Edit(dataset, make_folder(root / f"{number:04d}"), told, resumable)
    try:
        begun._record({"do": "begin", "told": told, "resumable": resumable, "version": 1})
    except FileProblem:
        _drop(begun)
        raise
    return begun


def _read(dataset: Path, folder: Path) -> Edit:
    lines: list[Line] = []
    with disk_problems(folder), (folder / _RECORD).open(encoding="utf-8") as file:
        for text in file:
            with contextlib.suppress(ValueError):  # a last line that was torn
                lines.append(json.loads(text))
    told = lines[0] if lines else {}
    return Edit(dataset, folder, str(told.get("told", "an edit")), bool(told.get("resumable")), lines)


def _take_back(one: Edit) -> None:
    _refuse_where_in_the_way(one)
    for line in reversed(one._changes()):
        _backward(one, line)
    one._record({"do": "undone"})


def _forward(one: Edit, line: Line) -> None:
    """Do what a line says."""
    target, before, after = _places(one, line)
    with disk_problems(target):
        if line["do"] == "write":
            target.parent.mkdir(parents=True, exist_ok=True)
            if not line["new"]:
                _keep(target, before)
            after.replace(target)
        elif line["do"] == "remove":
            _move(target, before)
        else:
            _move(target, one.dataset / line["to"])


def _backward(one: Edit, line: Line) -> None:
    """Take back what a line says, as far as it was done: a killed process writes the line and may do no more."""
    target, before, after = _places(one, line)
    with disk_problems(target):
        if line["do"] == "rename":
            moved = one.dataset / line["to"]
            if moved.exists():
                _move(moved, target)
        elif line["do"] == "remove" or not line["new"]:
            if not before.exists():
                return
            if line["do"] == "write" and target.exists():
                _keep(target, after)
            target.parent.mkdir(parents=True, exist_ok=True)
            before.replace(target)
        elif target.exists() and not after.exists():
            _move(target, after)


def _places(one: Edit, line: Line) -> tuple[Path, Path, Path]:
    """Where the file of a line is, where it is kept, and where its new content waits."""
    name = line["name"]
    return one.dataset / name, one.folder / "before" / name, one.folder / "after" / name


def _refuse_where_in_the_way(one: Edit) -> None:
    """A file that was written where a removed or renamed one has to come back is not overwritten."""
    known: dict[str, bool] = {}

    def there(path: Path) -> bool:
        return known.get(str(path).casefold(), path.exists())

    for line in reversed(one._changes()):
        target, before, _ = _places(one, line)
        source = one.dataset / line["to"] if line["do"] == "rename" else before
        if line["do"] == "write":
            known[str(target).casefold()] = not line["new"]
        elif there(source):
            if there(target):
                raise DatasetError(
                    f"{one.told} cannot be undone, because there is a new {line['name']}",
                    where=one.dataset,
                    fix="move it elsewhere first",
                )
            known[str(target).casefold()], known[str(source).casefold()] = True, False


def _keep(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where the disk knows no links: the first never goes missing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        _link(str(source), str(target))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise
        part = f"{target}.part"
        shutil.copy2(source, part)
        os.replace(part, target)  # noqa: PTH105


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not target.samefile(source):  # POSIX would write over it without a word
        raise FileExistsError(errno.EEXIST, "the name is taken", str(target))
    source.rename(target)


def _checked(name: str) -> str:
    """A name inside the dataset; anything else is a mistake of the program."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"{name!r} is not a name inside a dataset")
    return path.as_posix()


@contextlib.contextmanager
def _lock(dataset: Path) -> Iterator[None]:
    """One process edits a dataset at a time; the system lets go however the process ends."""
    if not dataset.is_dir():
        raise DatasetError("there is no such folder", where=dataset, fix="check the path")
    root = make_folder(dataset / FOLDER)
    path = root / "lock"
    with disk_problems(path):
        file = path.open("ab+")
    with file:
        if not _try_lock(file.fileno()) or not _is_at(file.fileno(), path):
            raise DatasetError("another process is editing this dataset", where=dataset, fix="wait until it has ended")
        try:
            yield
        finally:
            if os.name == "nt":  # where a file that is open cannot be removed; elsewhere it must still be locked
                file.close()
            with contextlib.suppress(OSError):
                if [entry.name for entry in root.iterdir()] == ["lock"]:
                    path.unlink()
                    root.rmdir()


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is still the one at its path: who locked it before may have removed it since."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _try_lock(handle: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
