"""What the commands of `velatura dataset` have in common: their arguments, and how they name pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from velatura.cli import output

if TYPE_CHECKING:
    from velatura.dataset.layout import Problem

FOUND_PROBLEMS = 1

Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="Folder of pictures with their captions, or a project.", readable=False),
]
"""That it may be read is not asked by the parser, which would answer with its usage, but by what reads it."""
Workers = Annotated[int | None, typer.Option(min=1, help="Processes to work with; by default one for each core.")]


def dataset_in(folder: Path) -> Path:
    """The dataset's folder, where a project is given instead of it."""
    return folder / "dataset" if (folder / "recipe.toml").is_file() and (folder / "dataset").is_dir() else folder


def tell(problems: Iterable[Problem]) -> None:
    """Problems as notes on stderr."""
    for problem in problems:
        output.tell(f"note: {problem}")


def as_list(problems: Iterable[Problem]) -> list[dict[str, object]]:
    """Problems for machines."""
    return [{"name": one.name, "what": one.what, "left_out": one.left_out} for one in problems]


def some(names: Sequence[str], *, most: int = 6) -> str:
    """A few names, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def counted(number: int, what: str) -> str:
    """ "1 picture", "2 pictures"."""
    return f"{number} {what}{'' if number == 1 else 's'}"
