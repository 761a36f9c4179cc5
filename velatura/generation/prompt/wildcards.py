"""Wildcards: `__colour__` is one of the lines of `colour.txt`.

Files lie in the project's `wildcards/`, then in the user's folders of that name and those of other programs.
`__animals/cat__` is a file in a folder of theirs, `__animals/*__` any line of all files in it, `__animals/**__` of
those below too. Empty lines are left out, and from # on each line; a line may hold choices and wildcards itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from velatura.errors import PromptError, nearest
from velatura.files import disk_problems

ENDING = ".txt"


class Wildcards:
    """The files of some folders, by name."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        """Nothing is read yet. Of two files of one name the first folder's counts; missing folders are passed over."""
        self._folders = folders
        self._lines: dict[str, tuple[str, ...]] = {}

    def lines(self, name: str) -> tuple[str, ...]:
        """What a name or a pattern stands for, each line once, in the order of the files' names.

        Raises:
            PromptError: there is no such file, it holds nothing, or it is not UTF-8.
        """
        if name not in self._lines:
            self._lines[name] = self._read(name)
        return self._lines[name]

    def known(self, name: str) -> bool:
        """Whether there is such a file, or one that fits the pattern."""
        return bool(self._fitting(name))

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Name in small letters, with / between folders -> file."""
        found: dict[str, Path] = {}
        for folder in self._folders:
            paths = sorted(path for path in folder.rglob(f"*{ENDING}") if path.is_file()) if folder.is_dir() else ()
            for path in paths:
                found.setdefault(path.relative_to(folder).with_suffix("").as_posix().lower(), path)
        return found

    def _fitting(self, name: str) -> list[Path]:
        wanted = name.strip().replace("\\", "/").lower().removesuffix(ENDING)
        if "*" not in wanted:
            return [self._files[wanted]] if wanted in self._files else []
        parts = re.split(r"(\*\*|\*)", wanted)
        pattern = re.compile("".join({"**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts))
        return [self._files[one] for one in sorted(self._files) if pattern.fullmatch(one)]

    def _read(self, name: str) -> tuple[str, ...]:
        files = self._fitting(name)
        if not files:
            close = nearest(name, list(self._files))
            raise PromptError(
                f"no wildcard is named {name}",
                where=f"__{name}__",
                fix=f"did you mean __{close}__?"
                if close
                else f"put {name}{ENDING} into wildcards/ of your project, or name its folder in your settings",
            )
        lines = [line for path in files for line in _told(path)]
        if not lines:
            raise PromptError(
                f"the wildcard {name} holds no lines", where=files[0], fix="write one choice on each line"
            )
        return tuple(dict.fromkeys(lines))


def _told(path: Path) -> list[str]:
    with disk_problems(path):
        held = path.read_bytes()
    try:
        text = held.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError("this wildcard is not in UTF-8", where=path, fix="save it as UTF-8") from error
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]
