"""Whose pictures these are: per picture source, author, licence and consent, in a file beside them.

    rights.toml    [all]                 what holds for every picture that does not say otherwise
                   [pictures."07.png"]   author = "..."

An empty value is unknown, and stays so until somebody says it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from velatura.dataset import origin
from velatura.errors import DatasetError, nearest
from velatura.files import disk_problems

FILE = "rights.toml"


@dataclass(frozen=True)
class Rights:
    """What is known of one picture; "" is unknown."""

    author: str = ""
    source: str = ""
    """Where it comes from: "drawn for this", a page, an archive."""
    licence: str = ""
    """Terms on which it may be used."""
    consent: str = ""
    """For pictures of people: who agreed to what, and where that is written down."""
    origin: str = ""
    """`camera`, `drawn` or `generated`, and with what."""

    def behind(self, other: Rights) -> Rights:
        """These rights where they are known, else the other's."""
        return Rights(**{one.name: getattr(self, one.name) or getattr(other, one.name) for one in fields(self)})


KEYS = tuple(one.name for one in fields(Rights))

NEEDED = ("author", "source", "licence")
"""What has to be known before a set, or what was learnt from it, is handed on; consent where people are seen."""


@dataclass(frozen=True)
class Record:
    """The rights of a whole set."""

    all: Rights = Rights()
    pictures: Mapping[str, Rights] = field(default_factory=dict)

    def of(self, name: str) -> Rights:
        """What is known of one picture."""
        return self.pictures.get(name, Rights()).behind(self.all)

    def with_picture(self, name: str, told: Rights) -> Record:
        """The record with more known of one picture; what was known is kept."""
        return replace(self, pictures={**self.pictures, name: self.pictures.get(name, Rights()).behind(told)})

    def with_told(self, names: Iterable[str], told: Mapping[str, str]) -> Record:
        """The record with values set, for some pictures or, where none are named, for all."""
        names = list(names)
        if not names:
            return replace(self, all=replace(self.all, **told))
        changed = {name: replace(self.pictures.get(name, Rights()), **told) for name in names}
        return replace(self, pictures={**self.pictures, **changed})

    def renamed(self, pairs: Mapping[str, str]) -> Record:
        """The record after pictures were renamed, old name -> new name."""
        return replace(self, pictures={pairs.get(name, name): one for name, one in self.pictures.items()})

    def to_toml(self) -> str:
        """The file's text."""
        lines = ["version = 1", "", "[all]", *_lines(self.all)]
        for name, one in sorted(self.pictures.items()):
            if one != Rights():
                lines += ["", f"[pictures.{_string(name)}]", *_lines(one)]
        return "\n".join(lines) + "\n"


def load(folder: Path) -> Record:
    """The rights noted in a dataset; nothing is known where there is no file.

    Raises:
        DatasetError: the file is not TOML, or holds something else.
    """
    path = folder / FILE
    if not path.is_file():
        return Record()
    with disk_problems(path):
        data = path.read_bytes()
    try:
        tree = tomllib.loads(data.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise DatasetError(f"this is not valid TOML: {error}", where=path, fix="mend the line named") from None
    pictures = tree.get("pictures", {})
    if not isinstance(pictures, dict):
        raise DatasetError("pictures is not a table", where=path, fix='write [pictures."01.png"]')
    return Record(_rights(tree.get("all", {}), path), {name: _rights(one, path) for name, one in pictures.items()})


def of_file(path: Path) -> Rights:
    """What a picture's file says of itself; see `velatura.dataset.origin`."""
    found = origin.read(path)
    licence = "; ".join(one for one in (found.licence, found.training) if one)
    return Rights(_text(found.author), _text(found.source), _text(licence), origin=_text(found.made))


def _text(told: str) -> str:
    """What a stranger's file says as text that any file can hold: halves of characters, as JSON may have, are `?`."""
    return told.encode("utf-8", "replace").decode()


def gaps(record: Record, names: Iterable[str], *, needed: Iterable[str] = NEEDED) -> dict[str, list[str]]:
    """Name of what is unknown -> the pictures of which it is."""
    names = list(names)
    found = {key: [name for name in names if not getattr(record.of(name), key)] for key in needed}
    return {key: lacking for key, lacking in found.items() if lacking}


def _rights(tree: object, path: Path) -> Rights:
    if not isinstance(tree, dict):
        raise DatasetError("the rights of a picture are not a table", where=path, fix='write [pictures."01.png"]')
    for key, value in tree.items():
        if key not in KEYS:
            close = nearest(key, list(KEYS))
            fix = f"did you mean {close}?" if close else f"known are {', '.join(KEYS)}"
            raise DatasetError(f"unknown key {key}", where=path, fix=fix)
        if not isinstance(value, str):
            raise DatasetError(f"{key} is not text", where=path, fix="put it in quotes")
    return Rights(**tree)


def _lines(told: Rights) -> list[str]:
    return [f"{key} = {_string(value)}" for key in KEYS if (value := getattr(told, key))]


def _string(text: str) -> str:
    """JSON strings are TOML basic strings but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
