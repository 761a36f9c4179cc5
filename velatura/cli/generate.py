"""`velatura generate`: paint pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from velatura.cli.options import Json


def generate(
    prompt: Annotated[str, typer.Argument(help='What to paint, as in "a red boat at night <lora:ink:0.8>".')],
    negative: Annotated[str, typer.Option(help="What to keep away from.")] = "",
    base: Annotated[
        str | None, typer.Option(help="Base model: a name, a file or a folder; none: the project's, else pocket.")
    ] = None,
    loras: Annotated[
        list[str] | None,
        typer.Option(
            "--lora", metavar="FILE:STRENGTH", help="LoRA to paint with, as in ink.safetensors:0.8; repeatable."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the first picture; none: drawn and written down.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the sampler.")] = 20,
    cfg: Annotated[
        float, typer.Option(min=1, help="Classifier-free guidance: how closely to follow the prompt.")
    ] = 5.0,
    sampler: Annotated[str, typer.Option(help="Sampler, by its name in A1111.")] = "DPM++ 2M",
    scheduler: Annotated[str, typer.Option(help="Noise schedule, by its name in A1111.")] = "Karras",
    width: Annotated[int | None, typer.Option(min=1, help="Pixels; none: what the base was made for.")] = None,
    height: Annotated[int | None, typer.Option(min=1, help="Pixels; none: what the base was made for.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many pictures; seeds count up.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="How many of them are painted at a time.")] = 4,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the pictures; none: images/ of the project.")
    ] = None,
    project: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Project whose LoRAs are meant; none: the one you are in.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Paint pictures from a prompt, each file saying how it was made."""
    from velatura import api, recipe
    from velatura import project as projects
    from velatura.cli import ending
    from velatura.cli.progress import follow

    project = project or projects.containing(Path.cwd())
    request = api.GenerateRequest(
        prompt=prompt,
        negative=negative,
        base=base or (recipe.load(project).base.model if project else "pocket"),
        loras=tuple(loras or ()),
        seed=seed,
        steps=steps,
        cfg=cfg,
        sampler=sampler,
        scheduler=scheduler,
        width=width,
        height=height,
        count=count,
        batch=batch,
        out=out,
        project=project,
    )
    done = follow(api.generate(request), as_json=as_json, interrupted="stopped; the pictures painted so far are kept")
    if done is not None and not as_json:
        ending.show(done)
