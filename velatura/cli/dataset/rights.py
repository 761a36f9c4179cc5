"""`velatura dataset rights`: whose pictures these are."""

from __future__ import annotations

from typing import Annotated

import typer

from velatura.cli import output
from velatura.cli.dataset.shared import FOUND_PROBLEMS, Folder, dataset_in, some
from velatura.cli.options import Json


def rights(
    folder: Folder,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Pictures; none: all of them.")] = None,
    author: Annotated[str | None, typer.Option(help="Who made them.")] = None,
    source: Annotated[str | None, typer.Option(help="Where they come from: drawn for this, a page.")] = None,
    licence: Annotated[str | None, typer.Option(help="Terms on which they may be used.")] = None,
    consent: Annotated[str | None, typer.Option(help="Who agreed to what, and where that is written down.")] = None,
    read: Annotated[bool, typer.Option("--read", help="Note what the files themselves say.")] = False,
    as_json: Json = False,
) -> None:
    """Note or show source, author, licence and consent, in rights.toml; exits with 1 where something is unknown.

    Read are camera data, XMP, painting programs' texts, C2PA manifests (signatures are not checked), and what
    gallery-dl writes beside a picture.
    """
    from velatura.dataset import layout
    from velatura.dataset import rights as record_of
    from velatura.dataset.journal import edit
    from velatura.dataset.reframing import pick_named

    target = dataset_in(folder)
    entries = pick_named(layout.find(target).entries, names or (), target)
    record = before = record_of.load(target)
    given = {"author": author, "source": source, "licence": licence, "consent": consent}
    told = {key: value for key, value in given.items() if value is not None}
    if told:
        record = record.with_told([entry.name for entry in entries] if names else (), told)
    if read:
        for entry in entries:
            found = record_of.of_file(entry.path)
            if found != record_of.Rights():
                record = record.with_picture(entry.name, found)
    if record != before:
        with edit(target, "note rights") as changes:
            changes.write_text(record_of.FILE, record.to_toml())
    gaps = record_of.gaps(record, [entry.name for entry in entries])
    if as_json:
        output.emit({"rights": {entry.name: record.of(entry.name).__dict__ for entry in entries}, "unknown": gaps})
    else:
        rows = [
            [entry.name, *(getattr(record.of(entry.name), key) or "-" for key in record_of.KEYS)] for entry in entries
        ]
        output.say(output.table(["picture", *record_of.KEYS], rows))
        for key, lacking in gaps.items():
            output.say(f"{key} unknown: {some(lacking)}")
    if gaps:
        raise typer.Exit(FOUND_PROBLEMS)
