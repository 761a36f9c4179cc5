"""`velatura dataset edit` and `stats`: captions changed in bulk, and what they come to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from velatura.cli import output
from velatura.cli.dataset.shared import Folder, as_list, dataset_in, tell
from velatura.cli.options import Json
from velatura.errors import DatasetError, counted

if TYPE_CHECKING:
    from velatura.dataset.editing import Planned, Rewording

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Pictures; none: every chosen one.")]
Where = Annotated[
    str, typer.Option(metavar="FILTER", help="Only where it holds: 'tag:x and not caption:\"y\" and width:<1024'.")
]

SHOWN = 20
"""Changed captions that are shown, unless all are asked for."""


def edit(
    folder: Folder,
    names: Names = None,
    where: Where = "",
    replace: Annotated[tuple[str, str], typer.Option(metavar="OLD NEW", help="Text for text, anywhere.")] = ("", ""),
    regex: Annotated[bool, typer.Option("--regex", help="--replace takes a regular expression.")] = False,
    rename: Annotated[tuple[str, str], typer.Option(metavar="OLD NEW", help="A whole tag for another.")] = ("", ""),
    unify: Annotated[bool, typer.Option("--unify", help="One word of near-synonyms and spellings.")] = False,
    remove: Annotated[list[str] | None, typer.Option(metavar="TAGS", help='Take tags away: "blurry, *hair".')] = None,
    add: Annotated[list[str] | None, typer.Option(metavar="TAGS", help="Put tags where they are missing.")] = None,
    first: Annotated[bool, typer.Option("--first", help="Added tags stand first, behind the trigger.")] = False,
    before: Annotated[str, typer.Option(metavar="TAG", help="Added tags stand before this one.")] = "",
    trigger: Annotated[str, typer.Option(metavar="WORD", help="Stands first in every caption, and once.")] = "",
    dedupe: Annotated[bool, typer.Option("--dedupe", help="Each tag once.")] = False,
    sort: Annotated[str, typer.Option(metavar="HOW", help='frequency, alphabetic, or tags in order: "a, b".')] = "",
    keep_first: Annotated[int, typer.Option(min=0, help="Tags at the beginning that are not sorted.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Show every change, not the first 20.")] = False,
    as_json: Json = False,
) -> None:
    """Edit captions in bulk, in the order of these options; it can be undone.

    Filters know tag, caption, name, tags, tokens, letters, captions, author, width and height; and, or, not,
    parentheses; the wildcards * and ?.
    """
    from velatura.dataset import editing

    if first and before:
        raise DatasetError("tags stand first or before another", fix="give one of --first and --before")
    given = editing.Rewording(
        replace=(replace,) if replace[0] else (),
        regex=regex,
        rename=(rename,) if rename[0] else (),
        unify=unify,
        remove=tuple(remove or ()),
        add=tuple(add or ()),
        place="first" if first else before or "last",
        trigger=trigger,
        deduplicate=dedupe,
        sort=sort if sort in editing.SORTS else tuple(tag.strip() for tag in sort.split(",") if tag.strip()),
        keep_first=keep_first,
    )
    if given in (editing.Rewording(), editing.Rewording(place=given.place, keep_first=keep_first, regex=regex)):
        raise DatasetError("nothing is to be done", fix="give --add, --remove, --rename, --replace, --trigger, --sort")
    selection = editing.Selection(tuple(names or ()), where, counting(folder, wanted="tokens" in where))
    target = dataset_in(folder)
    if dry_run:
        done = editing.plan(target, given, selection)
    else:
        done = editing.apply(target, given, selection, told=_told(given))
    if as_json:
        output.emit(_as_dict(done, applied=not dry_run))
        return
    tell(done.problems)
    for old, new in done.unified:
        output.say(f"{old} is now {new}")
    for one in done.changes if show_all else done.changes[:SHOWN]:
        output.say(one.file)
        for sign, captions in (("-", one.before or ()), ("+", one.after)):
            for text in captions:
                output.say(f"  {sign} {text}")
    if len(done.changes) > SHOWN and not show_all:
        output.say(f"... and {len(done.changes) - SHOWN} more; --all shows them")
    verb = "would change" if dry_run else "changed"
    output.say(f"{verb}: {len(done.changes)} of {counted(done.selected, 'caption')}")


def stats(
    folder: Folder,
    names: Names = None,
    where: Where = "",
    most: Annotated[int, typer.Option(min=1, help="Tags that are listed.")] = 30,
    side: Annotated[
        int | None, typer.Option(min=64, help="Side of the training area; by default the project's, or 1024.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how often each tag stands, which stand together, how long captions are, and the buckets.

    With --where, which pictures a filter finds is listed too.
    """
    from velatura.api import datasets
    from velatura.dataset import captioned, editing
    from velatura.dataset.statistics import bucket_table, statistics

    target, count = dataset_in(folder), datasets.counting(folder)
    found, problems = captioned.read(target, names or ())
    found = editing.select(target, found, editing.Selection((), where, count))
    made = statistics(found, count=count)
    area = side or datasets.training_side(folder) or 1024
    groups, unread = bucket_table(found, side=area)
    problems += unread
    if as_json:
        together = [{"tags": one.tags, "count": one.count, "share": one.share} for one in made.together]
        output.emit(
            {
                "names": [one.name for one in found],
                "captioned": made.captioned,
                "frequencies": dict(made.frequencies.most_common()),
                "together": together,
                "lengths": {"unit": "tokens", "longest": made.longest, "captions": made.lengths},
                "buckets": {"side": area, "sizes": [{"size": size, "pictures": number} for size, number in groups]},
                "problems": as_list(problems),
            }
        )
        return
    tell(problems)
    if where:
        for one in found:
            output.say(one.name)
    pictures, written = counted(made.pictures, "picture"), counted(made.captions, "caption")
    output.say(f"{pictures}, {made.captioned} with a caption, {written}")
    rows = [[tag, number, f"{number / made.pictures:.0%}"] for tag, number in made.frequencies.most_common(most)]
    output.say(output.table(["tag", "pictures", "share"], rows))
    if made.together:
        output.say()
        pairs = [[" + ".join(one.tags), one.count, f"{one.share:.0%}"] for one in made.together[:10]]
        output.say(output.table(["together", "pictures", "of the rarer"], pairs))
    output.say()
    output.say(output.table(["tokens", "captions"], [[name, number] for name, number in made.lengths.items()]))
    output.say()
    rows = [[f"{width} x {height}", number] for (width, height), number in groups]
    output.say(output.table([f"bucket at {area}", "pictures"], rows))


def counting(folder: Path, *, wanted: bool) -> Callable[[str], int] | None:
    """How the project's base counts tokens, or CLIP; read only where it is asked for."""
    if not wanted:
        return None
    from velatura.api import datasets

    return datasets.counting(folder)


def _told(given: Rewording) -> str:
    """The edit as the history names it."""
    parts = [f"replace {old!r} by {new!r}" for old, new in given.replace]
    parts += [f"rename {old} to {new}" for old, new in given.rename]
    parts += ["unify"] if given.unify else []
    parts += [f"remove {', '.join(given.remove)}"] if given.remove else []
    parts += [f"add {', '.join(given.add)}"] if given.add else []
    parts += [f"trigger {given.trigger}"] if given.trigger else []
    parts += ["deduplicate"] if given.deduplicate else []
    if given.sort:
        parts.append(f"sort by {given.sort if isinstance(given.sort, str) else ', '.join(given.sort)}")
    return "captions: " + "; ".join(parts)


def _as_dict(done: Planned, *, applied: bool) -> dict[str, object]:
    changes = [{"name": one.name, "file": one.file, "before": one.before, "after": one.after} for one in done.changes]
    return {
        "applied": applied,
        "selected": done.selected,
        "changes": changes,
        "unified": dict(done.unified),
        "problems": as_list(done.problems),
    }
