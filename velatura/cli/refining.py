"""What the commands of `velatura refine` share: options of how it is painted, and what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from velatura.errors import SettingsError

if TYPE_CHECKING:
    from velatura.api import Changes, RefineRequest
    from velatura.generation.parts import Box

PAINTING = "How it is painted, where not as the pictures say"
FILES = "Files and machine"
"""Groups of options in --help."""

Pictures = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures; * and ? may stand in the names.")]
Prompt = Annotated[
    str | None, typer.Option(help="What to paint; none: as the picture was painted.", rich_help_panel=PAINTING)
]
Negative = Annotated[
    str | None, typer.Option(help="What to keep away from; none: as the picture was painted.", rich_help_panel=PAINTING)
]
Base = Annotated[str | None, typer.Option(help="Base model; none: the picture's.", rich_help_panel=PAINTING)]
Controls = Annotated[
    list[str] | None,
    typer.Option(
        "--control",
        metavar="FILE,hint=IMAGE",
        help='ControlNet to paint with, as in "tile, weight=0.8"; without a hint it sees the picture; repeatable.',
        rich_help_panel=PAINTING,
    ),
]
Loras = Annotated[
    list[str] | None,
    typer.Option(
        "--lora", metavar="FILE:STRENGTH", help="LoRA beside those in the prompt; repeatable.", rich_help_panel=PAINTING
    ),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed; none: the picture's.", rich_help_panel=PAINTING)]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Steps of the sampler; none: the picture's.", rich_help_panel=PAINTING)
]
Cfg = Annotated[
    float | None, typer.Option(min=1, help="Classifier-free guidance; none: the picture's.", rich_help_panel=PAINTING)
]
Sampler = Annotated[
    str | None, typer.Option(help="Sampler, by its name in A1111; none: the picture's.", rich_help_panel=PAINTING)
]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Noise schedule; none: the picture's, or what suits --sampler.", rich_help_panel=PAINTING),
]
Tuning = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A rarer setting of painting, as in eta=0.5; repeatable.",
        rich_help_panel=PAINTING,
    ),
]
Width = Annotated[
    int | None, typer.Option(min=1, help="Pixels to paint in; none: what suits.", rich_help_panel=PAINTING)
]
Height = Annotated[
    int | None, typer.Option(min=1, help="Pixels to paint in; none: what suits.", rich_help_panel=PAINTING)
]
Memory = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="A setting of [memory], as in device=cpu or precision=bf16; repeatable.",
        rich_help_panel=FILES,
    ),
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact-steps",
        help="Take all --steps, and not the share that --denoising makes of them.",
        rich_help_panel=PAINTING,
    ),
]
Form = Annotated[
    str | None, typer.Option("--format", help="Of the files: png, jpg, webp or avif; none: png.", rich_help_panel=FILES)
]
Quality = Annotated[
    int | None, typer.Option(min=1, max=100, help="Of jpg, webp and avif; none: 90.", rich_help_panel=FILES)
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder for the results; none: beside each picture.", rich_help_panel=FILES),
]
Project = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Project whose LoRAs are meant; none: the one you are in.", rich_help_panel=FILES),
]


def said(**shares: float | None) -> dict[str, Any]:
    """What is said; the rest is as usual."""
    return {name: value for name, value in shares.items() if value is not None}


def size_of(text: str, *, alone: int | None = None) -> tuple[int, int]:
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


def changes_of(context: typer.Context, *not_these: str) -> Changes:
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


def pictures_of(told: list[Path]) -> tuple[Path, ...]:
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


def project_of(told: Path | None) -> Path | None:
    """The project that is told, or the one around the current folder."""
    from velatura import project as projects

    return told or projects.containing(Path.cwd())


def box_of(text: str) -> Box:
    """Left, top, right, bottom.

    Raises:
        SettingsError: these are not four numbers.
    """
    try:
        left, top, right, bottom = (float(side) for side in text.replace(" ", ",").split(","))
    except ValueError:
        raise SettingsError(f"{text!r} is no box", fix="write left,top,right,bottom, as in 30,20,90,80") from None
    return left, top, right, bottom


def follow_to_end(
    request: RefineRequest, *, as_json: bool, interrupted: str = "stopped; the pictures refined so far are kept"
) -> None:
    """Refine, and say how it ended."""
    from velatura import api
    from velatura.cli import ending
    from velatura.cli.progress import follow

    done = follow(api.refine(request), as_json=as_json, interrupted=interrupted)
    if done is not None and not as_json:
        ending.show(done)
