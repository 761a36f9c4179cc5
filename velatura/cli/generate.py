"""`velatura generate`: paint pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from velatura.cli.options import Json
from velatura.errors import SettingsError

if TYPE_CHECKING:
    from velatura.api import FromPicture, GenerateRequest


PROMPT = "Prompt"
LORAS = "LoRAs"
BASE = "Base model"
SAMPLING = "Sampling"
SIZE = "Size and number"
HIRES = "A second, larger pass"
START = "From a picture"
CONTROL = "ControlNet"
LISTS = "From a list, and the same once more"
FILES = "Files"
MACHINE = "Machine"
"""Groups of options in --help, in the order in which they are shown."""


def generate(
    context: typer.Context,
    prompt: Annotated[
        str | None, typer.Argument(help='What to paint, as in "a red boat at night <lora:ink:0.8>".')
    ] = None,
    negative: Annotated[str, typer.Option(help="What to keep away from.", rich_help_panel=PROMPT)] = "",
    styles: Annotated[
        list[str] | None,
        typer.Option(
            "--style",
            metavar="NAME",
            help="Style of a styles.csv, put around the prompts; repeatable.",
            rich_help_panel=PROMPT,
        ),
    ] = None,
    as_is: Annotated[
        bool,
        typer.Option(
            "--as-is",
            help="Take {a|b}, __wildcards__ and # comments in the prompts for plain text.",
            rich_help_panel=PROMPT,
        ),
    ] = False,
    emphasis: Annotated[
        str,
        typer.Option(
            help="What (word:1.2) does: a1111, a1111-nonorm (for SDXL in A1111: No norm) or comfy.",
            rich_help_panel=PROMPT,
        ),
    ] = "a1111",
    clip_skip: Annotated[
        int | None,
        typer.Option(
            min=1, help="Layer of CLIP to read, counted from the last; none: the base's own.", rich_help_panel=PROMPT
        ),
    ] = None,
    loras: Annotated[
        list[str] | None,
        typer.Option(
            "--lora",
            metavar="FILE:STRENGTH",
            help="LoRA to paint with, as in ink.safetensors:0.8; repeatable.",
            rich_help_panel=LORAS,
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Take of a LoRA what fits the base, instead of refusing it.", rich_help_panel=LORAS
        ),
    ] = False,
    negative_strength: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="What LoRAs' strength is multiplied by on the negative side; below 1 shows them more.",
            rich_help_panel=LORAS,
        ),
    ] = 1.0,
    base: Annotated[
        str | None,
        typer.Option(
            help="Base model: a name, a file or a folder; none: the project's, else pocket.", rich_help_panel=BASE
        ),
    ] = None,
    vae: Annotated[
        str, typer.Option(metavar="FILE", help="Another autoencoder; none: the base's own.", rich_help_panel=BASE)
    ] = "",
    text_encoders: Annotated[
        list[str] | None,
        typer.Option(
            "--text-encoder",
            metavar="FILE",
            help="Text encoder, for bases of several files; repeatable.",
            rich_help_panel=BASE,
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Refuse a base whose files hold keys that have no use, instead of noting it.",
            rich_help_panel=BASE,
        ),
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of the first picture; none: drawn and written down.", rich_help_panel=SAMPLING),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of the sampler; none: 20, or what suits the base.", rich_help_panel=SAMPLING),
    ] = None,
    cfg: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Classifier-free guidance: how closely to follow the prompt; none: 5, or what suits the base.",
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Guidance of bases into which it is distilled (FLUX.1-dev); none: 3.5.",
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="Sampler, by its name in A1111; none: DPM++ 2M, or what suits the base.", rich_help_panel=SAMPLING
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Noise schedule, by its name in A1111; none: what suits sampler and base.", rich_help_panel=SAMPLING
        ),
    ] = None,
    tuning: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A rarer setting of sampler, schedule, noise or guidance, as in eta=0.5, s_churn=10, sigma_max=10,"
            " rng=nv or cfg_rescale=0.7; docs/reference/settings.md lists them as samples.tuning; repeatable.",
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    variation_seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of a variation; none: drawn and written down.", rich_help_panel=SAMPLING),
    ] = None,
    variation_strength: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="How much of the variation: 0 is none, 1 is its own picture.", rich_help_panel=SAMPLING
        ),
    ] = 0.0,
    width: Annotated[
        int | None, typer.Option(min=1, help="Pixels; none: what the base was made for.", rich_help_panel=SIZE)
    ] = None,
    height: Annotated[
        int | None, typer.Option(min=1, help="Pixels; none: what the base was made for.", rich_help_panel=SIZE)
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, help="How many pictures; seeds count up.", rich_help_panel=SIZE)
    ] = 1,
    batch: Annotated[
        int, typer.Option(min=1, help="How many of them are painted at a time.", rich_help_panel=SIZE)
    ] = 4,
    hires: Annotated[
        float | None,
        typer.Option(
            metavar="SCALE",
            help="Paint a second pass, so many times as large: a high-resolution fix.",
            rich_help_panel=HIRES,
        ),
    ] = None,
    hires_to: Annotated[
        str | None,
        typer.Option(
            metavar="WxH", help="Its size instead, as in 1024x1536; 1024x0: the height follows.", rich_help_panel=HIRES
        ),
    ] = None,
    hires_steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Its steps, all of which are taken; none: as in the first pass.", rich_help_panel=HIRES
        ),
    ] = None,
    hires_denoising: Annotated[
        float | None,
        typer.Option(help="How much it paints anew, above 0 and up to 1; none: 0.7.", rich_help_panel=HIRES),
    ] = None,
    hires_upscaler: Annotated[
        str | None,
        typer.Option(
            help="What makes it larger: Latent, Latent (antialiased), Latent (bicubic), Latent (bicubic antialiased),"
            " Latent (nearest), Latent (nearest-exact), Lanczos, Nearest, None; none given: Latent.",
            rich_help_panel=HIRES,
        ),
    ] = None,
    hires_sampler: Annotated[
        str | None, typer.Option(help="Its sampler; none: that of the first pass.", rich_help_panel=HIRES)
    ] = None,
    hires_scheduler: Annotated[
        str | None, typer.Option(help="Its noise schedule; none: that of the first.", rich_help_panel=HIRES)
    ] = None,
    hires_cfg: Annotated[
        float | None,
        typer.Option(min=1, help="Its classifier-free guidance; none: that of the first pass.", rich_help_panel=HIRES),
    ] = None,
    hires_prompt: Annotated[
        str | None, typer.Option(help="Its prompt; none: that of the first pass.", rich_help_panel=HIRES)
    ] = None,
    hires_negative: Annotated[
        str | None, typer.Option(help="What it keeps away from; none: as in the first pass.", rich_help_panel=HIRES)
    ] = None,
    begin: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="IMAGE",
            help="A picture to paint from; its proportions are kept where no size is given.",
            rich_help_panel=START,
        ),
    ] = None,
    denoising: Annotated[
        float | None,
        typer.Option(help="How much of it is painted anew, from 0 to 1; none: 0.75.", rich_help_panel=START),
    ] = None,
    resize_mode: Annotated[
        str | None,
        typer.Option(
            help="How it is made to fit: stretch, crop, fill or latent; none: stretch.", rich_help_panel=START
        ),
    ] = None,
    exact_steps: Annotated[
        bool,
        typer.Option(
            "--exact-steps",
            help="Take all --steps, and not the share that --denoising makes of them.",
            rich_help_panel=START,
        ),
    ] = False,
    colour_correction: Annotated[
        bool,
        typer.Option(
            "--colour-correction",
            help="Bring what is painted back to its colours, as A1111 does where it is told to.",
            rich_help_panel=START,
        ),
    ] = False,
    background: Annotated[
        str | None,
        typer.Option(metavar="#RRGGBB", help="What shows where it is transparent; none: white.", rich_help_panel=START),
    ] = None,
    controls: Annotated[
        list[str] | None,
        typer.Option(
            "--control",
            metavar="FILE,hint=IMAGE",
            help='ControlNet and the hint it sees, as in "canny, hint=a.png, preprocess=canny, weight=0.8, start=0,'
            ' end=0.6, mode=balanced, fit=crop"; repeatable.',
            rich_help_panel=CONTROL,
        ),
    ] = None,
    jobs: Annotated[
        Path | None,
        typer.Option(
            metavar="LIST",
            help="A text file with a prompt on each line, or with A1111's words, as in"
            ' --prompt "a boat" --steps 30 --seed 7; the same command again goes on where it was.',
            rich_help_panel=LISTS,
        ),
    ] = None,
    again: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGE",
            help="Paint this picture again, as it says it was made; other options change that.",
            rich_help_panel=LISTS,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for the pictures; none: images/ of the project.", rich_help_panel=FILES
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format", help="Of the files: png, jpg, webp or avif; all say how they were made.", rich_help_panel=FILES
        ),
    ] = "png",
    quality: Annotated[
        int,
        typer.Option(min=1, max=100, help="Of jpg, webp and avif; webp loses nothing at 100.", rich_help_panel=FILES),
    ] = 90,
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A PNG file that shows the pictures as they become, written at every step.",
            rich_help_panel=FILES,
        ),
    ] = None,
    preview_every: Annotated[int, typer.Option(min=1, help="Steps between two of these.", rich_help_panel=FILES)] = 1,
    project: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Project whose LoRAs are meant; none: the one you are in.", rich_help_panel=FILES
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="What computes: cpu, cuda or mps; none: what suits the base and this machine.", rich_help_panel=MACHINE
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Of the base's weights: fp32, fp16 or bf16; none: what suits.", rich_help_panel=MACHINE),
    ] = None,
    quantise: Annotated[
        str | None,
        typer.Option(
            help="Store the base in int8, int4 or fp8, or off; none: what suits a card's memory.",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    swap: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="BLOCKS",
            help="Blocks that wait outside the device's memory; none: what suits.",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    memory: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Another setting of [memory], as in vae_tiling=true; repeatable.",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Paint pictures from a prompt, each file saying how it was made."""
    values = dict(locals())
    from velatura import api, recipe
    from velatura import project as projects
    from velatura.generation import control
    from velatura.generation.hires import Hires

    project = project or projects.containing(Path.cwd())
    words = {"device": device, "precision": precision, "quantised": quantise, "swapped_blocks": swap}
    asked = [f"{key}={value}" for key, value in words.items() if value is not None]
    asked += memory or ()
    start = {
        "denoising": denoising,
        "resize_mode": resize_mode,
        "exact_steps": exact_steps or None,
        "colour_correction": colour_correction or None,
        "background": background,
    }
    second = {
        "steps": hires_steps,
        "denoising": hires_denoising,
        "upscaler": hires_upscaler,
        "sampler": hires_sampler,
        "scheduler": hires_scheduler,
        "cfg_scale": hires_cfg,
        "prompt": hires_prompt,
        "negative_prompt": hires_negative,
    }
    if jobs is not None and (prompt is not None or again is not None):
        raise SettingsError("--jobs says what to paint", fix="leave the prompt and --again out")
    values["controls"] = used = tuple(control.read(one) for one in controls or ())
    if again is not None:
        changes = api.Changes(
            {name: _value(value) for name, value in values.items() if name in given(context) & changeable()},
            _start(begin, start),
            _second_pass(hires, hires_to, second, there=True),
            asked,
            tuning or (),
        )
        _follow(api.again(again, project=project, changes=changes), as_json=as_json)
        return
    if prompt is None and jobs is None:
        raise SettingsError("there is nothing to paint", fix='write a prompt, as in velatura generate "a red boat"')
    own = recipe.load(project) if project else recipe.Recipe()
    told = own.base
    request = api.GenerateRequest(
        prompt=prompt or "",
        negative=negative,
        styles=tuple(styles or ()),
        as_is=as_is,
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
        tuning=recipe.with_tuning(tuning or ()),
        variation_seed=variation_seed,
        variation_strength=variation_strength,
        width=width,
        height=height,
        begin=_picture(_start(begin, start)),
        controls=used,
        hires=Hires(**size) if (size := _second_pass(hires, hires_to, second)) else None,
        form=form,
        quality=quality,
        clip_skip=clip_skip if clip_skip is not None or base else told.clip_skip,
        emphasis=emphasis,
        memory=recipe.with_memory(own.memory, asked),
        count=count,
        batch=batch,
        preview=preview,
        preview_every=preview_every,
        out=out,
        project=project,
    )
    _follow(request, as_json=as_json, jobs=jobs)


def _follow(request: GenerateRequest, *, as_json: bool, jobs: Path | None = None) -> None:
    """Paint, and say how it ended."""
    from velatura import api
    from velatura.cli import ending
    from velatura.cli.progress import follow

    if jobs is None:
        events, stopped = api.generate(request), "stopped; the pictures painted so far are kept"
    else:
        events = api.paint_list(jobs, request)
        stopped = "stopped; the pictures painted so far are kept, and the same command paints the others"
    done = follow(events, as_json=as_json, interrupted=stopped)
    if done is not None and not as_json:
        ending.show(done)


def given(context: typer.Context) -> set[str]:
    """The options that the user wrote."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def changeable() -> set[str]:
    """Fields of a request that have an option of their own."""
    from dataclasses import fields

    from velatura.api import GenerateRequest

    return {one.name for one in fields(GenerateRequest)} - {"begin", "hires", "memory", "tuning", "project"}


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _start(path: Path | None, told: dict[str, Any]) -> dict[str, Any]:
    """What is said of the picture to paint from.

    Raises:
        SettingsError: a colour is none.
    """
    given = {name: value for name, value in told.items() if value is not None}
    if "background" in given:
        given["background"] = colour(given["background"])
    return {**({"path": path} if path is not None else {}), **given}


def _picture(told: dict[str, Any]) -> FromPicture | None:
    """The picture to paint from.

    Raises:
        SettingsError: something is said of a picture that is not given.
    """
    from velatura.api import FromPicture

    if told and "path" not in told:
        raise SettingsError(f"--{next(iter(told)).replace('_', '-')} needs a picture", fix="name it with --from")
    return FromPicture(**told) if told else None


def _second_pass(scale: float | None, size: str | None, told: dict[str, Any], *, there: bool = False) -> dict[str, Any]:
    """What is said of the second pass; nothing where none is asked for.

    Args:
        there: there may be one already.

    Raises:
        SettingsError: something is said of a second pass that is not asked for, or a size is none.
    """
    given = {name: value for name, value in told.items() if value is not None}
    if scale is None and size is None:
        if given and not there:
            names = {"cfg_scale": "cfg", "negative_prompt": "negative"}
            name = names.get(first := next(iter(given)), first)
            raise SettingsError(
                f"--hires-{name} needs a second pass", fix="ask for it by --hires 2 or --hires-to 1024x1536"
            )
        return given
    if scale is not None and size is not None:
        raise SettingsError("--hires and --hires-to both say how large the second pass is", fix="leave one of them out")
    if size is None:
        return {"scale": scale, "width": 0, "height": 0, **given}
    found = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", size.replace(" ", ""))
    if found is None or not (int(found[1]) or int(found[2])):
        raise SettingsError(f"{size!r} is not a size", fix="write it as 1024x1536, or 1024x0 for one side")
    return {"width": int(found[1]), "height": int(found[2]), **given}


def colour(text: str) -> tuple[int, int, int]:
    """A colour as "#rrggbb".

    Raises:
        SettingsError: it is none.
    """
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise SettingsError(f"{text!r} is not a colour", fix="write it as #rrggbb")
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue
