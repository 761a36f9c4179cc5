"""`velatura bases`: the base models there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from velatura.cli import output
from velatura.cli.options import Json

if TYPE_CHECKING:
    from velatura.inventory import BaseFound


def bases(as_json: Json = False) -> None:
    """List the base models there are, and what each lacks.

    Those that come with the program, in your folders of bases, in those of A1111, Forge, ComfyUI and others where they
    lie in a usual place, and in the Hugging Face cache.
    """
    from velatura import inventory

    found = inventory.every()
    if as_json:
        for one in found:
            output.emit(one.to_dict())
        return
    heads = ("base", "family", "variant", "missing", "precision", "size", "where")
    output.say(output.table(heads, [_row(one) for one in found]))


def _row(one: BaseFound) -> tuple[str, ...]:
    from velatura.inventory import size_text

    where = output.shown(Path(one.where))
    if one.problem:
        return one.name, "-", one.problem, "-", "-", "-", where
    variant = ", ".join((one.variant, *one.traits))
    missing = ", ".join(part.title for part in one.missing) or "-"
    return one.name, one.family, variant, missing, one.precision, size_text(one.size), where
