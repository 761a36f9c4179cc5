"""`velatura plan`: what a recipe comes to, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from velatura.cli import output
from velatura.cli.options import Json, Overrides
from velatura.errors import counted

if TYPE_CHECKING:
    from velatura.api.training.planning import Estimate, Plan


def plan(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe or a project folder.")] = Path(),
    overrides: Overrides = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="First measure what training this base costs here; from seconds to minutes."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what a recipe comes to, without training.

    Steps and batches by size, epochs, what is held out, time and memory on this device as measured here, sizes on disk,
    and what is unwise.
    """
    from velatura import api
    from velatura.cli.progress import follow

    told = overrides or []
    if probe:
        follow(api.calibrate(recipe, overrides=told), as_json=False, interrupted="stopped; nothing was measured")
    made = api.plan(recipe, overrides=told)
    if as_json:
        output.emit(made.to_dict())
        return
    for line in (*_course(made), *_cost(made.estimate), _disk(made), *made.reasons):
        output.say(line)
    for warning in made.warnings:
        output.say(f"warning: {warning}")
    for note in made.notes:
        output.say(f"note: {note}")


def _course(made: Plan) -> list[str]:
    """Steps, epochs, and the sizes of an epoch."""
    together = f"{made.batch} x {made.accumulation}" if made.accumulation > 1 else str(made.batch)
    kept_back = f", {made.held_out} held out" if made.held_out else ""
    rows = [(size, one.pictures, one.samples, one.batches, one.short or "-") for size, one in made.buckets.items()]
    return [
        f"{made.steps} steps of up to {together} pictures: {made.epochs:g} epochs of {made.steps_per_epoch} steps,"
        f" {counted(made.images, 'picture')} seen",
        f"{counted(made.pictures, 'picture')}{kept_back}",
        output.table(("size", "pictures", "seen in an epoch", "batches", "of them short"), rows),
    ]


def _cost(estimate: Estimate | None) -> list[str]:
    """Time and memory, as far as they are known."""
    from velatura.cli.progress import duration
    from velatura.inventory import size_text

    if estimate is None:
        return [
            "time and memory: not measured on this machine yet; --probe measures (from half a minute to some minutes)"
        ]
    parts = {
        "training": estimate.training_seconds,
        "encoding the pictures": estimate.preparing_seconds,
        "painting and judging": estimate.painting_seconds,
    }
    told = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items())
    step = f"{estimate.step_seconds:.2f} s" if estimate.step_seconds < 10 else duration(estimate.step_seconds)
    lines = [
        f"time: about {duration(estimate.seconds)} ({told}); {step} for a step, give or take"
        f" {estimate.error:.0%}, as measured here on {estimate.measured}"
    ]
    if estimate.memory_bytes is None or estimate.memory_error is None:
        lines.append("memory while training: cannot be measured on this system")
    else:
        lines.append(
            f"memory while training: about {size_text(estimate.memory_bytes)}, give or take {estimate.memory_error:.0%}"
        )
    return [*lines, *(f"note: {note}" for note in estimate.notes)]


def _disk(made: Plan) -> str:
    """What the run writes."""
    from velatura.inventory import size_text

    count = "one checkpoint" if made.checkpoints == 1 else f"{made.checkpoints} checkpoints"
    return (
        f"{count} of {size_text(made.disk['adapter'])} each ({made.trained / 1e6:.1f} million numbers are trained);"
        f" {size_text(made.disk['run'])} on the disk in all"
    )
