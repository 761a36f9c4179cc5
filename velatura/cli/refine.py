"""`velatura refine`: paint parts of pictures anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from velatura.cli.options import Json
from velatura.errors import SettingsError

if TYPE_CHECKING:
    from velatura.api import Changes, RefineRequest
    from velatura.generation.parts import Box

app = typer.Typer(
    name="refine",
    help="Refine pictures: paint a part anew. What a picture says of its prompt, LoRAs, base and seed is used.",
    no_args_is_help=True,
)

Pictures = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures; * and ? may stand in the names.")]
Prompt = Annotated[str | None, typer.Option(help="What to paint; none: as the picture was painted.")]
Negative = Annotated[str | None, typer.Option(help="What to keep away from; none: as the picture was painted.")]
Base = Annotated[str | None, typer.Option(help="Base model; none: the picture's.")]
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
    prompt: Prompt = None,
    negative: Negative = None,
    base: Base = None,
    loras: Loras = None,
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
    """Paint a part of pictures anew, by a mask or in boxes; the rest stays as it is."""
    from velatura import api
    from velatura.generation.parts import Inpaint

    work = Inpaint(
        mask,
        tuple(map(_box, boxes or ())),
        invert,
        soft,
        blur,
        "only masked" if only_masked else "whole picture",
        padding,
        fill,
    )
    request = api.RefineRequest(
        _pictures(pictures),
        work,
        denoising,
        exact_steps,
        changes=_changes(context),
        out=out,
        project=_project(project),
    )
    _follow(request, as_json=as_json)


def _changes(context: typer.Context) -> Changes:
    """What the user wrote of how it is painted."""
    from velatura.api import Changes
    from velatura.cli.generate import changeable, given

    written = given(context)
    told = {name: _value(context.params[name]) for name in written & changeable() - {"out"}}
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


def _follow(request: RefineRequest, *, as_json: bool) -> None:
    """Refine, and say how it ended."""
    from velatura import api
    from velatura.cli import ending
    from velatura.cli.progress import follow

    done = follow(api.refine(request), as_json=as_json, interrupted="stopped; the pictures refined so far are kept")
    if done is not None and not as_json:
        ending.show(done)
