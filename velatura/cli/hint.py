"""`velatura hint`: what a ControlNet will see of a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from velatura.cli.options import Json


def hint(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="What to make: canny, scribble, tile or invert.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture to make it of.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to; none: beside it, IMAGE-KIND.png.")
    ] = None,
    low: Annotated[
        float | None,
        typer.Option(help="canny's lower threshold (100), scribble's (32), how many times coarser tile is (1)."),
    ] = None,
    high: Annotated[float | None, typer.Option(help="canny's upper threshold (200).")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Of the picture that it is for; none: the picture's own.")
    ] = None,
    fit: Annotated[str, typer.Option(help="How the picture is made to fit: crop, stretch or fill.")] = "crop",
    as_json: Json = False,
) -> None:
    """Make the hint of a picture that a ControlNet sees.

    `velatura generate --control "FILE, hint=IMAGE, preprocess=KIND"` makes the same by itself.
    """
    from velatura import api
    from velatura.cli import output

    path = api.write_hint(image, kind, out, low=low, high=high, size=size, fit=fit)
    if as_json:
        output.emit({"file": str(path)})
    else:
        output.say(output.shown(path))
