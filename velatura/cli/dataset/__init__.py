"""`velatura dataset ...`: from a pile of pictures to a set worth training on."""

from __future__ import annotations

import typer

from velatura.cli.dataset import check, edits, moving

app = typer.Typer(name="dataset", no_args_is_help=True, help="Look after pictures and captions.")
app.command()(moving.add)
app.command()(moving.export)
app.command()(check.check)
app.command()(edits.undo)
app.command()(edits.redo)
app.command()(edits.history)


@app.callback()
def dataset() -> None:
    """Look after pictures and captions."""
