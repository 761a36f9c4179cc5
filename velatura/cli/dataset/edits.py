"""`velatura dataset undo`, `redo` and `history`: every edit can be taken back."""

from __future__ import annotations

from typing import Annotated

import typer

from velatura.cli import output
from velatura.cli.dataset.shared import Folder, dataset_in
from velatura.cli.options import Json
from velatura.errors import counted


def undo(folder: Folder, as_json: Json = False) -> None:
    """Take the last edit back, an interrupted one too; again for the one before it."""
    from velatura.dataset import journal

    done = journal.undo(dataset_in(folder))
    if as_json:
        output.emit({"undone": done.told, "number": done.number})
    else:
        output.say(f"undone: {done.told}")


def redo(folder: Folder, as_json: Json = False) -> None:
    """Make the edit again that was undone last."""
    from velatura.dataset import journal

    done = journal.redo(dataset_in(folder))
    if as_json:
        output.emit({"done": done.told, "number": done.number})
    else:
        output.say(f"done again: {done.told}")


def history(
    folder: Folder,
    forget: Annotated[bool, typer.Option("--forget", help="Delete what is kept, for good.")] = False,
    as_json: Json = False,
) -> None:
    """List the edits that can be taken back.

    Originals are kept in .originals inside the dataset.
    """
    from velatura.dataset import journal

    folder = dataset_in(folder)
    if forget:
        freed = journal.forget(folder)
        if as_json:
            output.emit({"freed": freed})
        else:
            output.say(f"{freed / 1e6:.1f} MB freed; nothing can be undone any more")
        return
    edits = journal.history(folder)
    if as_json:
        output.emit({"edits": [{"number": one.number, "told": one.told, "state": one.state} for one in edits]})
        return
    rows = [[one.number, one.state, one.told, counted(len(one.names), "file")] for one in edits]
    output.say(output.table(["edit", "state", "what", "changed"], rows) if rows else "nothing has been edited")
