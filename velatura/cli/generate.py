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
    partial: Annotated[
        bool, typer.Option("--partial", help="Take of a LoRA what fits the base, instead of refusing it.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the first picture; none: drawn and written down.")
    ] = None,
    vae: Annotated[str, typer.Option(metavar="FILE", help="Another autoencoder; none: the base's own.")] = "",
    text_encoders: Annotated[
        list[str] | None,
        typer.Option("--text-encoder", metavar="FILE", help="Text encoder, for bases of several files; repeatable."),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse a base whose files hold keys that have no use, instead of noting it."),
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the sampler; none: 20, or what suits the base.")
    ] = None,
    cfg: Annotated[
        float | None,
        typer.Option(
            min=1, help="Classifier-free guidance: how closely to follow the prompt; none: 5, or what suits the base."
        ),
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0, help="Guidance of bases into which it is distilled (FLUX.1-dev); none: 3.5.")
    ] = None,
    negative_strength: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="What LoRAs' strength is multiplied by on the negative side; below 1 shows them more.",
        ),
    ] = 1.0,
    sampler: Annotated[
        str | None, typer.Option(help="Sampler, by its name in A1111; none: DPM++ 2M, or what suits the base.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Noise schedule, by its name in A1111; none: Karras, or what suits the base.")
    ] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Pixels; none: what the base was made for.")] = None,
    height: Annotated[int | None, typer.Option(min=1, help="Pixels; none: what the base was made for.")] = None,
    clip_skip: Annotated[
        int | None,
        typer.Option(min=1, help="Layer of CLIP to read, counted from the last; none: the base's own."),
    ] = None,
    emphasis: Annotated[
        str, typer.Option(help="What (word:1.2) does: a1111, a1111-nonorm (for SDXL in A1111: No norm) or comfy.")
    ] = "a1111",
    device: Annotated[
        str | None, typer.Option(help="What computes: cpu, cuda or mps; none: what suits the base and this machine.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of the base's weights: fp32, fp16 or bf16; none: what suits.")
    ] = None,
    quantise: Annotated[
        str | None, typer.Option(help="Store the base in int8 or int4, or off; none: what suits a card's memory.")
    ] = None,
    swap: Annotated[
        int | None,
        typer.Option(min=0, metavar="BLOCKS", help="Blocks that wait outside the device's memory; none: what suits."),
    ] = None,
    memory: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Another setting of [memory], as in vae_tiling=true; repeatable."),
    ] = None,
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
    own = recipe.load(project) if project else recipe.Recipe()
    told = own.base
    words = {"device": device, "precision": precision, "quantised": quantise, "swapped_blocks": swap}
    asked = [f"{key}={value}" for key, value in words.items() if value is not None]
    request = api.GenerateRequest(
        prompt=prompt,
        negative=negative,
        base=base or told.model,
        base_sha256="" if base or vae or text_encoders else told.sha256,
        strict=strict or told.strict,
        vae=vae or ("" if base else told.vae),
        text_encoders=tuple(text_encoders or ([] if base else told.text_encoders)),
        loras=tuple(loras or ()),
        partial=partial,
        seed=seed,
        steps=steps,
        cfg=cfg,
        guidance=guidance,
        negative_strength=negative_strength,
        sampler=sampler,
        scheduler=scheduler,
        width=width,
        height=height,
        clip_skip=clip_skip if clip_skip is not None or base else told.clip_skip,
        emphasis=emphasis,
        memory=recipe.with_memory(own.memory, [*asked, *(memory or ())]),
        count=count,
        batch=batch,
        out=out,
        project=project,
    )
    done = follow(api.generate(request), as_json=as_json, interrupted="stopped; the pictures painted so far are kept")
    if done is not None and not as_json:
        ending.show(done)
