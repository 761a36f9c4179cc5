"""`velatura refine`: paint parts of pictures anew, finds in detail, the whole larger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from velatura.cli.grouped import Grouped
from velatura.cli.options import Json
from velatura.cli.refining import (
    PAINTING,
    Base,
    Cfg,
    Controls,
    Exact,
    Form,
    Height,
    Loras,
    Memory,
    Negative,
    Out,
    Pictures,
    Project,
    Prompt,
    Quality,
    Sampler,
    Scheduler,
    Seed,
    Steps,
    Tuning,
    Width,
    box_of,
    changes_of,
    follow_to_end,
    pictures_of,
    project_of,
    said,
    size_of,
)

app = typer.Typer(
    name="refine",
    help="Paint parts of pictures anew, finds in detail, all larger.",
    no_args_is_help=True,
)

PART = "The part that is painted"
FINDS = "What is found"
MASKS = "Masks of finds"
EACH = "What finds are painted as"
SIZE = "How large"
TILES = "Tiles"
SEAMS = "Seams"
"""Groups of options in --help."""


@app.command(cls=Grouped)
def inpaint(
    context: typer.Context,
    pictures: Pictures,
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A picture: what is white, or opaque, is painted anew.", rich_help_panel=PART
        ),
    ] = None,
    boxes: Annotated[
        list[str] | None,
        typer.Option(
            "--box",
            metavar="L,T,R,B",
            help="A rectangle in pixels that is painted anew; repeatable.",
            rich_help_panel=PART,
        ),
    ] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="Paint anew what mask and boxes leave.", rich_help_panel=PART)
    ] = False,
    soft: Annotated[
        bool, typer.Option("--soft", help="Keep the mask's greys all the way.", rich_help_panel=PART)
    ] = False,
    only_masked: Annotated[
        bool,
        typer.Option(
            "--only-masked",
            help="Cut the part out, paint it at a size of its own, and put it back.",
            rich_help_panel=PART,
        ),
    ] = False,
    padding: Annotated[
        int, typer.Option(min=0, help="Pixels around the part that are in view then.", rich_help_panel=PART)
    ] = 32,
    blur: Annotated[float, typer.Option(min=0, help="Sigma of the mask's edges, in pixels.", rich_help_panel=PART)] = 4,
    fill: Annotated[
        str,
        typer.Option(
            help="What is there at first: original, fill (colours around), latent noise, latent nothing.",
            rich_help_panel=PART,
        ),
    ] = "original",
    denoising: Annotated[
        float | None, typer.Option(help="How much is painted anew, from 0 to 1; none: 0.75.", rich_help_panel=PART)
    ] = None,
    exact_steps: Exact = False,
    colour_correction: Annotated[
        bool,
        typer.Option(
            "--colour-correction",
            help="Bring what is painted back to the colours that were there.",
            rich_help_panel=PART,
        ),
    ] = False,
    prompt: Prompt = None,
    negative: Negative = None,
    base: Base = None,
    loras: Loras = None,
    controls: Controls = None,
    seed: Seed = None,
    steps: Steps = None,
    cfg: Cfg = None,
    sampler: Sampler = None,
    scheduler: Scheduler = None,
    tuning: Tuning = None,
    width: Width = None,
    height: Height = None,
    memory: Memory = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, help="How many of each; seeds count up.", rich_help_panel=PAINTING)
    ] = 1,
    batch: Annotated[
        int, typer.Option(min=1, help="How many of them are painted at a time.", rich_help_panel=PAINTING)
    ] = 4,
    form: Form = None,
    quality: Quality = None,
    out: Out = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Paint a part of pictures anew, by a mask or in boxes."""
    from velatura import api
    from velatura.generation.parts import Inpaint

    work = Inpaint(
        mask,
        tuple(map(box_of, boxes or ())),
        invert=invert,
        soft=soft,
        blur=blur,
        area="only masked" if only_masked else "whole picture",
        padding=padding,
        fill=fill,
    )
    request = api.RefineRequest(
        pictures_of(pictures),
        work,
        denoising,
        exact_steps,
        colour_correction,
        changes=changes_of(context),
        out=out,
        project=project_of(project),
    )
    follow_to_end(request, as_json=as_json)


@app.command(cls=Grouped)
def detail(
    context: typer.Context,
    pictures: Pictures,
    find: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DETECTOR,...",
            help="What finds: a name, or a YOLO model as an ONNX file; behind it stands what is otherwise for its"
            ' finds, as in "hand.onnx, denoising=0.3, prompt=a hand"; repeatable, one after the other.',
            rich_help_panel=FINDS,
        ),
    ] = None,
    boxes: Annotated[
        list[str] | None,
        typer.Option(
            "--box",
            metavar="L,T,R,B",
            help="A rectangle in pixels that counts as found; repeatable.",
            rich_help_panel=FINDS,
        ),
    ] = None,
    prompt: Annotated[
        str,
        typer.Option(
            help="What the finds are painted as, <lora:...> included; [SEP] between several, [SKIP] leaves one as it"
            " is, [PROMPT] is the picture's own; none: the picture's own.",
            rich_help_panel=EACH,
        ),
    ] = "",
    negative: Annotated[
        str, typer.Option(help="What they keep away from; none: as the picture was painted.", rich_help_panel=EACH)
    ] = "",
    confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Finds that are less sure are left out.", rich_help_panel=FINDS)
    ] = 0.3,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", help="Only what was taken for this; repeatable; none: all.", rich_help_panel=FINDS),
    ] = None,
    least_area: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the picture below which finds are left out.", rich_help_panel=FINDS),
    ] = 0.0,
    most_area: Annotated[
        float, typer.Option(min=0, max=1, help="Share above which they are.", rich_help_panel=FINDS)
    ] = 1.0,
    keep: Annotated[int, typer.Option(min=0, help="How many finds are painted; 0: all.", rich_help_panel=FINDS)] = 0,
    by: Annotated[
        str, typer.Option(help="Whether the largest (area) or the surest (confidence) are.", rich_help_panel=FINDS)
    ] = "area",
    order: Annotated[
        str,
        typer.Option(
            help="Order of painting: found, left to right, centre to edge, largest first.", rich_help_panel=FINDS
        ),
    ] = "found",
    grow: Annotated[
        int, typer.Option(help="Pixels by which masks grow; below 0: by which they shrink.", rich_help_panel=MASKS)
    ] = 4,
    right: Annotated[
        int, typer.Option(help="Pixels by which masks are moved to the right.", rich_help_panel=MASKS)
    ] = 0,
    up: Annotated[int, typer.Option(help="Pixels by which they are moved up.", rich_help_panel=MASKS)] = 0,
    merge: Annotated[
        str, typer.Option(help="Paint one by one (none), at once (merge), or merge and invert.", rich_help_panel=MASKS)
    ] = "none",
    denoising: Annotated[
        float | None, typer.Option(help="How much is painted anew, from 0 to 1; none: 0.4.", rich_help_panel=EACH)
    ] = None,
    exact_steps: Exact = False,
    blur: Annotated[float, typer.Option(min=0, help="Sigma of the masks' edges, in pixels.", rich_help_panel=EACH)] = 4,
    padding: Annotated[
        int, typer.Option(min=0, help="Pixels around a find that are in view.", rich_help_panel=EACH)
    ] = 32,
    whole: Annotated[
        bool,
        typer.Option(
            "--whole", help="Paint all of the picture for each find, not the part around it.", rich_help_panel=EACH
        ),
    ] = False,
    match: Annotated[
        bool,
        typer.Option(
            "--match", help="Paint each find in its own proportions, not in the picture's.", rich_help_panel=EACH
        ),
    ] = False,
    falloff: Annotated[
        float,
        typer.Option(
            min=0,
            help="Paint less of larger finds anew: --denoising times (1 - share of the picture) to this power.",
            rich_help_panel=EACH,
        ),
    ] = 0,
    base: Base = None,
    loras: Loras = None,
    controls: Controls = None,
    seed: Seed = None,
    steps: Steps = None,
    cfg: Cfg = None,
    sampler: Sampler = None,
    scheduler: Scheduler = None,
    tuning: Tuning = None,
    width: Width = None,
    height: Height = None,
    memory: Memory = None,
    form: Form = None,
    quality: Quality = None,
    out: Out = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Find things in pictures, and paint each anew in detail."""
    from velatura import api
    from velatura.generation import detail as details
    from velatura.generation.finds import Picking

    picking = Picking(
        confidence=confidence,
        labels=tuple(labels or ()),
        least_area=least_area,
        most_area=most_area,
        count=keep,
        by=cast(Any, by),
        order=cast(Any, order),
        grow=grow,
        right=right,
        up=up,
        merge=cast(Any, merge),
    )
    usual = details.Detail(
        picking=picking,
        prompt=prompt,
        negative=negative,
        exact_steps=exact_steps,
        blur=blur,
        only_masked=not whole,
        padding=padding,
        falloff=falloff,
        match=match,
        **said(denoising=denoising),
    )
    first, *others = [details.read(one, usual) for one in find or ()] or [usual]
    work = replace(first, boxes=tuple(map(box_of, boxes or ())), then=tuple(others))
    request = api.RefineRequest(
        pictures_of(pictures),
        work,
        changes=changes_of(context, "prompt", "negative"),
        out=out,
        project=project_of(project),
    )
    follow_to_end(request, as_json=as_json)


@app.command(cls=Grouped)
def upscale(
    context: typer.Context,
    pictures: Pictures,
    scale: Annotated[float, typer.Option(help="How many times as large.", rich_help_panel=SIZE)] = 2.0,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help="The size instead, as in 2048x3072; of 2048 or 0x3072 the other side follows.",
            rich_help_panel=SIZE,
        ),
    ] = None,
    upscaler: Annotated[
        str,
        typer.Option(
            help="What makes it larger: Lanczos, Nearest, None, or an ESRGAN model's name or file.",
            rich_help_panel=SIZE,
        ),
    ] = "Lanczos",
    tile: Annotated[
        str | None,
        typer.Option(
            metavar="WxH", help="Size of a tile, as in 512x512 or 512; none: the base's own.", rich_help_panel=TILES
        ),
    ] = None,
    redraw: Annotated[
        str, typer.Option(help="Order of tiles: linear, chess, or none.", rich_help_panel=TILES)
    ] = "linear",
    padding: Annotated[
        int, typer.Option(min=0, help="Pixels around a tile that are in view.", rich_help_panel=TILES)
    ] = 32,
    blur: Annotated[
        float, typer.Option(min=0, help="Sigma of the tiles' edges, in pixels.", rich_help_panel=TILES)
    ] = 8,
    denoising: Annotated[
        float | None, typer.Option(help="How much is painted anew, from 0 to 1; none: 0.35.", rich_help_panel=TILES)
    ] = None,
    exact_steps: Exact = False,
    seams: Annotated[
        str,
        typer.Option(
            help="Paint over seams: none, bands, half tiles, half tiles and crossings.", rich_help_panel=SEAMS
        ),
    ] = "none",
    seam_width: Annotated[int, typer.Option(min=2, help="Pixels of a band.", rich_help_panel=SEAMS)] = 64,
    seam_padding: Annotated[
        int, typer.Option(min=0, help="Pixels around it that are in view.", rich_help_panel=SEAMS)
    ] = 16,
    seam_blur: Annotated[
        float, typer.Option(min=0, help="Sigma of its edges, in pixels; bands have none.", rich_help_panel=SEAMS)
    ] = 4,
    seam_denoising: Annotated[
        float | None, typer.Option(help="How much of seams is painted anew; none: 0.35.", rich_help_panel=SEAMS)
    ] = None,
    prompt: Prompt = None,
    negative: Negative = None,
    base: Base = None,
    loras: Loras = None,
    controls: Controls = None,
    seed: Seed = None,
    steps: Steps = None,
    cfg: Cfg = None,
    sampler: Sampler = None,
    scheduler: Scheduler = None,
    tuning: Tuning = None,
    memory: Memory = None,
    form: Form = None,
    quality: Quality = None,
    out: Out = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Make pictures larger, and paint them over in tiles.

    Interrupted, the same command goes on with the next tile.
    """
    from velatura import api
    from velatura.generation.enlarge import Enlarge

    width, height = size_of(to, alone=0) if to else (0, 0)
    work = Enlarge(
        scale=scale,
        width=width,
        height=height,
        upscaler=upscaler,
        tile=size_of(tile) if tile else None,
        redraw=cast(Any, redraw),
        padding=padding,
        blur=blur,
        exact_steps=exact_steps,
        seams=cast(Any, seams),
        seam_width=seam_width,
        seam_padding=seam_padding,
        seam_blur=seam_blur,
        **said(denoising=denoising, seam_denoising=seam_denoising),
    )
    request = api.RefineRequest(
        pictures_of(pictures), work, changes=changes_of(context), out=out, project=project_of(project)
    )
    follow_to_end(request, as_json=as_json, interrupted="stopped; the same command goes on with the next tile")


@app.command()
def again(
    picture: Annotated[Path, typer.Argument(metavar="IMAGE", help="A refined picture.")],
    parent: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="What it was made from; none: it is looked for beside it."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the result; none: again/ beside the picture.")
    ] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Make a refined picture again, and say if it is the same."""
    from velatura import api
    from velatura.cli import ending
    from velatura.cli.progress import follow

    events = api.refine_again(picture, parent=parent, out=out, project=project_of(project))
    done = follow(events, as_json=as_json, interrupted="stopped")
    if done is not None and not as_json:
        ending.show(done)
