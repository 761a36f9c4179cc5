"""`velatura lora ...`: what can be done with adapter files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from velatura.cli import lora_tables, output
from velatura.cli.options import Json
from velatura.errors import AdapterError

if TYPE_CHECKING:
    from velatura.adapters.algebra.resize import Rule

FOUND_PROBLEMS = 1

Precision = Literal["F16", "BF16", "F32"]

File = Annotated[Path, typer.Argument(metavar="FILE", help="A LoRA, as .safetensors.")]
Out = Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Where to write; nothing is overwritten.")]
Stored = Annotated[Precision | None, typer.Option(help="How the new weights are stored; none: as they were.")]
Rank = Annotated[int | None, typer.Option(metavar="N", help="So many singular values of every layer.")]
ConvRank = Annotated[int | None, typer.Option(metavar="N", help="With --rank: so many of convolutions.")]
Fro = Annotated[
    float | None, typer.Option(metavar="SHARE", help="The fewest that keep this share of a layer's Frobenius norm.")
]
Ratio = Annotated[
    float | None, typer.Option(metavar="R", help="Those larger than the layer's largest divided by this.")
]
Cumulative = Annotated[float | None, typer.Option(metavar="SHARE", help="The fewest whose sum is this share of all.")]

app = typer.Typer(name="lora", no_args_is_help=True, help="Look into LoRA files, and change them.")


@app.callback()
def lora() -> None:
    """Look into LoRA files, and change them: exact algebra on their factors, in seconds."""


@app.command()
def inspect(
    file: File,
    spectrum: Annotated[bool, typer.Option("--spectrum", help="Read the weights too: norms, ranks, health.")] = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="PNG", help="With --spectrum: draw it, into this file.")
    ] = None,
    hashes: Annotated[
        bool, typer.Option("--hashes", help="Work out its true hashes, and check those it states.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell what a LoRA is: kind, family, ranks, training, tags, trigger words.

    Its header is read and nothing else, unless --spectrum or --hashes asks for more. Exits with 1 where something is
    wrong with it.
    """
    from velatura.api import loras

    found = loras.inspect_lora(file, hashes=hashes)
    weights = loras.lora_spectrum(file) if spectrum or picture else None
    if picture is not None and weights is not None:
        lora_tables.draw(weights, picture, file)
    if as_json:
        output.emit({**found.to_dict(), **({"spectrum": weights.to_dict()} if weights else {})})
    else:
        for line in lora_tables.inspected(found):
            output.say(line)
        if weights is not None:
            lora_tables.spectrum(weights)
        if picture is not None:
            output.say(f"picture: {output.shown(picture)}")
    if found.problems or (weights and any(layer.health != "dead" for layer in weights.unwell)):
        raise typer.Exit(FOUND_PROBLEMS)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A LoRA of any program, or a folder of PEFT's.")],
    out: Out,
    to: Annotated[Literal["kohya", "diffusers", "comfy"], typer.Option(help="Whose names and layout are written.")],
    base: Annotated[str, typer.Option(metavar="BASE", help="The base it is for, if not of a published size.")] = "",
    partial: Annotated[bool, typer.Option("--partial", help="Leave out what attaches to no layer.")] = False,
    precision: Stored = None,
    as_json: Json = False,
) -> None:
    """Write a LoRA under another program's names.

    Fused and split layers are converted exactly; every key is accounted for.
    """
    from velatura.api import loras

    left = loras.convert_lora(file, out, to, base=base, partial=partial, precision=precision)
    if as_json:
        output.emit({"file": str(out), "left_out": left})
        return
    output.say(f"written: {output.shown(out)}")
    lora_tables.listed("left out, since it attaches to nothing", left)


@app.command()
def resize(
    file: File,
    out: Out,
    rank: Rank = None,
    fro: Fro = None,
    ratio: Ratio = None,
    cumulative: Cumulative = None,
    budget: Annotated[
        float | None, typer.Option(metavar="MB", help="Those worth most per byte over all layers, so much in all.")
    ] = None,
    conv_rank: ConvRank = None,
    most: Annotated[int | None, typer.Option("--max-rank", metavar="N", help="A limit for the other ways.")] = None,
    kohya: Annotated[bool, typer.Option("--kohya", help="Count as kohya's resize_lora.py does, one further.")] = False,
    precision: Stored = None,
    as_json: Json = False,
) -> None:
    """Write a LoRA with smaller ranks: the nearest one there is.

    Exactly one of --rank, --fro, --ratio, --cumulative and --budget says how ranks are chosen.
    """
    from velatura.api import loras

    told = {"rank": rank, "fro": fro, "ratio": ratio, "cumulative": cumulative, "budget": budget}
    rule = _rule(told, conv_rank=conv_rank, most=most, kohya=kohya, needed=True)
    assert rule is not None
    report = loras.resize_lora(file, out, rule, precision=precision)
    if as_json:
        layers = {
            layer.stem: {"before": layer.before, "after": layer.after, "kept": layer.kept} for layer in report.layers
        }
        output.emit({"file": str(out), "kept": report.kept, "size": report.size_after, "layers": layers})
        return
    before, after = ([layer.before for layer in report.layers], [layer.after for layer in report.layers])
    sizes = [lora_tables.megabytes(size) for size in (report.size_after, report.size_before)]
    output.say(f"written: {output.shown(out)}, {sizes[0]} of {sizes[1]}")
    output.say(f"ranks: {lora_tables.span(after)}, before {lora_tables.span(before)}")
    output.say(f"kept: {report.kept:.2%} of the Frobenius norm")
    worst = sorted(report.layers, key=lambda layer: layer.kept)[: lora_tables.SHOWN]
    if worst[0].kept < 0.9995:
        rows = [(f"{layer.kept:.2%}", layer.after, layer.before, layer.stem) for layer in worst]
        output.say(output.table(("kept", "rank", "of", "layers that lost most"), rows))
    for note in report.notes:
        output.say(f"note: {note}")


@app.command()
def merge(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE:STRENGTH...", help="LoRAs, each with its strength; none means 1.")
    ],
    out: Out,
    method: Annotated[
        Literal["concat", "ties", "dare"],
        typer.Option(help="The sum, exactly; or one of two ways to settle where they disagree, which need --rank."),
    ] = "concat",
    rank: Rank = None,
    fro: Fro = None,
    ratio: Ratio = None,
    cumulative: Cumulative = None,
    conv_rank: ConvRank = None,
    density: Annotated[float, typer.Option(help="Share of the elements that ties and dare keep.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of what dare drops.")] = 0,
    precision: Stored = None,
    as_json: Json = False,
) -> None:
    """Make one LoRA of several: exactly, or as near as a rank allows.

    Without a rule for ranks they add up, and the result does what all of them together do.
    """
    from velatura.adapters.algebra.merge import How
    from velatura.api import loras

    rule = _rule({"rank": rank, "fro": fro, "ratio": ratio, "cumulative": cumulative}, conv_rank=conv_rank)
    how = How(method, rule, density, seed)
    done = loras.merge_loras([_strength(one) for one in files], out, how, precision=precision)
    if as_json:
        output.emit({"file": str(out), "kept": done.kept, "error": done.error, "ranks": done.ranks})
        return
    output.say(f"written: {output.shown(out)}, {lora_tables.megabytes(out.stat().st_size)}")
    output.say(f"ranks: {lora_tables.span(list(done.ranks.values()))}")
    output.say(f"layers: {len(done.ranks)}, of which {done.shared} are changed by more than one")
    output.say(f"kept: {done.kept:.2%} of the Frobenius norm" if done.error else "kept: all, exactly")


@app.command()
def extract(
    tuned: Annotated[str, typer.Argument(metavar="TUNED", help="A tuned checkpoint.")],
    base: Annotated[str, typer.Argument(metavar="BASE", help="The base it was tuned from.")],
    out: Out,
    rank: Annotated[int, typer.Option(metavar="N", help="Of every linear layer.")] = 32,
    conv_rank: Annotated[int, typer.Option(metavar="N", help="Of convolutions; 0 leaves them out.")] = 0,
    precision: Annotated[Precision, typer.Option(help="How the weights are stored.")] = "F16",
    as_json: Json = False,
) -> None:
    """Write a LoRA of what a tuned checkpoint does beyond its base.

    Says what share of the difference the rank could not hold.
    """
    from velatura.api import loras

    done = loras.extract_lora(tuned, base, out, rank=rank, conv_rank=conv_rank, precision=precision)
    if as_json:
        output.emit({"file": str(out), **vars(done)})
        return
    output.say(f"written: {output.shown(out)}, {lora_tables.megabytes(out.stat().st_size)}")
    output.say(f"layers: {done.layers} differ, {done.alike} do not")
    output.say(f"lost to the rank: {done.error:.2%} of the difference; most in {done.worst}: {done.worst_error:.2%}")
    if done.left_out:
        output.say(f"note: {done.left_out} norms or convolutions differ too and are left out; see --conv-rank")


@app.command()
def bake(
    base: Annotated[str, typer.Argument(metavar="BASE", help="A base, by path or name.")],
    files: Annotated[list[str], typer.Argument(metavar="FILE:STRENGTH...", help="LoRAs, each with its strength.")],
    out: Out,
    as_json: Json = False,
) -> None:
    """Write a whole checkpoint with LoRAs in its weights, in its own layout and precision.

    Says what share of the change was lost to rounding.
    """
    from velatura.api import loras

    done = loras.bake_loras(base, [_strength(one) for one in files], out)
    if as_json:
        output.emit({"file": str(out), "baked": [vars(one) for one in done]})
        return
    output.say(f"written: {output.shown(out)}")
    for one in done:
        about = f"{one.name}: " if len(done) > 1 else ""
        output.say(f"{about}{one.layers} layers; lost to rounding to {one.precision}: {one.lost:.2%} of the change")


@app.command()
def scale(
    file: File,
    out: Out,
    blocks: Annotated[
        list[str],
        typer.Option(
            metavar="BLOCK:STRENGTH", help="As in IN04:0.5, OUT:0 (all OUT blocks) or TE:0; repeatable; 0 removes."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Weaken, strengthen or remove blocks of a LoRA, and save it in its own kind.

    `velatura lora inspect` lists its blocks.
    """
    from velatura.api import loras

    told = [one for given in blocks for one in given.replace(",", " ").split()]
    done = loras.scale_lora(file, out, told)
    if as_json:
        output.emit({"file": str(out), "strengths": done.strengths, "layers": done.layers, "removed": done.removed})
        return
    output.say(f"written: {output.shown(out)}")
    output.say(f"layers: {done.layers} at another strength, {done.removed} removed")


@app.command()
def overlap(
    first: Annotated[Path, typer.Argument(metavar="A", help="A LoRA.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    base: Annotated[
        str, typer.Option(metavar="BASE", help="Measure what they do to this base as well, which paints with it.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Tell whether two LoRAs add up, do the same, or work against each other.

    From their weights: the cosine of their changes, and how far they read and write the same directions. With --base
    from what it predicts with each and with both, which their weights do not tell.
    """
    from velatura.api import interference, loras

    found = loras.overlap_loras(first, second, base=base)
    acting = interference.interference(first, second, base) if base else None
    if as_json:
        output.emit({**found.to_dict(), **({"on_base": vars(acting)} if acting else {})})
        return
    lora_tables.overlap(found, first, second)
    if acting is not None:
        lora_tables.interference(acting, first, second)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A LoRA of any program, or a folder of PEFT's.")],
    base: Annotated[str, typer.Option(metavar="BASE", help="The base it is to be used with.")],
    as_json: Json = False,
) -> None:
    """Check that a LoRA fits a base, and comes back the same from every program's form of file.

    Exits with 1 where it does not.
    """
    from velatura.api import loras

    found = loras.verify_lora(file, base)
    if as_json:
        output.emit(vars(found))
    else:
        output.say(f"attaches: {found.share:.1%} of its keys, to {found.layers} layers")
        for form, difference in found.differences.items():
            output.say(f"{form}: comes back with a relative difference of {difference:.1e}")
        for form, why in found.impossible.items():
            output.say(f"{form}: {why}")
        for problem in found.problems:
            output.say(f"problem: {problem}")
    if found.problems:
        raise typer.Exit(FOUND_PROBLEMS)


@app.command()
def deploy(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A LoRA, as .safetensors.")] = None,
    to: Annotated[
        str, typer.Option(metavar="WHERE", help="comfyui, a1111, forge or reforge, where they are found; or a folder.")
    ] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="What to call it there.")] = "",
    copy: Annotated[bool, typer.Option("--copy", help="A copy, where a hard link would do.")] = False,
    undo: Annotated[str, typer.Option("--undo", metavar="FILE", help="Take back what was put there.")] = "",
    listed: Annotated[bool, typer.Option("--list", help="List what was put where.")] = False,
    as_json: Json = False,
) -> None:
    """Put a LoRA into another program's folder, in a form that it reads; take it back; list what is where.

    Nothing there is overwritten, and only what was put there and is unchanged is taken back.
    """
    from dataclasses import asdict

    from velatura.adapters import deploy as deployment
    from velatura.api import loras

    if listed:
        rows = [(one.state, one.way, one.target) for one in deployment.remembered()]
        for one in deployment.remembered() if as_json else ():
            output.emit({**asdict(one), "state": one.state})
        if not as_json:
            output.say(output.table(("state", "as", "where"), rows) if rows else "nothing was put anywhere")
        return
    if undo:
        for one in deployment.undo(undo):
            if as_json:
                output.emit(asdict(one))
            else:
                output.say(f"taken back: {output.shown(Path(one.target))}")
        return
    if file is None or not to:
        raise AdapterError("nothing was said to put anywhere", fix="give a file and --to, or --undo, or --list")
    done = loras.deploy_lora(file, to, name=name, copy=copy)
    if as_json:
        output.emit(asdict(done))
        return
    how = {
        "link": "as a hard link, which takes no room",
        "copy": "as a copy",
        "converted": "converted to kohya's names",
    }
    output.say(f"put there: {output.shown(Path(done.target))}, {how[done.way]}")


def _strength(given: str) -> tuple[Path, float]:
    """ "mara.safetensors:0.8" as a file and its strength."""
    from velatura import settings

    name, colon, number = given.rpartition(":")
    try:
        strength = float(number) if colon else 1.0
    except ValueError:
        name, strength = given, 1.0  # the colon of a drive
    if not math.isfinite(strength):
        raise AdapterError(f"{given} has no strength", fix="write it as in mara.safetensors:0.8")
    return settings.find_lora(name if colon and name else given), strength


def _rule(
    told: Mapping[str, float | None],
    *,
    conv_rank: int | None,
    most: int | None = None,
    kohya: bool = False,
    needed: bool = False,
) -> Rule | None:
    from velatura.adapters.algebra.resize import Rule

    given = {name: value for name, value in told.items() if value is not None}
    if len(given) > 1 or (needed and not given):
        options = ", ".join(f"--{name}" for name in told)
        raise AdapterError(f"{len(given) or 'none'} of {options} was given", fix="give exactly one of them")
    if not given:
        return None
    ((method, value),) = given.items()
    return Rule(method, value, conv_rank=conv_rank, most=most, kohya=kohya)  # type: ignore[arg-type]
