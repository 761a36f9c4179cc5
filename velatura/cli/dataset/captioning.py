"""`velatura dataset tag` and `caption`: captions by a tagger, a template, a server or a model on this machine."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from velatura.cli import output, progress
from velatura.cli.dataset.captions import Names, Where, counting
from velatura.cli.dataset.shared import FOUND_PROBLEMS, Folder, dataset_in, some
from velatura.cli.options import Json
from velatura.errors import DatasetError, SettingsError, VelaturaError, counted

if TYPE_CHECKING:
    from velatura.captioning.captioner import Captioner
    from velatura.captioning.writing import Captioning
    from velatura.dataset.editing import Selection

ReplaceOwn = Annotated[bool, typer.Option("--replace-own", help="Also write over what a person wrote.")]
Append = Annotated[bool, typer.Option("--append", help="Put it behind what is there, whoever wrote that.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the captions, and write none.")]

STOPPED = "stopped; the same command goes on where it was, `velatura dataset undo` takes it back"

COLUMN = 24
"""Narrowest column of captions side by side; where the terminal has no room for it, they stand below each other."""


def tag(
    folder: Folder,
    names: Names = None,
    model: Annotated[
        str, typer.Option(help="Folder with model.onnx and selected_tags.csv, or an id on Hugging Face.")
    ] = "SmilingWolf/wd-vit-tagger-v3",
    general: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least probability; by default where precision is recall.")
    ] = None,
    character: Annotated[float, typer.Option(min=0, max=1, help="The same for names of characters.")] = 0.85,
    most: Annotated[int, typer.Option(min=0, help="General tags at most; 0 is no limit.")] = 0,
    underscores: Annotated[bool, typer.Option("--underscores", help="long_hair, not long hair.")] = False,
    rating: Annotated[bool, typer.Option("--rating", help="The most probable rating first.")] = False,
    undesired: Annotated[str, typer.Option(metavar="TAGS", help='Never written: "solo, *background".')] = "",
    csv_order: Annotated[bool, typer.Option("--csv-order", help="In the model's order, not by probability.")] = False,
    where: Where = "",
    append: Append = False,
    replace_own: ReplaceOwn = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Tag pictures with a WD14 model; what a person wrote stays, and it can be undone."""
    from velatura.captioning.appended import Appended
    from velatura.captioning.chosen import captioner
    from velatura.captioning.writing import Captioning

    hidden = tuple(one.strip() for one in undesired.split(",") if one.strip())
    told = {"tagger": model, "general": general, "character": character, "most": most, "underscores": underscores}
    made = captioner({**told, "rating": rating, "undesired": hidden, "csv_order": csv_order})
    selection = _selection(folder, names, where)
    if dry_run:
        _show(dataset_in(folder), {"": Appended(made) if append else made}, selection, as_json)
    else:
        _write(Captioning(dataset_in(folder), made, selection, replace_own=replace_own, append=append), as_json)


def caption(
    folder: Folder,
    names: Names = None,
    template: Annotated[
        str, typer.Option(metavar="TEXT", help='As in "portrait of a {woman|man|}, {caption}"; also {name}, {tags}.')
    ] = "",
    endpoint: Annotated[
        str, typer.Option(metavar="URL", help="A server: llama.cpp, vLLM, Ollama; http://localhost:8080/v1.")
    ] = "",
    model: Annotated[
        str, typer.Option(metavar="NAME", help="The server's model; without one, a model's folder or Hugging Face id.")
    ] = "",
    by: Annotated[str, typer.Option(metavar="NAME", help="A captioner of config.toml; options go before it.")] = "",
    prompt: Annotated[list[str] | None, typer.Option(help="What is asked; each gives a caption of its own.")] = None,
    system: Annotated[str, typer.Option(help="What the model is told beforehand.")] = "",
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of an answer; 300 unless said.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="Of a server; 0 unless said.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of what a server draws at a temperature above 0.")] = None,
    with_tags: Annotated[str, typer.Option(metavar="TAGGER", help="Is given these tags: wd14, a folder, an id.")] = "",
    side: Annotated[int | None, typer.Option(min=64, help="Longer side in pixels that is shown; 1024.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Pictures at once; a server 1, a model here 4.")] = None,
    device: Annotated[str, typer.Option(metavar="KIND", help="Of a model here: cpu, cuda, mps.")] = "",
    precision: Annotated[str, typer.Option(metavar="KIND", help="The same: fp32, fp16, bf16.")] = "",
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Until a server has answered; 120.")] = None,
    key_from: Annotated[
        str, typer.Option(metavar="VARIABLE", help="Of the environment, with a server's key; VELATURA_API_KEY.")
    ] = "",
    where: Where = "",
    append: Append = False,
    replace_own: ReplaceOwn = False,
    dry_run: DryRun = False,
    trying: Annotated[
        str, typer.Option("--try", metavar="A,B,C", help="Show what captioners say of these pictures side by side.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Describe pictures by a template, a server or a model here; what a person wrote stays, and it can be undone.

    Pictures leave this machine only where --endpoint names another one.

    --try compares captioners on a few pictures, and writes nothing: names of config.toml, wd14, addresses of servers,
    folders and ids of models; what the other options describe comes first.
    """
    from velatura.captioning.appended import Appended
    from velatura.captioning.writing import Captioning

    told: dict[str, Any] = {
        "template": template, "endpoint": endpoint, "model": model, "prompt": tuple(prompt or ()), "system": system,
        "max_tokens": max_tokens, "temperature": temperature, "seed": seed, "with_tags": with_tags, "side": side,
        "batch": batch, "device": device, "precision": precision, "timeout": timeout, "key_from": key_from,
    }  # fmt: skip
    given = {key: value for key, value in told.items() if value not in (None, "", ())}
    selection = _selection(folder, names, where)
    target = dataset_in(folder)
    if trying:
        if not names and not where:
            raise DatasetError("which picture they are tried on is not said", fix="name it: --try a,b,c 01")
        _show(target, _compared(trying, by, given), selection, as_json)
        return
    if not given and not by:
        what = "who is to caption is not said"
        raise SettingsError(what, fix="give --template, --endpoint, --model or --by, or `velatura dataset tag`")
    made = _captioner(by, given)
    if dry_run:
        _show(target, {"": Appended(made) if append else made}, selection, as_json)
    else:
        _write(Captioning(target, made, selection, replace_own=replace_own, append=append), as_json)


def _captioner(by: str, given: dict[str, Any]) -> Captioner:
    from velatura.captioning.chosen import captioner, named

    made = named(by, given) if by else captioner(given)
    _tell_where_pictures_go(made)
    return made


def _compared(trying: str, by: str, given: dict[str, Any]) -> dict[str, Captioner]:
    """Captioners by the names under which they are shown."""
    wanted = list(dict.fromkeys(name.strip() for name in trying.split(",") if name.strip()))
    made = {by or "these options": _captioner(by, given)} if given or by else {}
    return {**made, **{name: _captioner(name, {}) for name in wanted}}


def _tell_where_pictures_go(captioner: Captioner) -> None:
    from velatura.captioning.endpoint import Endpoint
    from velatura.captioning.tagged import Tagged

    inner = captioner.captioner if isinstance(captioner, Tagged) else captioner
    if isinstance(inner, Endpoint) and not inner.server.local:
        output.tell(f"the pictures leave this machine: they are sent to {inner.server.host}")


def _selection(folder: Path, names: list[str] | None, where: str) -> Selection:
    from velatura.dataset.editing import Selection

    return Selection(tuple(names or ()), where, counting(folder, wanted="tokens" in where))


def _show(target: Path, captioners: dict[str, Captioner], selection: Selection, as_json: bool) -> None:
    """What captioners say of pictures; nothing is written."""
    from velatura.captioning.writing import lines, tried

    failed = shown_any = False
    for name, answers in tried(target, list(captioners.values()), selection):
        said = [lines(answer) for answer in answers]
        failed, shown_any = failed or any(not captions for captions, _ in said), True
        if as_json:
            found = {key: {"captions": one, "why": why} for key, (one, why) in zip(captioners, said, strict=True)}
            output.emit({"name": name, **found.get("", {"captioners": found})})
            continue
        output.say(name)
        shown = ["\n".join(captions) or f"none: {why}" for captions, why in said]
        for line in _side_by_side(list(captioners), shown, output.columns() - 2):
            output.say(f"  {line}".rstrip())
    if not shown_any:
        output.tell("no picture is meant by that")
    if failed:
        raise typer.Exit(FOUND_PROBLEMS)


def _side_by_side(heads: Sequence[str], texts: Sequence[str], room: int) -> list[str]:
    """Texts in columns under their heads; below each other where the columns would be too narrow."""
    if heads == [""]:
        return [line for text in texts for line in text.split("\n")]
    each = (room - 2 * (len(heads) - 1)) // len(heads)
    if each < COLUMN:
        return [line for head, text in zip(heads, texts, strict=True) for line in (f"{head}:", *_wrapped(text, room))]
    columns = [_wrapped(text, each) for text in texts]
    rows = list(itertools.zip_longest(*columns, fillvalue=""))
    return output.table(list(heads), rows).split("\n")


def _wrapped(text: str, room: int) -> list[str]:
    return [piece for line in text.split("\n") for piece in textwrap.wrap(line, room, subsequent_indent="  ")]


def _write(work: Captioning, as_json: bool) -> None:
    try:
        progress.follow(work, as_json=False, interrupted=STOPPED)
    except VelaturaError:
        if work.result.written and not as_json:
            output.tell(f"{counted(len(work.result.written), 'caption')} written so far; {STOPPED.partition('; ')[2]}")
        raise
    _report(work, as_json)
    if work.result.failed:
        raise typer.Exit(FOUND_PROBLEMS)


def _report(work: Captioning, as_json: bool) -> None:
    done = work.result
    if as_json:
        output.emit({"written": done.written, "kept": done.kept, "failed": dict(done.failed)})
        return
    output.say(f"{counted(len(done.written), 'caption')} written")
    if done.kept:
        output.tell(
            f"kept, because a person wrote them: {some(done.kept)}; --append adds to them, --replace-own writes over"
        )
    for name, why in done.failed:
        output.tell(f"{name} has no new caption: {why}")
