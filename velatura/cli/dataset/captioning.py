"""`velatura dataset tag` and `caption`: captions by a tagger or from a template."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from velatura.cli import output, progress
from velatura.cli.dataset.captions import Names
from velatura.cli.dataset.shared import FOUND_PROBLEMS, Folder, counted, dataset_in, some
from velatura.cli.options import Json

if TYPE_CHECKING:
    from velatura.captioning.captioner import Captioner

ReplaceOwn = Annotated[bool, typer.Option("--replace-own", help="Also write over what a person wrote.")]
Try = Annotated[str, typer.Option("--try", metavar="NAME", help="Show the caption of one picture; write nothing.")]

STOPPED = "stopped; the same command goes on where it was, `velatura dataset undo` takes it back"


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
    replace_own: ReplaceOwn = False,
    trying: Try = "",
    as_json: Json = False,
) -> None:
    """Tag pictures with a WD14 model; what a person wrote stays, and it can be undone."""
    from velatura.captioning.wd14 import Choice, WD14Tagger

    hidden = tuple(one.strip() for one in undesired.split(",") if one.strip())
    choice = Choice(general, character, most, underscores, rating, hidden, not csv_order)
    _run(folder, WD14Tagger(model, choice), names, replace_own, trying, as_json)


def caption(
    folder: Folder,
    template: Annotated[
        str, typer.Option(metavar="TEXT", help='As in "portrait of a {woman|man|}, {caption}"; also {name}.')
    ],
    names: Names = None,
    replace_own: ReplaceOwn = False,
    trying: Try = "",
    as_json: Json = False,
) -> None:
    """Caption all pictures alike but for the subject; what a person wrote stays, and it can be undone.

    Of {woman|man|child}, the one is taken that a picture's caption or name says; of {woman|man|}, none otherwise.
    """
    from velatura.captioning.template import Template

    _run(folder, Template(template), names, replace_own, trying, as_json)


def _run(
    folder: Path, captioner: Captioner, names: list[str] | None, replace_own: bool, trying: str, as_json: bool
) -> None:
    from velatura.captioning.writing import Captioning, tried

    target = dataset_in(folder)
    if trying:
        [answer] = tried(target, [captioner], trying)
        if as_json:
            output.emit({"captions": answer.captions, "why": answer.why})
        for text in () if as_json else answer.captions or (f"none: {answer.why}",):
            output.say(text)
        return
    work = Captioning(target, captioner, names=names or (), replace_own=replace_own)
    progress.follow(work, as_json=False, interrupted=STOPPED)
    assert work.result is not None
    done = work.result
    if as_json:
        output.emit({"written": done.written, "kept": done.kept, "failed": dict(done.failed)})
    else:
        output.say(f"{counted(len(done.written), 'caption')} written")
        if done.kept:
            output.tell(f"kept, because a person wrote them: {some(done.kept)}; --replace-own writes over them")
        for name, why in done.failed:
            output.tell(f"{name} has no new caption: {why}")
    if done.failed:
        raise typer.Exit(FOUND_PROBLEMS)
