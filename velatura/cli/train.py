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
    more: Annotated[
        int, typer.Option("--more", metavar="STEPS", help="Go on with a run for so many steps past its end.", min=0)
    ] = 0,
    start: Annotated[
        str, typer.Option("--from", metavar="STEP", help="Begin a new run where RUN stood, as in step-000400.")
    ] = "",
    weights_only: Annotated[
        bool, typer.Option("--weights-only", help="With --from: its weights alone, at step 0.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a LoRA, then judge its checkpoints.

    Started again, it goes on from the last checkpoint of the newest run that was told the same; where that
    run is finished, it says so. Ctrl-C saves and leaves; a second one leaves at once.
    """
    from velatura import api
    from velatura.api.training import going_on
    from velatura.cli import ending
    from velatura.cli.interrupting import Interruptible
    from velatura.cli.progress import follow

    project = going_on.project_of(recipe)
    work = api.train(
        recipe, overrides=overrides or [], new=new, refit=refit, more=more, start=start, weights_only=weights_only
    )
    events = Interruptible(work, project)
    words = [output.shown(recipe)] if recipe != Path() else []
    words += [*(f"--set={one}" for one in overrides or []), *["--refit"] * refit]
    try:
        done = follow(events, as_json=as_json, interrupted="stopped")
        if events.asked:
            raise output.Interrupted("stopped")
    except output.Interrupted:
        if events.run is not None and (more or start):  # asked for again, it would be done again
            words = [output.shown(events.run.path)]
        again = shlex.join(["velatura", "train", *words])
        raise output.Interrupted(f"stopped; `{again}` goes on from the last checkpoint") from None
    if done is not None and not as_json:
        ending.show(done)
