"""`velatura refine`: paint parts of pictures anew, finds in detail, the whole larger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from velatura.cli.options import Json
from velatura.errors import SettingsError

if TYPE_CHECKING:
    from velatura.api import Changes, RefineRequest
    from velatura.generation.parts import Box

app = typer.Typer(
    name="refine",
    help="Paint parts of pictures anew, finds in detail, all larger.",
    no_args_is_help=True,
)

Pictures = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures; * and ? may stand in the names.")]
Prompt = Annotated[str | None, typer.Option(help="What to paint; none: as the picture was painted.")]
Negative = Annotated[str | None, typer.Option(help="What to keep away from; none: as the picture was painted.")]
Base = Annotated[str | None, typer.Option(help="Base model; none: the picture's.")]
Controls = Annotated[
    list[str] | None,
    typer.Option(
        "--control",
        metavar="FILE,hint=IMAGE",
        help='ControlNet to paint with, as in "tile, weight=0.8"; without a hint it sees the picture; repeatable.',
    ),
]
Loras = Annotated[
    list[str] | None,
    typer.Option("--lora", metavar="FILE:STRENGTH", help="LoRA beside those in the prompt; repeatable."),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed; none: the picture's.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Steps of the sampler; none: the picture's.")]
Cfg = Annotated[float | None, typer.Option(min=1, help="Classifier-free guidance; none: the picture's.")]
Sampler = Annotated[str | None, typer.Option(help="Sampler, by its name in A1111; none: the picture's.")]
Scheduler = Annotated[str | None, typer.Option(help="Noise schedule; none: the picture's, or what suits --sampler.")]
Tuning = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A rarer setting of painting, as in eta=0.5; repeatable."),
]
Width = Annotated[int | None, typer.Option(min=1, help="Pixels to paint in; none: what suits.")]
Height = Annotated[int | None, typer.Option(min=1, help="Pixels to paint in; none: what suits.")]
Memory = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="A setting of [memory], as in device=cpu or precision=bf16; repeatable."),
]
Exact = Annotated[
    bool, typer.Option("--exact-steps", help="Take all --steps, and not the share that --denoising makes of them.")
]
Form = Annotated[str | None, typer.Option("--format", help="Of the files: png, jpg, webp or avif; none: png.")]
Quality = Annotated[int | None, typer.Option(min=1, max=100, help="Of jpg, webp and avif; none: 90.")]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the results; none: beside each picture.")]
Project = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Project whose LoRAs are meant; none: the one you are in.")
]


@app.command()
def inpaint(
    context: typer.Context,
    pictures: Pictures,
    mask: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A picture: what is white, or opaque, is painted anew.")
    ] = None,
    boxes: Annotated[
        list[str] | None,
        typer.Option("--box", metavar="L,T,R,B", help="A rectangle in pixels that is painted anew; repeatable."),
    ] = None,
    invert: Annotated[bool, typer.Option("--invert", help="Paint anew what mask and boxes leave.")] = False,
    soft: Annotated[bool, typer.Option("--soft", help="Keep the mask's greys all the way.")] = False,
    only_masked: Annotated[
        bool,
        typer.Option("--only-masked", help="Cut the part out, paint it at a size of its own, and put it back."),
    ] = False,
    padding: Annotated[int, typer.Option(min=0, help="Pixels around the part that are in view then.")] = 32,
    blur: Annotated[float, typer.Option(min=0, help="Sigma of the mask's edges, in pixels.")] = 4,
    fill: Annotated[
        str, typer.Option(help="What is there at first: original, fill (colours around), latent noise, latent nothing.")
    ] = "original",
    denoising: Annotated[float | None, typer.Option(help="How much is painted anew, from 0 to 1; none: 0.75.")] = None,
    exact_steps: Exact = False,
    colour_correction: Annotated[
        bool, typer.Option("--colour-correction", help="Bring what is painted back to the colours that were there.")
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
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many of each; seeds count up.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="How many of them are painted at a time.")] = 4,
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
        tuple(map(_box, boxes or ())),
        invert=invert,
        soft=soft,
        blur=blur,
        area="only masked" if only_masked else "whole picture",
        padding=padding,
        fill=fill,
    )
    request = api.RefineRequest(
        _pictures(pictures),
        work,
        denoising,
        exact_steps,
        colour_correction,
        changes=_changes(context),
        out=out,
        project=_project(project),
    )
    _follow(request, as_json=as_json)


@app.command()
def detail(
    context: typer.Context,
    pictures: Pictures,
    find: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DETECTOR,...",
            help="What finds: a name, or a YOLO model as an ONNX file; behind it stands what is otherwise for its"
            ' finds, as in "hand.onnx, denoising=0.3, prompt=a hand"; repeatable, one after the other.',
        ),
    ] = None,
    boxes: Annotated[
        list[str] | None,
        typer.Option("--box", metavar="L,T,R,B", help="A rectangle in pixels that counts as found; repeatable."),
    ] = None,
    prompt: Annotated[
        str,
        typer.Option(
            help="What the finds are painted as, <lora:...> included; [SEP] between several, [SKIP] leaves one as it"
            " is, [PROMPT] is the picture's own; none: the picture's own."
        ),
    ] = "",
    negative: Annotated[str, typer.Option(help="What they keep away from; none: as the picture was painted.")] = "",
    confidence: Annotated[float, typer.Option(min=0, max=1, help="Finds that are less sure are left out.")] = 0.3,
    labels: Annotated[
        list[str] | None, typer.Option("--label", help="Only what was taken for this; repeatable; none: all.")
    ] = None,
    least_area: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the picture below which finds are left out.")
    ] = 0.0,
    most_area: Annotated[float, typer.Option(min=0, max=1, help="Share above which they are.")] = 1.0,
    keep: Annotated[int, typer.Option(min=0, help="How many finds are painted; 0: all.")] = 0,
    by: Annotated[str, typer.Option(help="Whether the largest (area) or the surest (confidence) are.")] = "area",
    order: Annotated[
        str, typer.Option(help="Order of painting: found, left to right, centre to edge, largest first.")
    ] = "found",
    grow: Annotated[int, typer.Option(help="Pixels by which masks grow; below 0: by which they shrink.")] = 4,
    right: Annotated[int, typer.Option(help="Pixels by which masks are moved to the right.")] = 0,
    up: Annotated[int, typer.Option(help="Pixels by which they are moved up.")] = 0,
    merge: Annotated[str, typer.Option(help="Paint one by one (none), at once (merge), or merge and invert.")] = "none",
    denoising: Annotated[float | None, typer.Option(help="How much is painted anew, from 0 to 1; none: 0.4.")] = None,
    exact_steps: Exact = False,
    blur: Annotated[float, typer.Option(min=0, help="Sigma of the masks' edges, in pixels.")] = 4,
    padding: Annotated[int, typer.Option(min=0, help="Pixels around a find that are in view.")] = 32,
    whole: Annotated[
        bool, typer.Option("--whole", help="Paint all of the picture for each find, not the part around it.")
    ] = False,
    match: Annotated[
        bool, typer.Option("--match", help="Paint each find in its own proportions, not in the picture's.")
    ] = False,
    falloff: Annotated[
        float,
        typer.Option(
            min=0, help="Paint less of larger finds anew: --denoising times (1 - share of the picture) to this power."
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
        **_told(denoising=denoising),
    )
    first, *others = [details.read(one, usual) for one in find or ()] or [usual]
    work = replace(first, boxes=tuple(map(_box, boxes or ())), then=tuple(others))
    request = api.RefineRequest(
        _pictures(pictures), work, changes=_changes(context, "prompt", "negative"), out=out, project=_project(project)
    )
    _follow(request, as_json=as_json)


@app.command()
def upscale(
    context: typer.Context,
    pictures: Pictures,
    scale: Annotated[float, typer.Option(help="How many times as large.")] = 2.0,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="WxH", help="The size instead, as in 2048x3072; of 2048 or 0x3072 the other side follows."
        ),
    ] = None,
    upscaler: Annotated[
        str, typer.Option(help="What makes it larger: Lanczos, Nearest, None, or an ESRGAN model's name or file.")
    ] = "Lanczos",
    tile: Annotated[
        str | None, typer.Option(metavar="WxH", help="Size of a tile, as in 512x512 or 512; none: the base's own.")
    ] = None,
    redraw: Annotated[str, typer.Option(help="Order of tiles: linear, chess, or none.")] = "linear",
    padding: Annotated[int, typer.Option(min=0, help="Pixels around a tile that are in view.")] = 32,
    blur: Annotated[float, typer.Option(min=0, help="Sigma of the tiles' edges, in pixels.")] = 8,
    denoising: Annotated[float | None, typer.Option(help="How much is painted anew, from 0 to 1; none: 0.35.")] = None,
    exact_steps: Exact = False,
    seams: Annotated[
        str, typer.Option(help="Paint over seams: none, bands, half tiles, half tiles and crossings.")
    ] = "none",
    seam_width: Annotated[int, typer.Option(min=2, help="Pixels of a band.")] = 64,
    seam_padding: Annotated[int, typer.Option(min=0, help="Pixels around it that are in view.")] = 16,
    seam_blur: Annotated[float, typer.Option(min=0, help="Sigma of its edges, in pixels; bands have none.")] = 4,
    seam_denoising: Annotated[float | None, typer.Option(help="How much of seams is painted anew; none: 0.35.")] = None,
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

    width, height = _size(to, alone=0) if to else (0, 0)
    work = Enlarge(
        scale=scale,
        width=width,
        height=height,
        upscaler=upscaler,
        tile=_size(tile) if tile else None,
        redraw=cast(Any, redraw),
        padding=padding,
        blur=blur,
        exact_steps=exact_steps,
        seams=cast(Any, seams),
        seam_width=seam_width,
        seam_padding=seam_padding,
        seam_blur=seam_blur,
        **_told(denoising=denoising, seam_denoising=seam_denoising),
    )
    request = api.RefineRequest(
        _pictures(pictures), work, changes=_changes(context), out=out, project=_project(project)
    )
    _follow(request, as_json=as_json, interrupted="stopped; the same command goes on with the next tile")


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

    events = api.refine_again(picture, parent=parent, out=out, project=_project(project))
    done = follow(events, as_json=as_json, interrupted="stopped")
    if done is not None and not as_json:
        ending.show(done)


def _told(**shares: float | None) -> dict[str, Any]:
    """What is said; the rest is as usual."""
    return {name: value for name, value in shares.items() if value is not None}


def _size(text: str, *, alone: int | None = None) -> tuple[int, int]:
    """Width and height.

    Args:
        text: "WxH", or the width alone.
        alone: the height then; none: the same as the width.

    Raises:
        SettingsError: these are no numbers.
    """
    across, sign, down = text.lower().partition("x")
    try:
        width = int(across)
        return width, int(down) if sign else width if alone is None else alone
    except ValueError:
        raise SettingsError(f"{text!r} is no size", fix="write WIDTHxHEIGHT, as in 2048x3072") from None


def _changes(context: typer.Context, *not_these: str) -> Changes:
    """What the user wrote of how it is painted."""
    from velatura.api import Changes
    from velatura.api.refining.refine import ITSELF
    from velatura.cli.generate import changeable, given
    from velatura.generation import control

    written = given(context) & changeable() - {"out", *not_these}
    told = {name: _value(context.params[name]) for name in written}
    if "controls" in told:
        told["controls"] = tuple(control.read(one, hint=ITSELF) for one in told["controls"])
    return Changes(told, memory=context.params["memory"] or (), tuning=context.params["tuning"] or ())


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _pictures(told: list[Path]) -> tuple[Path, ...]:
    """The pictures of names in which * and ? may stand, for shells that leave them there.

    Raises:
        SettingsError: no file has such a name.
    """
    found: list[Path] = []
    for one in told:
        if one.exists() or not any(sign in one.name for sign in "*?["):
            found.append(one)
            continue
        alike = sorted(path for path in one.parent.glob(one.name) if path.is_file())
        if not alike:
            raise SettingsError(f"no picture is called like {one}", fix="check the name")
        found += alike
    return tuple(dict.fromkeys(found))


def _project(told: Path | None) -> Path | None:
    from velatura import project as projects

    return told or projects.containing(Path.cwd())


def _box(text: str) -> Box:
    """Left, top, right, bottom.

    Raises:
        SettingsError: these are not four numbers.
    """
    try:
        left, top, right, bottom = (float(side) for side in text.replace(" ", ",").split(","))
    except ValueError:
        raise SettingsError(f"{text!r} is no box", fix="write left,top,right,bottom, as in 30,20,90,80") from None
    return left, top, right, bottom


def _follow(
    request: RefineRequest, *, as_json: bool, interrupted: str = "stopped; the pictures refined so far are kept"
) -> None:
    """Refine, and say how it ended."""
    from velatura import api
    from velatura.cli import ending
    from velatura.cli.progress import follow

    done = follow(api.refine(request), as_json=as_json, interrupted=interrupted)
    if done is not None and not as_json:
        ending.show(done)
