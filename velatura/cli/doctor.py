"""`velatura doctor`: what this machine offers, or what a base is, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from velatura.cli import output
from velatura.cli.options import Json

if TYPE_CHECKING:
    from velatura.doctor.examine import Finding
    from velatura.inventory import BaseFound

FOUND_PROBLEMS = 1


def doctor(
    base: Annotated[
        str | None, typer.Option(help="Look at this base model instead: a name, a file, a folder, or an id.")
    ] = None,
    vae: Annotated[str, typer.Option(metavar="FILE", help="Its autoencoder, where that is another file.")] = "",
    text_encoders: Annotated[
        list[str] | None, typer.Option("--text-encoder", metavar="FILE", help="Its text encoder; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what this machine offers, and what is missing.

    Device, memory, versions, folders, and how to get what is not there. With --base: what that base model is, from
    its headers alone. Exits with 1 where something essential is wrong.
    """
    from velatura.doctor.examine import examine

    if base is None:
        findings = examine()
        told: object = [finding.to_dict() for finding in findings]
    else:
        from velatura import bases, inventory

        found = inventory.examine(bases.find(base, vae=vae, text_encoders=text_encoders or [], fetch=False))
        findings, told = list(_base(found)), found.to_dict()
    if as_json:
        output.emit(told)
    else:
        marks = {"good": "ok", "note": "--", "wrong": "!!"}
        rows = [(marks[one.state], one.subject, one.says + (f"; {one.fix}" if one.fix else "")) for one in findings]
        output.say(output.table(("", "subject", "found"), rows))
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(FOUND_PROBLEMS)


def _base(found: BaseFound) -> Iterator[Finding]:
    """A base model, and each of its parts."""
    from velatura.doctor.examine import Finding
    from velatura.inventory import size_text

    yield Finding("base", f"{found.name} in {output.shown(Path(found.where))}")
    yield Finding("family", found.family)
    yield Finding("variant", ", ".join((found.variant, *found.traits)))
    yield Finding("size", size_text(found.size))
    for part in found.parts:
        if not part.files:
            yield Finding(part.title, "missing", "wrong", part.fix)
            continue
        elsewhere = sorted({Path(path).name for path in part.files if not path.startswith(found.where)})
        beside = f", from {', '.join(elsewhere)}" if elsewhere else ""
        yield Finding(part.title, f"{part.precision}, {size_text(part.size)}{beside}")
