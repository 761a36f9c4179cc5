"""Files on the user's disk: written whole or not at all, and known by their hash.

A file is written beside its place, synced, and moved over it with `os.replace`, so a reader sees
the old one or the new one. A full disk or a missing permission becomes one sentence.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from velatura.errors import FileProblem

BLOCK = 1 << 20
"""Bytes read at a time when hashing."""


def write_bytes(path: Path, data: bytes) -> None:
    """Put the bytes at the path, whole or not at all.

    Raises:
        FileProblem: the disk is full, or the folder may not be written.
    """
    with writing(path) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file to write in; it comes to stand at the path when all is written, and not at all where writing fails.

    Raises:
        FileProblem: the disk is full, or the folder may not be written.
    """
    beside = path.with_name(f".{os.getpid()}-{threading.get_ident()}.part")
    with disk_problems(path):
        try:
            with beside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Put UTF-8 text with line feeds at the path, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def append_line(path: Path, line: str) -> None:
    """Add a line of UTF-8 text; a last line that a killed process left torn is ended first."""
    with disk_problems(path), path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        torn = False
        if size:
            file.seek(size - 1)
            torn = file.read(1) != b"\n"
        file.write((b"\n" if torn else b"") + line.encode("utf-8") + b"\n")


def sync_folder(folder: Path) -> None:
    """Make a rename inside the folder durable, where the system can; Windows and some network disks cannot."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def disk_problems(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal into a sentence with a remedy."""
    try:
        yield
    except OSError as error:
        raise problem(error, path) from error


def problem(error: OSError, path: Path) -> FileProblem:
    """The sentence for an operating system's refusal."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FileProblem("the disk is full", where=path, fix="free some space and start again")
    if error.errno == errno.EROFS:
        return FileProblem("this disk may only be read", where=path, fix="take another place")
    if error.errno in (errno.EACCES, errno.EPERM):
        return _refused(path)
    if error.errno == errno.ENOENT:
        return FileProblem("there is no such file or folder", where=path, fix="check the path")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return FileProblem(
            "a file stands where a folder is needed, or the other way round", where=path, fix="choose another path"
        )
    reason = os.strerror(error.errno) if error.errno else str(error)
    return FileProblem(f"the disk refused: {reason}", where=path, fix="check the disk")


def _refused(path: Path) -> FileProblem:
    """What exactly may not be entered, read or written: it may be a folder far above the file that was asked for."""
    above = (one for one in reversed((path, *path.parents)) if one.is_dir())  # behind a closed one nothing can be asked
    closed = next((one for one in above if not os.access(one, os.X_OK)), None)
    if closed is not None:
        fix = "give yourself permission to read and enter it, or take another place"
        return FileProblem("the folder may not be entered", where=closed, fix=fix)
    for one, way, what in (
        (path, os.R_OK, "the file or folder may not be read"),
        (path, os.W_OK, "the file or folder may not be written to"),
        (path.parent, os.W_OK, "nothing may be written into the folder"),
    ):
        if one.exists() and not os.access(one, way):
            return FileProblem(what, where=one, fix="give yourself permission, or take another place")
    fix = "change it, close the program that has it open, or take another place"  # on Windows that looks the same
    return FileProblem("no permission to read or write here", where=path, fix=fix)


def make_folder(path: Path) -> Path:
    """The folder, made with its parents where it is missing."""
    with disk_problems(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def sha256(path: Path) -> str:
    """Hash of the whole file, hex."""
    digest = hashlib.sha256()
    with disk_problems(path), path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
