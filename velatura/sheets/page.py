"""All cells of a sheet as one page to look through, from a disk or from a mail: it asks nothing of any network.

The pictures are in it, at full size and lossless as long as the page stays under `ROOM`; else smaller, and the page
says so. Its script is `viewer/viewer.js` as it stands, allowed by its hash and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from velatura.files import disk_problems, writing
from velatura.generation.carriers import read, without_words
from velatura.sheets.axes import shown
from velatura.sheets.folder import PAGE, Placed, read_notes
from velatura.sheets.plan import Sheet

ROOM = 18_000_000
"""Bytes of pictures in a page: with base64 around them it still goes through a mail."""
QUALITY = 85
_MARK = "\0pictures\0"


def write_page(folder: Path, sheet: Sheet, placed: Sequence[Placed], *, room: int = ROOM) -> list[str]:
    """Write the page; sentences that the user should read.

    Args:
        folder: of the sheet.
        sheet: what it is.
        placed: its cells.
        room: bytes for the pictures.

    Raises:
        FileProblem: the disk is full, or a cell is gone.
    """
    files = list(dict.fromkeys(one.file for one in placed))
    largest, side = _fitting(folder, files, room)
    told = _data(folder, sheet, placed, files, largest, side)
    head, tail = _shell(sheet.prompt or "A sheet", told).split(_MARK)
    with writing(folder / PAGE) as out:
        out.write(head.encode("utf-8"))
        for number, file in enumerate(files):
            kind, data = _embedded(folder / file, side)
            link = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
            out.write(f'{"," if number else ""}"{link}"'.encode("ascii"))
        out.write(tail.encode("utf-8"))
    if side is None:
        return []
    return [f"the page shows the pictures {side} of {largest} pixels wide at most, to go through a mail"]


def _fitting(folder: Path, files: Sequence[str], room: int) -> tuple[int, int | None]:
    """The longest side of the pictures, and that at which they fit; None: as they are."""
    largest, lossless = 1, 0
    for file in files:
        path = folder / file
        with disk_problems(path), Image.open(path) as image:
            largest = max(largest, *image.size)
        lossless += path.stat().st_size
    if lossless <= room:
        return largest, None
    tried = [files[at * len(files) // 4] for at in range(min(4, len(files)))]
    side = largest
    while side > 64 and sum(len(_embedded(folder / file, side)[1]) for file in tried) / len(tried) * len(files) > room:
        side = math.ceil(side * 0.8)
    return largest, side


def _embedded(path: Path, side: int | None) -> tuple[str, bytes]:
    """A picture without what it says of itself: lossless, or at most so many pixels wide and high."""
    if side is None:
        with disk_problems(path):
            return "png", without_words(path.read_bytes())
    out = io.BytesIO()
    with disk_problems(path), Image.open(path) as image:
        whole = image.convert("RGB")
    whole.thumbnail((side, side), Image.Resampling.LANCZOS)
    whole.save(out, "WEBP", quality=QUALITY, method=4)
    return "webp", out.getvalue()


def _data(
    folder: Path, sheet: Sheet, placed: Sequence[Placed], files: Sequence[str], largest: int, side: int | None
) -> dict[str, Any]:
    places = {file: number for number, file in enumerate(files)}
    return {
        "prompt": sheet.prompt,
        "settings": {name: shown(value) for name, value in sheet.settings.items()},
        "axes": [{"title": axis.title, "labels": [axis.label(value) for value in axis.values]} for axis in sheet.axes],
        "cells": [
            {
                "place": list(one.cell.place),
                "name": one.name,
                "picture": places[one.file],
                "text": read(folder / one.file).text or "",
            }
            for one in placed
        ],
        "smaller": None if side is None else [side, largest],
        "said": read_notes(folder),
    }


def _shell(title: str, told: dict[str, Any]) -> str:
    viewer = resources.files("velatura.sheets") / "viewer"
    style, script, body = (
        (viewer / name).read_text(encoding="utf-8") for name in ("viewer.css", "viewer.js", "viewer.html")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'sha256-{digest}';"
        " base-uri 'none'; form-action 'none'"
    )
    data = json.dumps(told, ensure_ascii=False).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n"
        f'<script type="application/json" id="sheet">{data}</script>\n'
        f'<script type="application/json" id="pictures">[{_MARK}]</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )
