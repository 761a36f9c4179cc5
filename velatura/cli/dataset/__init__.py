"""`velatura dataset ...`: from a pile of pictures to a set worth training on."""

from __future__ import annotations

import typer

from velatura.cli.dataset import (
    captioning,
    captions,
    check,
    choosing,
    edits,
    moving,
    pictures,
    plan,
    regularise,
    rights,
)

app = typer.Typer(name="dataset", no_args_is_help=True, help="Look after pictures and captions.")
app.command()(moving.add)
app.command()(moving.export)
app.command()(check.check)
app.command(name="list")(choosing.listing)
app.command()(choosing.pick)
app.command()(choosing.keep)
app.command()(choosing.reject)
app.command()(choosing.undecide)
app.command()(pictures.clean)
app.command()(pictures.resize)
app.command()(pictures.crop)
app.command()(pictures.flip)
app.command()(pictures.rename)
app.command()(pictures.mask)
app.command()(captioning.tag)
app.command()(captioning.caption)
app.command()(captions.edit)
app.command()(captions.stats)
app.command()(plan.buckets)
app.command()(plan.split)
app.command()(regularise.regularise)
app.command()(rights.rights)
app.command()(edits.undo)
app.command()(edits.redo)
app.command()(edits.history)


@app.callback()
def dataset() -> None:
    """Look after pictures and captions."""
