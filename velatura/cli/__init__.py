"""The command line: one file per command, each calling the functions of `velatura.api`.

Exit codes: 0 done, 1 problems were found, 2 it could not be done, 130 interrupted. What was asked for
goes to stdout, progress and errors go to stderr. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from velatura.cli import (
    bases,
    compare,
    dataset,
    demo,
    detect,
    doctor,
    evaluate,
    generate,
    hint,
    lora,
    new,
    output,
    plan,
    read,
    recipe,
    refine,
    runs,
    train,
)
from velatura.cli.grouped import Grouped
from velatura.cli.output import Interrupted
from velatura.errors import VelaturaError

INTERRUPTED = 130

app = typer.Typer(
    name="velatura",
    no_args_is_help=True,
    rich_markup_mode=None,  # importing rich for help would double the time to answer
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo.demo)
app.command()(new.new)
app.add_typer(dataset.app)
app.add_typer(recipe.app)
app.command()(plan.plan)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command(cls=Grouped)(generate.generate)
app.command()(compare.compare)
app.command()(hint.hint)
app.command()(detect.detect)
app.add_typer(refine.app)
app.command()(read.read)
app.add_typer(lora.app)
app.add_typer(runs.app)
app.command()(bases.bases)
app.command()(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        from velatura.version import __version__

        output.say(f"velatura {__version__}")
        raise typer.Exit


@app.callback()
def velatura(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Teach an image model your own hand: prepare pictures, train a LoRA, judge it, paint with it.

    Begin with `velatura demo`, or with `velatura new my-style --images FOLDER` for pictures of your own.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the process's own where none is given. Returns the exit code."""
    _prepare()
    as_json = "--json" in (sys.argv[1:] if arguments is None else arguments)
    try:
        _asked_for(sys.argv[1:] if arguments is None else arguments)(args=arguments, prog_name="velatura")
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            output.tell("stopped")
        return ended.code if isinstance(ended.code, int) else 0
    except Interrupted as stopped:
        output.tell(str(stopped))
        return INTERRUPTED
    except VelaturaError as error:
        output.report(error, as_json=as_json)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the last stop: everything must end in a sentence
        from velatura.cli import crash

        output.report(crash.explain(error), as_json=as_json)
        return VelaturaError.exit_code
    return 0


def _asked_for(arguments: Sequence[str]) -> typer.Typer:
    """The command line with the one command in it that is named first: to make all takes longer than most take to run.

    All of it, where none is: for help, and for what is no command.
    """
    name = next(iter(arguments), "")
    commands = [one for one in app.registered_commands if one.callback is not None and one.callback.__name__ == name]
    groups = [one for one in app.registered_groups if one.typer_instance and one.typer_instance.info.name == name]
    if not commands and not groups:
        return app
    narrow = copy.copy(app)
    narrow.registered_commands, narrow.registered_groups = commands, groups
    return narrow


def _prepare() -> None:
    """Consoles that cannot show every letter show its number; libraries keep their chatter and their telemetry."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    for name, value in (
        ("HF_HUB_DISABLE_TELEMETRY", "1"),
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("DIFFUSERS_VERBOSITY", "error"),
    ):
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")
