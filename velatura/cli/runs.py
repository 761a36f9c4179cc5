"""`velatura runs`: the trainings of a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from velatura.cli import output
from velatura.cli.options import Json

if TYPE_CHECKING:
    from velatura.run import Summary


def runs(
    project: Annotated[Path, typer.Argument(metavar="PROJECT", help="Project folder.")] = Path(),
    as_json: Json = False,
) -> None:
    """List the trainings of a project.

    How far each has come, and which checkpoint was chosen.
    """
    from dataclasses import asdict

    from velatura.errors import RunError
    from velatura.run import runs_of, summary

    found = runs_of(project)
    if not found and not (project / "recipe.toml").exists():
        raise RunError("this is not a project", where=project, fix="go to one, or name it: `velatura runs FOLDER`")
    listed = [summary(run) for run in found]
    if as_json:
        output.emit([asdict(one) for one in listed])
    elif not listed:
        output.say(f"no runs yet; `velatura train {output.shown(project)}` starts one")
    else:
        heads = ("run", "state", "steps", "chosen", "started")
        output.say(output.table(heads, [_row(one) for one in listed]))


def _row(one: Summary) -> tuple[str, ...]:
    state = f"stopped at step {one.step}" if one.state == "stopped" else one.state
    chosen = "-" if one.chosen is None else f"step {one.chosen}"
    return one.name, state, f"{one.step}/{one.steps}", chosen, one.started[:16].replace("T", " ")
