"""`velatura runs`: the trainings of a project, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from velatura.cli import output
from velatura.cli.options import Json

if TYPE_CHECKING:
    from velatura.run import Summary

LIST = "list"


class _Listing(TyperGroup):
    """`velatura runs PROJECT` lists, without another word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = [LIST, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(name="runs", cls=_Listing, help="List the trainings of a project, or compare two.")


@app.callback()
def runs() -> None:
    """List the trainings of a project, or compare two of them: `velatura runs`, `velatura runs diff A B`."""


@app.command(LIST)
def list_(
    project: Annotated[Path, typer.Argument(metavar="PROJECT", help="Project folder.")] = Path(),
    as_json: Json = False,
) -> None:
    """List the trainings of a project; `velatura runs PROJECT` is enough.

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


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A run folder.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    as_json: Json = False,
) -> None:
    """Compare two runs: settings, pictures, captions before and after, environment, and how each ended."""
    from velatura.api.training.differences import diff as compared
    from velatura.run import open_run

    found = compared(open_run(first), open_run(second))
    if as_json:
        output.emit(found.to_dict())
        return
    captions = {name: (" | ".join(before), " | ".join(after)) for name, (before, after) in found.captions.items()}
    parts = {
        "settings": found.settings,
        "pictures": found.pictures,
        "captions": captions,
        "environment": found.environment,
        "verdict": found.verdict,
    }
    for title, pairs in parts.items():
        output.say(f"{title}: nothing differs" if not pairs else f"{title}:")
        for line in _pairs(pairs):
            output.say(f"  {line}")


def _pairs(pairs: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """Values one below the other, so that long captions can be compared."""
    lines = []
    for name, (before, after) in pairs.items():
        if before == after:
            lines.append(f"{name}: {_shown(before)}, both")
        else:
            lines += [name, f"  A  {_shown(before)}", f"  B  {_shown(after)}"]
    return lines


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _row(one: Summary) -> tuple[str, ...]:
    state = f"stopped at step {one.step}" if one.state == "stopped" else one.state
    chosen = "-" if one.chosen is None else f"step {one.chosen}"
    return one.name, state, f"{one.step}/{one.steps}", chosen, one.started[:16].replace("T", " ")
