"""`velatura demo`: the whole loop, from pictures to a judged LoRA and new images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from velatura.cli import output
from velatura.cli.options import Json
from velatura.errors import SettingsError


def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Project folder to make.")] = Path("demo"),
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Your own pictures; none: twenty are drawn in a style.")
    ] = None,
    style: Annotated[str | None, typer.Option(help="Style to draw them in; --list shows the names.")] = None,
    portraits: Annotated[
        bool, typer.Option("--portraits", help="Draw nine portraits instead, captions alike but for who is shown.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Everything that is drawn at random follows from it.")] = 1,
    list_styles: Annotated[bool, typer.Option("--list", help="Show the styles and exit.")] = False,
    as_json: Json = False,
) -> None:
    """Show the whole loop, on drawn pictures or on yours.

    Draws pictures or takes yours, trains on them, judges the LoRA, paints with it, and writes a report.
    Needs no download and no graphics card. The folder is an ordinary project afterwards.
    """
    from velatura import demo as demonstration
    from velatura.cli import ending
    from velatura.cli.progress import follow

    if images is not None and (style is not None or portraits):
        named = "--style" if style is not None else "--portraits"
        raise SettingsError(
            f"{named} says how pictures are drawn, and --images brings them", fix="leave one of them out"
        )
    if list_styles:
        styles = list(demonstration.styles())
        if as_json:
            output.emit({name: sentence for name, sentence in styles})
        else:
            output.say(output.table(("style", "what it looks like"), styles))
        return
    done = follow(
        demonstration.run(
            folder, images=images, style=style or demonstration.DEFAULT_STYLE, portraits=portraits, seed=seed
        ),
        as_json=as_json,
        interrupted="stopped; the same command goes on from the last checkpoint",
    )
    if done is not None and not as_json:
        ending.show(done)
