"""`velatura dataset resize`, `crop`, `clean`, `flip`, `rename`, `mask`: pictures made ready, originals kept."""

from __future__ import annotations

import re
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from velatura.cli import output, progress
from velatura.cli.dataset.shared import Folder, Workers, dataset_in, some
from velatura.cli.options import Json
from velatura.errors import DatasetError, counted

if TYPE_CHECKING:
    from velatura.dataset.framing import Box
    from velatura.dataset.reframing import Options

STOPPED = "stopped; the same command goes on where it was, `velatura dataset undo` takes it back"


class Focus(StrEnum):
    """What a crop is laid around."""

    centre = "centre"
    saliency = "saliency"
    face = "face"


class Format(StrEnum):
    """File formats that are written."""

    keep = "keep"
    png = "png"
    jpg = "jpg"
    webp = "webp"


Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Pictures; none: every chosen one.")]
Out = Annotated[Format, typer.Option("--format", help="keep: PNG, JPEG and WebP stay, others become PNG.")]
Quality = Annotated[int, typer.Option(min=1, max=100, help="Of JPEG and WebP.")]
Background = Annotated[str, typer.Option(help="Colour behind transparent parts, as #rrggbb.")]
Alpha = Annotated[bool, typer.Option("--alpha-as-mask", help="Keep transparency as the picture's mask.")]
FaceModel = Annotated[Path | None, typer.Option(help="YuNet's ONNX file; else OpenCV's own cascades.")]


def resize(
    folder: Folder,
    names: Names = None,
    long_side: Annotated[int | None, typer.Option(min=16, help="Longer side, in pixels: 512, 768, 1024, 1536.")] = None,
    cover: Annotated[str | None, typer.Option(metavar="WxH", help="Exactly this size; the rest is cut away.")] = None,
    square: Annotated[int | None, typer.Option(min=16, help="The same for a square of this side.")] = None,
    focus: Annotated[Focus, typer.Option(help="What a crop is laid around.")] = Focus.centre,
    enlarge: Annotated[bool, typer.Option(help="Also scale small pictures up.")] = True,
    upscaler: Annotated[
        str, typer.Option(metavar="MODEL", help="Enlarges small ones first: a file, or a name in your folders.")
    ] = "",
    form: Out = Format.keep,
    quality: Quality = 95,
    background: Background = "#ffffff",
    alpha_as_mask: Alpha = False,
    face_model: FaceModel = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Resize pictures; masks follow, originals are kept, and it can be undone.

    They also come out upright, in 8-bit sRGB, flattened, and without what the camera wrote into them.
    """
    from velatura.dataset.framing import Target

    size = (square, square) if square else None if cover is None else _size(cover)
    if (long_side is None) == (size is None) or (square and cover):
        raise DatasetError("say what size is wanted", fix="give one of --long-side, --cover or --square")
    target = Target(long_side, size, focus=focus.value, enlarge=enlarge)
    options = _options(target, form, quality, background, alpha_as_mask, face_model)
    told = f"resize to {target}"
    if upscaler:
        from velatura.api.datasets import enlarger

        if not enlarge:
            raise DatasetError("--upscaler and --no-enlarge exclude each other", fix="leave one of them out")
        options, told = replace(options, enlarger=enlarger(upscaler)), f"{told}, small ones by {Path(upscaler).stem}"
    _reframe(folder, options, told, names, workers, as_json)


def crop(
    folder: Folder,
    names: Names = None,
    box: Annotated[str | None, typer.Option(metavar="L,T,R,B", help="The part to keep, in pixels.")] = None,
    borders: Annotated[bool, typer.Option("--borders", help="Cut away bars of one colour at the edges.")] = False,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Cut pictures to a part of them; masks follow, and it can be undone."""
    from velatura.dataset.borders import crops
    from velatura.dataset.framing import Target

    if borders == (box is not None):
        raise DatasetError("say what to keep", fix="give --box L,T,R,B or --borders")
    if box is not None:
        target = Target(box=_box(box))
        _reframe(folder, _options(target), f"{target}", names, workers, as_json)
        return
    events = crops(dataset_in(folder), names=names or (), workers=workers)
    _show(events, as_json)


def flip(folder: Folder, names: Names = None, workers: Workers = None, as_json: Json = False) -> None:
    """Mirror pictures left to right; masks follow, and it can be undone."""
    from velatura.dataset.framing import Target

    _reframe(folder, _options(Target(mirror=True)), "mirror", names, workers, as_json)


def clean(
    folder: Folder,
    names: Names = None,
    form: Out = Format.keep,
    quality: Quality = 95,
    background: Background = "#ffffff",
    alpha_as_mask: Alpha = False,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Make files say what is seen: upright, 8-bit sRGB, one frame, legal names, captions in UTF-8.

    What the camera wrote into them, place and owner too, is left behind. Sound pictures stay as they are.
    """
    from velatura.dataset.framing import Target
    from velatura.dataset.renaming import recode, rename

    target = dataset_in(folder)
    renamed = {} if names else rename(target, legal=True)
    recoded = [] if names else recode(target)
    if not as_json:
        for old, new in renamed.items():
            output.tell(f"{old} is now {new}")
        if recoded:
            output.tell(f"now UTF-8: {some(recoded)}")
    options = _options(Target(), form, quality, background, alpha_as_mask, strip=True)
    _reframe(folder, options, "clean", names, workers, as_json)


def rename(
    folder: Folder,
    prefix: Annotated[str, typer.Option(help="Stands before each number.")] = "",
    as_json: Json = False,
) -> None:
    """Name pictures 01, 02, ... in their order, with their captions and masks; it can be undone."""
    from velatura.dataset.renaming import rename as name_anew

    renamed = name_anew(dataset_in(folder), prefix=prefix)
    if as_json:
        output.emit({"renamed": renamed})
        return
    for old, new in list(renamed.items())[:12]:
        output.say(f"{old} -> {new}")
    output.say(f"{counted(len(renamed), 'picture')} renamed")


def mask(
    folder: Folder,
    names: Names = None,
    alpha: Annotated[bool, typer.Option("--alpha", help="From the pictures' own transparency.")] = False,
    box: Annotated[str | None, typer.Option(metavar="L,T,R,B", help="One box, in pixels or shares of 1.")] = None,
    faces: Annotated[bool, typer.Option("--faces", help="Faces, found with OpenCV.")] = False,
    subject: Annotated[Path | None, typer.Option(metavar="MODEL", help="What an ONNX network finds.")] = None,
    outside: Annotated[int, typer.Option(min=0, max=255, help="Grey of what counts less; 0 not at all.")] = 0,
    replace: Annotated[bool, typer.Option("--replace", help="Also where there is a mask.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take masks away.")] = False,
    face_model: FaceModel = None,
    as_json: Json = False,
) -> None:
    """Make masks: masks/NAME.png, white where a picture counts fully and black where it does not."""
    from velatura.dataset import masking

    target = dataset_in(folder)
    if sum((alpha, box is not None, faces, subject is not None, remove)) != 1:
        what = "say where the masks come from"
        raise DatasetError(what, fix="give one of --alpha, --box, --faces, --subject or --remove")
    if remove:
        removed = masking.remove(target, names=names or ())
        if as_json:
            output.emit({"removed": removed})
        else:
            output.say(f"{counted(len(removed), 'mask')} removed")
        return
    if box is not None:
        maker, told = masking.box(_box(box), outside=outside), f"masks from the box {box}"
    elif subject is not None:
        maker, told = masking.subject(subject, outside=outside), "masks of the subject"
    elif faces:
        maker, told = masking.face(model=face_model, outside=outside), "masks of faces"
    else:
        maker, told = masking.alpha(), "masks from transparency"
    weights, without = masking.make(target, maker, told=told, names=names or (), replace=replace)
    if as_json:
        output.emit({"masks": weights, "without": without})
        return
    for name, weight in weights.items():
        output.say(f"{name}: {weight:.0%} counts")
    for name, why in without.items():
        output.tell(f"{name} {why}")


def _reframe(
    folder: Path, options: Options, told: str, names: list[str] | None, workers: int | None, as_json: bool
) -> None:
    from velatura.dataset.reframing import reframe

    _show(reframe(dataset_in(folder), options, told=told, names=names or (), workers=workers), as_json)


def _show(events: object, as_json: bool) -> None:
    from velatura.cli import ending

    done = progress.follow(events, as_json=as_json, interrupted=STOPPED)  # type: ignore[arg-type]
    if done is not None and not as_json:
        ending.show(done)


def _options(
    target: object,
    form: Format = Format.keep,
    quality: int = 95,
    background: str = "#ffffff",
    alpha_as_mask: bool = False,
    face_model: Path | None = None,
    *,
    strip: bool = False,
) -> Options:
    from velatura.dataset.framing import Target
    from velatura.dataset.reframing import Options

    assert isinstance(target, Target)
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", background):
        raise DatasetError(f"{background} is not a colour", fix="write it as #rrggbb")
    red, green, blue = bytes.fromhex(background[1:])
    return Options(target, form.value, quality, (red, green, blue), alpha_as_mask, face_model, strip)


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", text.replace(" ", ""))
    if not found or min(int(found[1]), int(found[2])) < 16:
        raise DatasetError(f"{text} is not a size", fix="write it as 1024x768")
    return int(found[1]), int(found[2])


def _box(text: str) -> Box:
    try:
        left, top, right, bottom = (float(side) for side in text.split(","))
    except ValueError:
        raise DatasetError(f"{text} is not a box", fix="write left,top,right,bottom") from None
    if not (0 <= left < right and 0 <= top < bottom):
        raise DatasetError(f"the box {text} holds nothing", fix="write left,top,right,bottom")
    return left, top, right, bottom
