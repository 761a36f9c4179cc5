"""Reading a trainer's command line out of a shell script, a batch file, or a text that someone has pasted.

Understood are lines that go on (`\\`, `^`, a backtick), comments (`#`, `REM`, `::`), and variables that the same file
sets (`NAME=value`, `export NAME=value`, `set NAME=value`); nothing is run.
"""

from __future__ import annotations

import itertools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velatura.errors import RecipeError

SCRIPT = re.compile(r"(?:.*[/\\.])?(\w*train\w*?)(\.py)?")
"""How a trainer's script is called: `sdxl_train_network.py`, or `musubi_tuner.zimage_train_network` behind -m."""

ENDS = frozenset({"&&", "||", "|", ";", "&"})
"""What stands between two commands of a line."""

_GOES_ON = re.compile(r"[\\^`][ \t]*\n")
_COMMENT = re.compile(r"^\s*(#|::|rem\b|@?echo\b)", re.IGNORECASE)
_SET = re.compile(r"^\s*(?:export\s+|set\s+|\$env:|\$)?\"?([A-Za-z_]\w*)\s?=\s?(.*?)\"?\s*$", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)|%(\w+)%")


@dataclass(frozen=True)
class Command:
    """A trainer's script, and what it is told."""

    script: str
    """Its name without folder and ending: "sdxl_train_network"."""
    told: dict[str, Any]
    """Option without dashes -> text; a list where several follow; True where none does."""
    launcher: dict[str, Any]
    """The same of `accelerate launch`, in front of the script."""


def read(source: str, *, where: Path) -> Command:
    """The training command in a text.

    Raises:
        RecipeError: there is none, there are several, or quotes do not end.
    """
    known: dict[str, str] = {}
    found = []
    for line in _GOES_ON.sub(" ", source).splitlines():
        if _COMMENT.match(line) or not line.strip():
            continue
        if (setting := _SET.match(line)) and "--" not in line.partition("=")[0]:
            known[setting[1].lower()] = _expanded(setting[2].strip("\"'"), known)
            continue
        if command := _command(_words(_expanded(line, known), where)):
            found.append(command)
    if not found:
        what = "this text holds no command that trains: no word like sdxl_train_network.py with options behind it"
        raise RecipeError(what, where=where, fix="give the file that holds the whole command")
    if len(found) > 1:
        names = ", ".join(command.script for command in found)
        raise RecipeError(f"this text holds {len(found)} commands that train: {names}", where=where, fix="leave one")
    return found[0]


def _expanded(line: str, known: dict[str, str]) -> str:
    """The line with the variables that are known; others stay as they are."""

    def value(match: re.Match[str]) -> str:
        name = next(name for name in match.groups() if name)
        return known.get(name.lower(), match[0])

    return _VARIABLE.sub(value, line)


def _words(line: str, where: Path) -> list[str]:
    """The words of a line; backslashes are folders of Windows, not signs for the shell."""
    reader = shlex.shlex(line, posix=True, punctuation_chars="")
    reader.whitespace_split, reader.escape, reader.commenters = True, "", ""
    try:
        return list(reader)
    except ValueError:
        raise RecipeError(f"a quote does not end in the line {line[:60]!r}", where=where, fix="close it") from None


def _command(words: list[str]) -> Command | None:
    """The command in a line's words, or None where no script that trains is told anything."""
    for apart, one in itertools.groupby(words, key=lambda word: word in ENDS):
        command = list(one)
        for place, word in enumerate(command if not apart else []):
            script = SCRIPT.fullmatch(word)
            if script and (script[2] or command[place - 1] == "-m") and (told := _options(command[place + 1 :])):
                return Command(script[1], told, _options(command[:place]))
    return None


def _options(words: list[str]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    key = ""
    for word in words:
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            told[key] = value if equals else True
        elif re.match(r"\d?>", word):  # where the output goes
            key = ""
        elif key:
            before = told[key]
            told[key] = word if before is True else [*before, word] if isinstance(before, list) else [before, word]
    return told
