"""File names that every system takes, and the order in which a person counts them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

LONGEST_NAME = 80
"""Bytes in UTF-8; with a number and an ending the name still fits every file system."""

_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?=\.|$)", re.IGNORECASE)
"""Names that Windows keeps for itself, with any ending."""


def legal_name(text: str) -> str:
    """The nearest name that a file may have on Windows, macOS and Linux alike.

    Returns:
        The name, shortened where it is long; empty where nothing is left of it.
    """
    name = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode("utf-8"))
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]+', "-", name).strip()
    name = name.encode()[:LONGEST_NAME].decode(errors="ignore").strip(" .")
    return _DEVICES.sub(r"\1_", name, count=1) if _DEVICES.match(name) else name


def free_name(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where another differs in the case of letters at most.

    Args:
        name: wanted.
        taken: names that there are, after `casefold`.
    """
    free, number = name, 1
    while free.casefold() in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def numbered(count: int) -> Sequence[str]:
    """Names 01, 02, ... with as many digits as the last one needs, and at least two."""
    digits = max(2, len(str(count)))
    return [f"{number:0{digits}d}" for number in range(1, count + 1)]


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A sort key that puts 2 before 10 and does not mind the case of letters."""
    # Text and numbers by turns, text first, so that like is always compared with like.
    parts: list[str | int] = list(_NUMBER.split(_composed(name).casefold()))
    parts[1::2] = map(int, parts[1::2])
    return parts, name


_NUMBER = re.compile(r"(\d+)")


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def name_of(path: Path) -> str:
    """The file's name with composed letters (macOS hands out decomposed ones); U+FFFD for what is not text."""
    if path.name.isascii():
        return path.name
    text = path.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return unicodedata.normalize("NFC", text)


def stem_of(path: Path) -> str:
    """What a picture and its caption file have in common."""
    return _composed(path.stem)
