"""`velatura detect`: what a detector finds in a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from velatura.cli.options import Json


def detect(
    detector: Annotated[
        str,
        typer.Argument(
            metavar="DETECTOR",
            help="scene (drawn faces), face-cascade (photographed ones), or a YOLO: an ONNX file or its name.",
        ),
    ],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture to look in.")],
    confidence: Annotated[float, typer.Option(min=0, max=1, help="Less sure finds are left out.")] = 0.3,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="A PNG to write, with the finds drawn on it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a detector finds in a picture.

    `velatura refine detail` will see the same.
    """
    from velatura import api
    from velatura.cli import output

    finds = api.look(detector, image, confidence, out)
    if as_json:
        output.emit(
            {"finds": [{"label": one.label, "confidence": one.confidence, "box": list(one.box)} for one in finds]}
        )
        return
    rows = [(one.label, f"{one.confidence:.2f}", ",".join(f"{side:.0f}" for side in one.box)) for one in finds]
    output.say(output.table(("what", "confidence", "left,top,right,bottom"), rows) if rows else "nothing was found")
