"""`velatura compare`: one picture over and over, with something changed along axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from velatura.cli.options import Json
from velatura.errors import SettingsError

if TYPE_CHECKING:
    from velatura.sheets.axes import Axis, Setting, Value
    from velatura.sheets.plan import Sheet

AXIS = "NAME=VALUES"


def compare(
    what: Annotated[
        str | None,
        typer.Argument(help="The prompt; or a sheet: its SHEET.toml, or the folder of one, which is gone on with."),
    ] = None,
    x: Annotated[
        str | None,
        typer.Option("--x", metavar=AXIS, help="What changes across, as in lora.strength=0,0.4,0.8 or seed=1-4."),
    ] = None,
    y: Annotated[
        str | None, typer.Option("--y", metavar=AXIS, help="What changes downwards, as in run.checkpoint=all.")
    ] = None,
    z: Annotated[str | None, typer.Option("--z", metavar=AXIS, help="What changes from picture to picture.")] = None,
    more: Annotated[
        list[str] | None, typer.Option("--axis", metavar=AXIS, help="What changes besides; repeatable.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="What all pictures have, as in steps=12 or hires.scale=2; repeatable."
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Base model: a name, a file or a folder; none: the project's, else pocket.")
    ] = None,
    loras: Annotated[
        list[str] | None, typer.Option("--lora", metavar="FILE:STRENGTH", help="LoRA to paint with; repeatable.")
    ] = None,
    controls: Annotated[
        list[str] | None,
        typer.Option(
            "--control",
            metavar="FILE,hint=IMAGE",
            help='ControlNet and its hint, as in "canny, hint=a.png"; control.weight may be an axis; repeatable.',
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Run whose checkpoints run.checkpoint means; none: the project's newest."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="How many pictures are painted at a time, at most.")] = 8,
    one_by_one: Annotated[
        bool,
        typer.Option("--apart", help="Paint no LoRAs or strengths that differ in one batch: slower, and bit for bit."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the sheet; none: a new one in sheets/ of the project.")
    ] = None,
    project: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Project whose LoRAs and runs are meant; none: the one you are in."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Paint sheets over settings, LoRAs and checkpoints, to compare.

    The page, sheet.html in the folder of the sheet, holds all pictures and may be sent as it is.
    """
    from velatura import api, recipe
    from velatura import project as projects
    from velatura.api.comparing import varying
    from velatura.cli import ending
    from velatura.cli.progress import follow

    known = varying.known()
    sheet, folder = _begun(what, known)
    project = project or (projects.containing(folder) if folder else None) or projects.containing(Path.cwd())
    sheet = replace(
        sheet,
        axes=_axes(sheet, [one for one in (x, y, z, *(more or ())) if one is not None], known),
        loras=tuple(loras) if loras else sheet.loras,
        controls=tuple(controls) if controls else sheet.controls,
        run=run or sheet.run,
        settings={**sheet.settings, **_settings(settings or [], known), **({"base": base} if base else {})},
    )
    own = (recipe.load(project) if project else recipe.Recipe()).base
    request = api.GenerateRequest(
        prompt=sheet.prompt,
        base=own.model,
        base_sha256=own.sha256,
        strict=own.strict,
        vae=own.vae,
        text_encoders=tuple(own.text_encoders),
        clip_skip=own.clip_skip,
        memory=recipe.load(project).memory if project else recipe.Recipe().memory,
        batch=batch,
        project=project,
    )
    if "base" in sheet.settings or any(axis.name == "base" for axis in sheet.axes):
        request = replace(request, base_sha256="", vae="", text_encoders=(), clip_skip=None)
    told = api.CompareRequest(sheet, request, out or folder or _new(project), shared=not one_by_one)
    done = follow(
        api.compare(told),
        as_json=as_json,
        interrupted=f"stopped; velatura compare {told.folder} goes on",
    )
    if done is not None and not as_json:
        ending.show(done)


def _begun(what: str | None, known: dict[str, Setting]) -> tuple[Sheet, Path | None]:
    """The sheet that is named, and its folder; or a new one of a prompt."""
    from velatura.sheets import plan
    from velatura.sheets.folder import SHEET

    if what is None:
        return plan.Sheet(()), None
    path = Path(what)
    if len(what) < 4096 and "\n" not in what:
        if path.is_dir() and (path / SHEET).is_file():
            return plan.load(path / SHEET, known), path
        if what.endswith(".toml"):
            return plan.load(path, known), path.parent if path.name == SHEET else None
        if path.is_dir():
            raise SettingsError("this folder holds no sheet", where=what, fix=f"name one with a {SHEET}")
    return plan.Sheet((), prompt=what), None


def _axes(sheet: Sheet, given: Sequence[str], known: dict[str, Setting]) -> tuple[Axis, ...]:
    """The sheet's axes with those that are given: one of the same name has its values replaced."""
    from velatura.sheets import axes

    found = list(sheet.axes)
    for told in given:
        name, equals, values = told.partition("=")
        if not equals:
            raise SettingsError(f"{told!r} has no values", fix=f"write it as {AXIS}, as in seed=1,2,3")
        axis = axes.read(name, values, known)
        place = next((at for at, one in enumerate(found) if (one.name, one.needle) == (axis.name, axis.needle)), None)
        if place is None or place >= len(sheet.axes):
            found.append(axis)
        else:
            found[place] = axis
    return tuple(found)


def _settings(given: Sequence[str], known: dict[str, Setting]) -> dict[str, Value]:
    from velatura.sheets import plan

    found = {}
    for told in given:
        name, equals, value = told.partition("=")
        if not equals:
            raise SettingsError(f"{told!r} has no value", fix="write it as NAME=VALUE, as in steps=12")
        setting, read = plan.single(name, value, known)
        found[setting] = read
    return found


def _new(project: Path | None) -> Path:
    """A folder that is not there yet."""
    parent = (project or Path.cwd()) / "sheets"
    number = 1
    while (parent / f"{number:04d}").exists():
        number += 1
    return parent / f"{number:04d}"
