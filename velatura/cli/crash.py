"""The errors nobody expected: a sentence on the terminal, the traceback in a file that may be handed on."""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import re
import socket
import sys
import sysconfig
import traceback
from datetime import UTC, datetime
from pathlib import Path

from velatura import files
from velatura.cli import output
from velatura.errors import FileProblem, SettingsError, VelaturaError
from velatura.version import __version__

FEWEST_LETTERS = 3
"""Shorter names of users and computers are not looked for: they are in every word."""


def explain(error: Exception) -> VelaturaError:
    """The sentence for an error that reached the top."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return VelaturaError("the memory is full", fix="take a smaller batch or resolution, or close other programs")
    if isinstance(error, OSError) and error.errno is not None and isinstance(error.filename, str | bytes):
        return files.problem(error, Path(os.fsdecode(error.filename)))
    what = f"something went wrong that should not: {type(error).__name__}"
    written = _write(error)
    if written is None:
        return VelaturaError(what, fix="please report it")
    return VelaturaError(what, fix=f"please report it with {output.shown(written)}, which holds nothing private")


def _write(error: Exception) -> Path | None:
    """The file with the traceback; None where it cannot be written."""
    from velatura import settings

    lines = [
        f"velatura {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}\n",
        *(f"{name} {module.__version__}\n" for name in ("torch", "numpy") if (module := sys.modules.get(name))),
        *traceback.format_exception(error),
    ]
    try:
        folder = settings.load().cache / "errors"
    except SettingsError:
        folder = settings.cache_folder() / "errors"
    path = folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    try:
        files.make_folder(folder)
        files.write_text(path, without_private("".join(lines)))
    except FileProblem:
        return None
    return path


def without_private(text: str) -> str:
    """The text without the user's folders, and without the names of user and computer."""
    folders = {
        str(Path(__file__).parents[2]): "<velatura>",
        sysconfig.get_path("purelib"): "<packages>",
        sys.prefix: "<python>",
        sys.base_prefix: "<python>",
        str(Path.cwd()): "<here>",
        str(Path.home()): "~",
    }
    for folder in sorted(folders, key=len, reverse=True):
        if len(folder) > 1:
            for spelling in (folder, folder.replace("\\", "\\\\"), Path(folder).as_posix()):
                text = text.replace(spelling, folders[folder])
    for name, stand_in in ((_user(), "<user>"), (socket.gethostname(), "<computer>")):
        if len(name) >= FEWEST_LETTERS:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", stand_in, text)
    return text


def _user() -> str:
    with contextlib.suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return ""
