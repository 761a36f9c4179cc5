"""`velatura dataset ...`: what concerns pictures and captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from velatura.cli import output
from velatura.cli.options import Json

if TYPE_CHECKING:
    from velatura.dataset.scan import Dataset

FOUND_PROBLEMS = 1


def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of pictures with their captions.")],
    as_json: Json = False,
) -> None:
    """Report what is wrong with pictures and captions.

    Every file is read, and nothing is changed. Exits with 1 where something is.
    """
    from velatura.dataset.duplicates import near_duplicates
    from velatura.dataset.scan import scan

    found = scan(folder)
    alike = near_duplicates(found.pictures)
    if as_json:
        output.emit(_as_dict(found, alike))
    else:
        for line in _sentences(found, alike):
            output.say(line)
    if found.problems or alike:
        raise typer.Exit(FOUND_PROBLEMS)


def _sentences(found: Dataset, alike: Sequence[Sequence[int]]) -> list[str]:
    pictures = found.pictures
    small = min(pictures, key=lambda picture: picture.width * picture.height)
    large = max(pictures, key=lambda picture: picture.width * picture.height)
    sizes = " to ".join(dict.fromkeys(f"{one.width} x {one.height}" for one in (small, large)))
    captioned = sum(picture.captions is not None for picture in pictures)
    lines = [
        f"pictures: {len(pictures)}, {sizes} pixels",
        f"with a caption: {captioned or 'none'}",
        *(f"problem: {problem}" for problem in found.problems),
        *(f"problem: {', '.join(pictures[index].name for index in group)} are nearly the same" for group in alike),
    ]
    return lines if len(lines) > 2 else [*lines, "no problems found"]


def _as_dict(found: Dataset, alike: Sequence[Sequence[int]]) -> dict[str, object]:
    from velatura.dataset.fingerprint import fingerprint

    return {
        "pictures": [
            {"name": one.name, "width": one.width, "height": one.height, "captions": one.captions}
            for one in found.pictures
        ],
        "problems": [
            {"name": problem.name, "what": problem.what, "left_out": problem.left_out} for problem in found.problems
        ],
        "nearly_the_same": [[found.pictures[index].name for index in group] for group in alike],
        "fingerprint": fingerprint(found),
    }
