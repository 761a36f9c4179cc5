"""What a check finds: what is wrong with which pictures, why it matters, and which command mends it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]
"""An error: a picture is lost, or what is held out has been trained on, which a training refuses. A warning: the
result will be worse, which a training says. A note is for the eye."""

FILES = ("unreadable", "encoding", "file")
"""Kinds of single files, told as "01.png is left out ..."; of the others names stand before a colon."""

LEVELS: tuple[Level, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that was found."""

    kind: str
    """A short name, the same in every language: `soft`, `duplicates`."""
    level: Level
    names: tuple[str, ...]
    """The pictures; none where it concerns the set."""
    what: str
    """What is wrong, as a sentence without its pictures' names; of `FILES` how that sentence goes on."""
    why: str
    fix: str
    """A command, where one mends it."""

    def told(self, names: str) -> str:
        """The sentence, from its pictures as they are to be named; "" where it concerns the set."""
        if not names:
            return self.what
        return f"{names} {self.what}" if self.kind in FILES else f"{names}: {self.what}"

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return {**self.__dict__, "names": list(self.names)}


def sorted_findings(found: Iterable[Finding]) -> list[Finding]:
    """Errors first, then warnings, then notes; within each in the order they were made."""
    return sorted(found, key=lambda one: LEVELS.index(one.level))


def shown(names: Sequence[str], *, most: int = 8) -> str:
    """A few of the names, and how many more there are."""
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"


def argument(names: Sequence[str], *, most: int = 6) -> str:
    """Names of pictures as a command line takes them; "..." for the rest. None of them is taken for an option."""
    words = (quoted(f"./{name}" if name.startswith("-") else name) for name in names[:most])
    return " ".join(words) + (" ..." if len(names) > most else "")


def quoted(text: str) -> str:
    """One word of a command line, in quotes where it needs them.

    Double ones, which every shell knows, but around what a shell would run inside of them: what a file is called may
    have been chosen by somebody else.
    """
    if re.fullmatch(r"[\w+=:./-]+", text):
        return text
    return shlex.quote(text) if re.search(r'["$`\\!\n%]', text) else f'"{text}"'


def place(text: str) -> str:
    """A folder as a word of a command line; the user's own, ~/, is left to the shell."""
    home, rest = ("~/", text[2:]) if text.startswith("~/") else ("", text)
    return home + quoted(rest)
