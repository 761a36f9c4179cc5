"""`velatura train`: train a recipe, or go on with a run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from velatura.cli import output
from velatura.cli.options import Json, Overrides


def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE|RUN", help="A recipe, a project folder, or a run folder to go on with.")
    ] = Path(),
    overrides: Overrides = None,
    new: Annotated[bool, typer.Option("--new", help="Start a new run even where one could go on.")] = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="After the choice, train once more on all pictures, held-out ones too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a LoRA, then judge its checkpoints.

    Started again, it goes on from the last checkpoint of the newest run that was told the same; where that
    run is finished, it says so.
    """
    from velatura import api
    from velatura.cli import ending
    from velatura.cli.progress import follow

    words = [output.shown(recipe)] if recipe != Path() else []
    again = shlex.join(
        ["velatura", "train", *words, *(f"--set={one}" for one in overrides or []), *["--refit"] * refit]
    )
    done = follow(
        api.train(recipe, overrides=overrides or [], new=new, refit=refit),
        as_json=as_json,
        interrupted=f"stopped; `{again}` goes on from the last checkpoint",
    )
    if done is not None and not as_json:
        ending.show(done)
