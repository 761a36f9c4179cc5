"""`velatura dataset add` and `export`: pictures in, and out again for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from velatura.cli import output
from velatura.cli.dataset.shared import Folder, Workers, as_list, dataset_in, tell
from velatura.cli.options import Json
from velatura.errors import counted


class Kind(StrEnum):
    """Layouts that are written."""

    plain = "plain"
    folders = "folders"
    kohya = "kohya"
    toml = "toml"
    imagefolder = "imagefolder"
    civitai = "civitai"


def add(
    folder: Folder,
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="Pictures, folders in any layout, zips, kohya's TOML, or patterns.",
            readable=False,
        ),
    ],
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Copy pictures in, with their captions and masks; what is copied from stays as it is.

    Read are pictures with .txt or .caption beside them, images/ with captions/, kohya's 10_words folders and
    dataset TOML, metadata.jsonl, and zips of any of these.
    """
    from velatura.dataset.adding import add as add_pictures

    folder = dataset_in(folder)
    added = add_pictures(sources, folder, workers=workers)
    if as_json:
        told = {"names": added.names, "regularisation": added.regularisation, "problems": as_list(added.problems)}
        output.emit(told)
        return
    tell(added.problems)
    output.say(f"{counted(len(added.names), 'picture')} added to {output.shown(folder)}")
    if added.regularisation:
        output.say(f"{counted(added.regularisation, 'picture')} of the class added to {output.shown(folder / 'reg')}")


def export(
    folder: Folder,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A new folder; a new zip for civitai.")],
    layout: Annotated[Kind, typer.Option("--as", help="Whose layout.")] = Kind.plain,
    words: Annotated[str, typer.Option(help="Trigger and class, the name of kohya's folder.")] = "",
    repeats: Annotated[int, typer.Option(min=1, help="Repeats in the name of kohya's folder.")] = 1,
    as_json: Json = False,
) -> None:
    """Copy the chosen pictures out, in the layout that another program reads."""
    from velatura.dataset.exporting import export as write
    from velatura.dataset.exporting import left_out
    from velatura.dataset.scan import scan

    found = scan(dataset_in(folder))
    count = write(found, target, layout.value, words=words, repeats=repeats)
    said = left_out(found, layout.value)
    if as_json:
        told = {"pictures": count, "target": output.shown(target), "problems": as_list(found.problems)}
        output.emit(told | {"left_out": said})
        return
    tell(problem for problem in found.problems if problem.left_out)
    for sentence in said:
        output.tell(f"note: {sentence}")
    output.say(f"{counted(count, 'picture')} written to {output.shown(target)}")
