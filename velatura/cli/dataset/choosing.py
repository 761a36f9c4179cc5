"""`velatura dataset list`, `keep`, `reject`, `undecide`, `pick`: which pictures of a folder are taken."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from velatura.cli import output, progress
from velatura.cli.dataset.shared import Folder, Workers, dataset_in, some, tell_numbers
from velatura.cli.options import Json
from velatura.errors import DatasetError, counted

if TYPE_CHECKING:
    from velatura.dataset.choice import Choice, Status
    from velatura.dataset.survey import Surveyed

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Pictures, with or without ending.")]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="FILTER", help='Only where it holds: "width>=1024", "status=undecided"; repeatable.'),
]
SHOWN = ("name", "status", "width", "height", "sharpness", "noise", "framing", "origin")


def listing(
    folder: Folder,
    where: Where = None,
    sort: Annotated[str, typer.Option(help="Value to sort by; a minus before it turns the order.")] = "name",
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """List pictures with what is measured of them, filtered and sorted.

    Values: width, height, pixels (millions), shape, bytes, sharpness, noise, brightness, contrast, saturation, detail,
    captions, status, framing, origin, name.
    """
    from velatura.dataset.picking import KEYS, matching, value

    pictures, made = _all(dataset_in(folder), workers)
    found = matching(pictures, where or (), made)
    key = sort.removeprefix("-")
    if key not in KEYS:
        raise DatasetError(f"there is no value {key}", fix=", ".join(KEYS))
    if key != "name":
        found.sort(key=lambda one: _order(value(one, key, made.status(one.picture.name))), reverse=sort.startswith("-"))
    rows = [{name: value(one, name, made.status(one.picture.name)) for name in KEYS} for one in found]
    if as_json:
        output.emit({"pictures": rows})
        return
    output.say(output.table(SHOWN, [[_cell(row[name]) for name in SHOWN] for row in rows]))
    output.say(f"{len(found)} of {counted(len(pictures), 'picture')}")


def keep(folder: Folder, names: Names = None, where: Where = None, as_json: Json = False) -> None:
    """Decide for pictures."""
    _decide(folder, names, where, "keep", as_json)


def reject(folder: Folder, names: Names = None, where: Where = None, as_json: Json = False) -> None:
    """Decide against pictures: nothing that follows sees them, and no file is touched."""
    _decide(folder, names, where, "reject", as_json)


def undecide(folder: Folder, names: Names = None, where: Where = None, as_json: Json = False) -> None:
    """Take decisions back."""
    _decide(folder, names, where, "undecided", as_json)


def pick(
    folder: Folder,
    count: Annotated[int, typer.Option("--n", min=1, help="How many pictures.")] = 30,
    balanced: Annotated[
        str | None, typer.Option("--balanced", "--balance", help="Even shares of each kind: framing or origin.")
    ] = None,
    diverse: Annotated[bool, typer.Option("--diverse", help="As unlike one another as can be; the default.")] = False,
    where: Where = None,
    sheet: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a contact sheet of the pick, .png.")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Take it: only these, and what is kept, are chosen.")] = False,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Propose a set out of a pile, and name what is missing; rejected pictures are never picked.

    Kept pictures are in every pick. Nothing is decided without --apply, and that can be undone.
    """
    from velatura.dataset import picking

    if diverse and balanced:
        raise DatasetError("a pick is either diverse or balanced", fix="give one of them")
    target = dataset_in(folder)
    pictures, made = _all(target, workers)
    pool = [one for one in picking.matching(pictures, where or (), made) if made.status(one.picture.name) != "reject"]
    kept = [one.picture.name for one in pool if made.status(one.picture.name) == "keep"]
    if balanced:
        picked = picking.balanced(pool, count, by=balanced, kept=kept)
    else:
        picked = picking.diverse(pool, count, kept=kept)
    if sheet is not None:
        _sheet(sheet, [one for name in picked.names for one in pool if one.picture.name == name])
    if apply:
        chosen = made.with_status(picked.names, "keep")
        _write(target, type(chosen)(chosen.decided, True), f"pick {len(picked.names)} of {len(pool)}")
    if as_json:
        output.emit({"names": picked.names, "missing": picked.missing, "applied": apply})
        return
    for name in picked.names:
        output.say(name)
    for one in picked.missing:
        output.tell(f"missing: {one}")
    if not apply:
        output.tell(f"a proposal: {len(picked.names)} of {len(pool)}; --apply takes it")


def _all(folder: Path, workers: int | None) -> tuple[list[Surveyed], Choice]:
    """Every readable picture, whatever was decided on it."""
    from velatura import settings
    from velatura.dataset import choice
    from velatura.dataset.survey import Surveying

    work = Surveying(folder, cache=settings.cache_folder(), workers=workers, everything=True)
    progress.follow(work, as_json=False, interrupted="stopped; what was read is kept")
    assert work.result is not None
    return list(work.result.pictures), choice.load(folder)


def _decide(folder: Path, names: list[str] | None, where: list[str] | None, status: Status, as_json: bool) -> None:
    from velatura.dataset import choice, layout, picking
    from velatura.dataset.reframing import pick_named

    target = dataset_in(folder)
    if not names and not where:
        raise DatasetError("no picture is named", fix="name pictures, or give --where")
    made = choice.load(target)
    if where:
        pictures, made = _all(target, None)
        found = [one.picture.name for one in picking.matching(pictures, where, made)]
        found = [name for name in found if not names or name in names or name.rpartition(".")[0] in names]
    else:
        found = [entry.name for entry in pick_named(layout.find(target).entries, names or (), target)]
    changed = [name for name in found if made.status(name) != status]
    if changed:
        _write(target, made.with_status(changed, status), f"{status} {some(changed, most=3)}")
    if as_json:
        output.emit({"status": status, "names": changed})
    else:
        output.say(f"{status}: {some(changed) or 'nothing changes'}")


def _write(folder: Path, made: Choice, told: str) -> None:
    from velatura.dataset import choice
    from velatura.dataset.journal import edit

    with edit(folder, told) as changes:
        changes.write_text(choice.FILE, made.to_json())


def _sheet(path: Path, pictures: list[Surveyed]) -> None:
    import io

    from velatura.dataset import picking
    from velatura.dataset.sheet import png_sheet
    from velatura.files import write_bytes

    marks = {one.picture.name: [("note", f"{place}. {picking.framing(one)}")] for place, one in enumerate(pictures, 1)}
    buffer = io.BytesIO()
    shown = [one.picture for one in pictures]
    png_sheet(shown, marks, title=f"{counted(len(shown), 'picture')} picked").save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())
    tell_numbers(shown)


def _order(found: object) -> tuple[bool, float, str]:
    """Numbers by size, words by letters, what is not measured first."""
    return (found is not None, found if isinstance(found, int | float) else 0.0, str(found))


def _cell(found: object) -> str:
    return "-" if found is None else f"{found:.3g}" if isinstance(found, float) else str(found)
