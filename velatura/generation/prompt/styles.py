"""Styles: words under a name, put around a prompt or behind it, as A1111's `styles.csv` has them.

    name,prompt,negative_prompt
    ink,"ink drawing of {prompt}, black on white",colour
    night,"at night, moonlight",

What a style says takes the prompt in where it has `{prompt}`, else it is put behind it with a comma. Older files
call the second column `text`. A name that begins with # is a comment.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from velatura.errors import SettingsError, nearest
from velatura.files import disk_problems

PATTERN = "styles*.csv"
"""What a folder's files of styles are called."""

PLACE = "{prompt}"


@dataclass(frozen=True)
class Style:
    """What it adds to a prompt and to a negative prompt."""

    name: str
    prompt: str
    negative_prompt: str = ""


def files(places: Iterable[Path]) -> list[Path]:
    """The files of styles that these files and folders are and hold; what is not there is passed over."""
    found = [path for place in places for path in (sorted(place.glob(PATTERN)) if place.is_dir() else (place,))]
    return [path for path in found if path.is_file()]


def find(names: Sequence[str], places: Iterable[Path]) -> list[Style]:
    """The styles of these names, in their order; of two of one name the first counts.

    Raises:
        SettingsError: there is none of that name, or a file is not such a table.
    """
    known: dict[str, Style] = {}
    for path in files(places) if names else ():
        for style in read(path):
            known.setdefault(style.name, style)
    for name in names:
        if name not in known:
            close = nearest(name, list(known))
            fix = f"did you mean {close!r}?" if close else "put it into styles.csv of your project"
            raise SettingsError(f"no style is named {name!r}", fix=fix)
    return [known[name] for name in names]


def read(path: Path) -> list[Style]:
    """The styles of a file, in its order.

    Raises:
        SettingsError: it is not such a table.
    """
    with disk_problems(path):
        held = path.read_bytes()
    try:
        rows = list(csv.DictReader(io.StringIO(held.decode("utf-8-sig"), newline=""), skipinitialspace=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(
            f"these styles cannot be read: {error}", where=path, fix="save them as CSV in UTF-8"
        ) from None
    if rows and ("name" not in rows[0] or not {"prompt", "text"} & rows[0].keys()):
        raise SettingsError("a file of styles begins with name,prompt,negative_prompt", where=path)
    return [_style(row) for row in rows if row["name"] and not row["name"].startswith("#")]


def _style(row: Mapping[str, str | None]) -> Style:
    prompt = row["prompt"] if "prompt" in row else row.get("text")
    return Style(row["name"] or "", prompt or "", row.get("negative_prompt") or "")


def styled(prompt: str, styles: Iterable[str]) -> str:
    """A prompt with what its styles say."""
    for told in styles:
        if PLACE in told:
            prompt = told.replace(PLACE, prompt)
        else:
            prompt = ", ".join(filter(None, (prompt.strip(), told.strip())))
    return prompt
