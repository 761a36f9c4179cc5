"""`velatura dataset buckets` and `split`: what training will see, shown before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from velatura.cli import output
from velatura.cli.dataset.shared import Folder, counted, dataset_in, some
from velatura.cli.options import Json


def buckets(
    folder: Folder,
    side: Annotated[int, typer.Option(min=64, help="Side of the training area in pixels.")] = 1024,
    step: Annotated[int, typer.Option(min=1, help="Sides are multiples of it.")] = 64,
    minimum: Annotated[int | None, typer.Option(help="Shortest side; by default half of --side.")] = None,
    maximum: Annotated[int | None, typer.Option(help="Longest side; by default twice --side.")] = None,
    no_upscale: Annotated[bool, typer.Option("--no-upscale", help="Never enlarge; kohya's bucket_no_upscale.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Pictures of one step.")] = 4,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a picture of what is cut away, .png.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which size each picture is trained at, and what is cut away; sizes are kohya's."""
    from velatura.dataset import buckets as sizes
    from velatura.dataset import shown
    from velatura.dataset.prepared import prepare
    from velatura.dataset.scan import scan

    prepared = prepare(
        scan(dataset_in(folder)),
        area=(side, side),
        step=step,
        minimum=minimum or max(step, side // 2),
        maximum=maximum or side * 2,
        no_upscale=no_upscale,
    )
    cuts, short = shown.cuts(prepared), shown.short_batches(prepared, batch=batch)
    groups = sizes.grouped([one.bucket for one in prepared])
    if sheet is not None:
        import io

        from velatura.files import write_bytes

        buffer = io.BytesIO()
        shown.picture(prepared).save(buffer, "PNG")
        write_bytes(sheet, buffer.getvalue())
    if as_json:
        output.emit(
            {
                "buckets": [{"size": one.size, "pictures": len(one.pictures)} for one in groups],
                "pictures": [one.__dict__ for one in cuts],
                "short_batches": [{"size": size, "pictures": count} for size, count in short.items()],
            }
        )
        return
    for one in groups:
        tail = f", last batch of {short[one.size]}" if one.size in short else ""
        output.say(f"{one.size[0]} x {one.size[1]}: {counted(len(one.pictures), 'picture')}{tail}")
    rows = [[one.name, f"{one.bucket[0]} x {one.bucket[1]}", f"{one.lost:.0%}", f"{one.scale:.2f} x"] for one in cuts]
    output.say(output.table(["picture", "bucket", "cut away", "scaled"], rows))


def split(
    folder: Folder,
    share: Annotated[float, typer.Option(min=0, max=0.5, help="Share held out; between 2 and 8 pictures.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Another seed holds out others.")] = 0,
    as_json: Json = False,
) -> None:
    """Show which pictures are held out to judge by; near-duplicates stay together."""
    from velatura.dataset.duplicates import near_duplicates
    from velatura.dataset.scan import scan
    from velatura.dataset.split import hold_out

    found = scan(dataset_in(folder), deep=False)
    groups = near_duplicates(found.pictures)
    parts = hold_out(found, share=share, seed=seed, groups=groups)
    names = [one.name for one in found.pictures]
    held, train = [names[index] for index in parts.held_out], [names[index] for index in parts.train]
    if as_json:
        together = [[names[index] for index in group] for group in groups]
        output.emit({"train": train, "held_out": held, "together": together})
        return
    output.say(f"held out: {some(held, most=8) or 'none'}")
    output.say(f"trained on: {counted(len(train), 'picture')}")
    for group in groups:
        output.say(f"together: {some([names[index] for index in group])}")
