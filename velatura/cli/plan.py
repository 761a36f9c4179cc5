"""`velatura plan`: what a recipe comes to, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from velatura.cli import output
from velatura.cli.options import Json, Overrides


def plan(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe or a project folder.")] = Path(),
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Show what a recipe comes to, without training.

    Steps, epochs, buckets, what is held out, and what is unwise.
    """
    from velatura import api

    made = api.plan(recipe, overrides=overrides or []).to_dict()
    if as_json:
        output.emit(made)
        return
    notes, reasons = made.pop("notes", []), made.pop("reasons", [])
    made.pop("memory", None)  # the reasons say it in words
    for name, value in made.items():
        shown = ", ".join(f"{key}: {count}" for key, count in value.items()) if isinstance(value, dict) else value
        output.say(f"{name.replace('_', ' ')}: {shown}")
    for reason in reasons:
        output.say(reason)
    for note in notes:
        output.say(f"note: {note}")
