"""What a set's files and its rights.toml say of where pictures come from, as findings.

What a file said once is in rights.toml, so that it still counts when `clean` has taken it out of the file.
"""

from __future__ import annotations

from velatura.dataset import rights
from velatura.dataset.findings import Finding, argument
from velatura.dataset.origin import TRAINING
from velatura.dataset.survey import Survey
from velatura.errors import counted


def check(found: Survey, record: rights.Record, *, kind: str = "", folder: str = "DIR") -> list[Finding]:
    """Places told, generated pictures, those whose makers object to training, and what is unknown.

    Args:
        found: the set.
        record: its rights.
        kind: of set; pictures of a character need consent.
        folder: the dataset as commands name it.
    """
    needed = (*rights.NEEDED, "consent") if kind == "character" else rights.NEEDED
    return [
        *_placed(found, folder),
        *_generated(found, record, folder),
        *_reserved(found, record, folder),
        *_unknown(found, record, needed, folder),
    ]


def _placed(found: Survey, folder: str) -> list[Finding]:
    names = tuple(one.picture.name for one in found.pictures if one.file.has_place)
    if not names:
        return []
    what, why = "say where they were taken", "whoever gets the set learns it"
    return [Finding("place", "note", names, what, why, f"velatura dataset clean {folder}")]


def _generated(found: Survey, record: rights.Record, folder: str) -> list[Finding]:
    names = tuple(
        one.picture.name
        for one in found.pictures
        if (one.file.origin or record.of(one.picture.name).origin).startswith("generated")
    )
    if not names:
        return []
    what, why = "made by a program that generates pictures, as their files say", "its habits are learnt with them"
    fix = f"keep them knowingly, or velatura dataset reject {folder} {argument(names)}"
    return [Finding("generated", "note", names, what, why, fix)]


def _reserved(found: Survey, record: rights.Record, folder: str) -> list[Finding]:
    """Consent that is noted settles it."""
    told = {one.picture.name: record.of(one.picture.name) for one in found.pictures}
    names = tuple(
        name
        for one in found.pictures
        if not told[name := one.picture.name].consent and (one.file.training or TRAINING in told[name].licence)
    )
    if not names:
        return []
    what = "say that models may not be trained on them, or only on conditions"
    fix = (
        f'ask whoever made them, and note it: velatura dataset rights {folder} {argument(names)} --consent "..."; '
        f"or velatura dataset reject {folder} {argument(names)}"
    )
    return [Finding("reserved", "warning", names, what, "their makers object to it", fix)]


def _unknown(found: Survey, record: rights.Record, needed: tuple[str, ...], folder: str) -> list[Finding]:
    gaps = rights.gaps(record, [one.picture.name for one in found.pictures], needed=needed)
    if not gaps:
        return []
    told = ", ".join(f"{key} of {len(names)}" for key, names in gaps.items())
    names = tuple(dict.fromkeys(name for lacking in gaps.values() for name in lacking))
    why = "what was learnt from pictures of unknown rights cannot be handed on"
    fix = f'velatura dataset rights {folder} --author "..." --source "..." --licence "..."'
    return [Finding("rights", "note", names, f"unknown: {told} of {counted(len(found.pictures), 'picture')}", why, fix)]
