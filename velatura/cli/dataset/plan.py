"""`velatura dataset buckets` and `split`: what training will see, shown before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from velatura.cli import output
from velatura.cli.dataset.shared import Folder, dataset_in, some, tell_numbers
from velatura.cli.options import Json
from velatura.errors import counted


def buckets(
    folder: Folder,
    side: Annotated[
        int | None, typer.Option(min=64, help="Side of the training area in pixels; by default the project's, or 1024.")
    ] = None,
    step: Annotated[int | None, typer.Option(min=1, help="Sides are multiples of it; by default 64.")] = None,
    minimum: Annotated[int | None, typer.Option(help="Shortest side; by default half of --side.")] = None,
    maximum: Annotated[int | None, typer.Option(help="Longest side; by default twice --side.")] = None,
    no_upscale: Annotated[bool, typer.Option("--no-upscale", help="Never enlarge; kohya's bucket_no_upscale.")] = False,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Pictures of one step; by default the project's, or 4.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a picture of what is cut away, .png.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which size each picture is trained at, and what is cut away; sizes are kohya's.

    Of a project that is what its recipe will train, held-out pictures too, unless sizes are given here.
    """
    from velatura.api.datasets import as_trained
    from velatura.dataset import buckets as sizes
    from velatura.dataset import shown
    from velatura.dataset.prepared import epoch as prepared_epoch
    from velatura.dataset.prepared import prepare
    from velatura.dataset.scan import scan

    asked = no_upscale or any(one is not None for one in (side, step, minimum, maximum))
    told = None if asked else as_trained(folder)
    if told is not None:
        recipe, pictures = told
        prepared, epoch, batch = pictures.prepared, pictures.epoch, batch or recipe.train.batch
    else:
        area, multiple = side or 1024, step or 64
        prepared = prepare(
            scan(dataset_in(folder)),
            area=(area, area),
            step=multiple,
            minimum=minimum or max(multiple, area // 2),
            maximum=maximum or area * 2,
            no_upscale=no_upscale,
        )
        epoch = prepared_epoch(prepared)
    cuts, short = shown.cuts(prepared), shown.short_batches(epoch, batch=batch or 4)
    groups = sizes.grouped([one.bucket for one in prepared])
    if sheet is not None:
        import io

        from velatura.files import write_bytes

        buffer = io.BytesIO()
        shown.picture(prepared).save(buffer, "PNG")
        write_bytes(sheet, buffer.getvalue())
        tell_numbers(shown.in_order(prepared))
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
    rows = [
        [
            one.name,
            f"{one.bucket[0]} x {one.bucket[1]}",
            f"{one.lost:.0%}",
            f"{one.scale:.2f} x",
            "held out" if one.held_out else "",
        ]
        for one in cuts
    ]
    titles = ["picture", "bucket", "cut away", "scaled", ""]
    some_held = any(one.held_out for one in cuts)
    output.say(output.table(titles, rows) if some_held else output.table(titles[:-1], [row[:-1] for row in rows]))


def split(
    folder: Folder,
    share: Annotated[
        float | None,
        typer.Option(
            min=0, max=0.5, help="Share held out, between 2 and 8 pictures; by default the project's, or 0.2."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Another seed holds out others; by default the project's train.seed, or 1.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which pictures are held out to judge by; near-duplicates stay together."""
    from velatura import recipe as recipes
    from velatura.api.datasets import recipe_of
    from velatura.dataset.duplicates import near_duplicates
    from velatura.dataset.scan import scan
    from velatura.dataset.split import hold_out

    found = scan(dataset_in(folder), deep=False)
    groups = near_duplicates(found.pictures)
    recipe, _ = recipe_of(folder) or (recipes.build({}), folder)
    share = recipe.dataset.hold_out if share is None else share
    parts = hold_out(found, share=share, seed=recipe.train.seed if seed is None else seed, groups=groups)
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
