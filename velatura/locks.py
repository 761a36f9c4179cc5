"""A lock on a folder: the system frees it when the process that holds it ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from velatura.errors import VelaturaError
from velatura.files import disk_problems

TRIES = 5
"""How often the lock is asked for, 0.1 s apart: who asks `held` has it for a moment."""


@contextlib.contextmanager
def hold(path: Path, *, busy: VelaturaError) -> Iterator[None]:
    """Have the lock of a file that is there for nothing else.

    Args:
        path: of that file, made where it is not there; it stays.
        busy: what is raised where another process has it.

    Raises:
        FileProblem: the folder may not be written.
    """
    with disk_problems(path):
        file = path.open("ab+")
    with file:
        for _ in range(TRIES):
            if taken(file):
                break
            time.sleep(0.1)
        else:
            raise busy
        yield


def taken(file: IO[bytes]) -> bool:
    """Take the lock of an open file, until it is closed; False where another process has it."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def held(path: Path) -> bool:
    """Whether some process has the lock now."""
    try:
        with path.open("rb+") as file:
            return not taken(file)
    except OSError:
        return False  # no such file: nobody has asked for it yet; or it is not ours to ask for
