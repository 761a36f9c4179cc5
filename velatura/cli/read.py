"""`velatura read`: what a picture says of how it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from velatura.cli.options import Json


def read(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture: png, jpg, webp or avif.")],
    as_json: Json = False,
) -> None:
    """Show what a picture of any program says of how it was made."""
    from velatura import api
    from velatura.cli import output

    told = api.foreign(image)
    record = api.record_of(image)
    infotext = told.infotext
    if as_json:
        output.emit(
            {
                "program": told.program,
                "prompt": infotext.prompt,
                "negative_prompt": infotext.negative_prompt,
                "settings": dict(infotext.settings),
                "lost": list(told.lost),
                "record": record,
            }
        )
        return
    output.say(f"painted by {told.program}")
    output.say(f"prompt: {infotext.prompt}")
    if infotext.negative_prompt:
        output.say(f"negative prompt: {infotext.negative_prompt}")
    output.say(output.table(("setting", "value"), list(infotext.settings.items())))
    for parent in _parents(record):
        output.say(f"made from: {parent}")
    if told.lost:
        output.say(f"not understood: {'; '.join(told.lost)}")
    again = "bit for bit on a processor" if record is not None else "as far as it goes"
    command = "refine again" if record is not None and "refined" in record else "generate --again"
    output.say(f"paint it again, {again}: velatura {command} {output.shown(image)}")


def _parents(record: Mapping[str, Any] | None) -> Iterator[str]:
    """The pictures that one was made from, the last first."""
    while record is not None and isinstance(parent := record.get("parent"), dict):
        yield f"{parent.get('name')} (sha256 {str(parent.get('sha256'))[:10]})"
        record = parent.get("record")
