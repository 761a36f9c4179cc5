"""What the commands of `velatura dataset` have in common: their arguments, and how they name pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from velatura.cli import output

if TYPE_CHECKING:
    from velatura.dataset.layout import Problem
    from velatura.dataset.scan import Picture

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


def tell_numbers(pictures: Sequence[Picture]) -> None:
    """Which pictures stand on a sheet by their numbers, since no typeface here has the letters of their names."""
    from velatura.dataset.sheet import numbered

    numbers = [f"{number} {name}" for name, number in numbered(pictures).items()]
    if numbers:
        output.tell(f"no typeface here has all letters of these names; on the sheet they are: {', '.join(numbers)}")
