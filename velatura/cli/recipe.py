"""`velatura recipe ...`: the recipes that come with the program, and those of other trainers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from velatura.cli import output
from velatura.cli.options import Json

if TYPE_CHECKING:
    from velatura.foreign.reading import Translated
    from velatura.schema import Settings

app = typer.Typer(name="recipe", no_args_is_help=True, help="Recipes: those shipped, and those of other trainers.")


@app.callback()
def recipe() -> None:
    """Recipes: look into those that come with the program, carry over those of other trainers, check your own."""


@app.command(name="list")
def listed(as_json: Json = False) -> None:
    """List the recipes that come with the program.

    `velatura new NAME --recipe RECIPE` starts a project from one.
    """
    from velatura import shipped

    found = shipped.every()
    if as_json:
        for one in found:
            output.emit({"name": one.name, "about": one.about})
        return
    output.say(output.table(("recipe", "for"), [(one.name, one.about) for one in found]))


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `velatura recipe list` has it.")],
    as_json: Json = False,
) -> None:
    """Print a recipe that comes with the program, with where its figures come from."""
    from velatura import shipped

    found = shipped.find(name)
    if as_json:
        output.emit({"name": found.name, "about": found.about, "recipe": found.recipe.model_dump()})
    else:
        output.say(found.text.rstrip())


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe or a project folder.")] = Path(),
    as_json: Json = False,
) -> None:
    """Say whether a recipe can be read, and which of its settings are not the usual ones.

    Nothing else is looked at; `velatura plan` also looks at the pictures and the base.
    """
    from velatura import recipe as recipes

    told = recipes.load(file)
    unusual = _unusual(told)
    if as_json:
        output.emit({"settings": unusual})
        return
    output.say(
        f"{told.name} can be read; {len(unusual)} of {len(recipes.known_keys())} settings are not the usual ones."
    )
    for key, value in unusual.items():
        output.say(f"  {key} = {output.value(value)}")


@app.command()
def schema() -> None:
    """Print the JSON schema of recipes, for editors and programs."""
    from velatura.recipe import Recipe

    output.emit(Recipe.model_json_schema())


@app.command(name="import")
def imported(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A script or text with a command line, or a trainer's TOML, JSON or YAML file."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="RECIPE", help="Where to write the recipe; none: it is printed."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Carry over a recipe of another trainer.

    Reads kohya's sd-scripts and musubi-tuner (a command line, --config_file, --dataset_config), the JSON of the
    kohya_ss interface, ai-toolkit's YAML and OneTrainer's JSON. Every setting arrives, or is listed with the reason.
    """
    from velatura.errors import FileProblem
    from velatura.files import write_text
    from velatura.foreign.reading import read

    if out is not None and out.exists():
        raise FileProblem("there is something here already", where=out, fix="take another name")
    found = read(file)
    text = _with_account(found, file.name)
    if out is not None:
        write_text(out, text)
    if as_json:
        output.emit(_plain(found) | ({"recipe": output.shown(out)} if out is not None else {"text": text}))
        return
    if out is None:
        output.say(text.rstrip())
    for line in _account(found):
        (output.say if out is not None else output.tell)(line)
    if out is not None:
        output.say(f"Next: look into {output.shown(out)}, then run `velatura plan {output.shown(out)}`.")


def _unusual(told: Settings, prefix: str = "") -> dict[str, Any]:
    """The settings that are not as they are without being told."""
    from velatura.schema import Settings

    found: dict[str, Any] = {}
    for name, field in type(told).model_fields.items():
        value, usual = getattr(told, name), field.get_default(call_default_factory=True)
        if isinstance(value, Settings):
            found |= _unusual(value, f"{prefix}{name}.")
        elif value != usual:
            found[prefix + name] = value
    return found


def _account(found: Translated) -> list[str]:
    """What became of every setting, in lines."""
    told = [one for one in found.carried if one.told]
    untold = [one for one in found.carried if not one.told]
    lines = [f"From {found.trainer}: {len(told)} settings carried over, {len(found.left)} not."]
    for title, some in (("carried over", told), ("its own defaults, which are others here", untold)):
        if some:
            rows = [(f"  {one.key}", output.value(one.value), one.setting, output.value(one.becomes)) for one in some]
            lines += ["", *output.table((title, "", "here", ""), rows).splitlines()]
    if found.left:
        lines += ["", "not carried over"]
        for why, keys in _by_reason(found).items():
            lines += [f"  {', '.join(keys)}", f"    {why}"]
    return [*lines, *([""] if found.notes else []), *(f"note: {note}" for note in found.notes)]


def _by_reason(found: Translated) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for one in found.left:
        reasons.setdefault(one.why, []).append(f"{one.key} = {output.value(one.value)}")
    return reasons


def _with_account(found: Translated, name: str) -> str:
    """The recipe's text; above it, where it comes from and what was not carried over."""
    from velatura import recipe as recipes

    lines: list[str] = [f"From {name}, a file of {found.trainer}."]
    if found.left:
        lines += ["", "Not carried over:"]
        for why, keys in _by_reason(found).items():
            lines += [*_wrapped(", ".join(keys), "  "), *_wrapped(why, "    ")]
    comments = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    return f"{comments}\n{recipes.to_toml(found.recipe, comments=True)}"


def _wrapped(text: str, indent: str) -> Iterable[str]:
    import textwrap

    return textwrap.wrap(
        output.printable(text).replace("\n", " "), 100, initial_indent=indent, subsequent_indent=indent
    )


def _plain(found: Translated) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "trainer": found.trainer,
        "carried": [asdict(one) for one in found.carried],
        "left": [asdict(one) for one in found.left],
        "notes": list(found.notes),
        "settings": found.recipe.model_dump(),
    }
