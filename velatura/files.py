"""Files on the user's disk: written whole or not at all, and known by their hash.

A file is written beside its place, synced, and moved over it with `os.replace`, so a reader sees
the old one or the new one. A full disk or a missing permission becomes one sentence.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from velatura.errors import FileProblem

BLOCK = 1 << 20
"""Bytes read at a time when hashing."""


def write_bytes(path: Path, data: bytes) -> None:
    """Put the bytes at the path, whole or not at all.

    Raises:
        FileProblem: the disk is full, or the folder may not be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with disk_problems(path):
        try:
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Put UTF-8 text with line feeds at the path, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def sync_folder(folder: Path) -> None:
    """Make a rename inside the folder durable, where the system can (Windows cannot and need not)."""
    if os.name == "nt":
        return
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
        if error.errno == errno.ENOSPC:
            raise FileProblem("the disk is full", where=path, fix="free some space and start again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise FileProblem(
                "no permission to write here", where=path, fix="choose another folder, or change its permissions"
            ) from error
        if error.errno == errno.ENOENT:
            raise FileProblem("there is no such file or folder", where=path, fix="check the path") from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            raise FileProblem(
                "a file stands where a folder is needed, or the other way round", where=path, fix="choose another path"
            ) from error
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise FileProblem(f"the disk refused: {reason}", where=path, fix="check the disk") from error


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
