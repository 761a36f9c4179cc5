"""Refining pictures: a part painted anew, finds in detail, the whole larger; each says what it was made from.

What a picture says of itself is recalled, so that it is painted on as it was painted. The result is written beside it
and never over it. Its record holds the picture's name, hash and own record: a chain back to the one from noise.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from velatura import settings
from velatura.api.painting.paint import Finished, check, drawn_unless, free_name, generate, made_ready, opened, painted
from velatura.api.painting.repeating import (
    Changes,
    again,
    as_it_was,
    doubts_of,
    found_lora,
    found_picture,
    likeness,
    missing,
)
from velatura.api.painting.request import FromPicture, GenerateRequest, Original
from velatura.api.painting.wanted import wanted
from velatura.api.refining.detail_record import as_recorded as recorded_detail
from velatura.api.refining.detailing import Detector, detailed
from velatura.api.refining.recalling import recalled
from velatura.api.refining.upscaling import as_recorded as recorded_upscale
from velatura.api.refining.upscaling import upscaled
from velatura.bases import BaseFiles
from velatura.errors import SettingsError
from velatura.events import Done, Event, Note, Preview
from velatura.files import make_folder, write_bytes
from velatura.generation import detail, enlarge
from velatura.generation.carriers import read
from velatura.generation.detail import Detail
from velatura.generation.enlarge import Enlarge
from velatura.generation.parts import Inpaint

if TYPE_CHECKING:
    from velatura.family import Model


@dataclass(frozen=True)
class RefineRequest:
    """What `velatura refine` is told."""

    pictures: tuple[Path, ...]
    work: Inpaint | Detail | Enlarge
    """What is done to each of them."""
    denoising: float | None = None
    """How much is painted anew, 0 to 1; none: what suits the work."""
    exact_steps: bool = False
    """Take as many steps as are asked for, and not that share of them."""
    colour_correction: bool = False
    """Bring what is painted back to the colours that were there: for painting a part anew."""
    changes: Changes = field(default_factory=Changes)
    """What is to be otherwise than the pictures say: prompt, base, seed, sampler..."""
    out: Path | None = None
    """Folder for the results; none: that of each picture."""
    project: Path | None = None


ITSELF = Path("the picture itself")
"""The hint of a ControlNet that sees the very picture that is refined."""

INPAINT_DENOISING = 0.75
"""A1111's; the other kinds of work say their own."""


def refine(request: RefineRequest) -> Iterator[Event]:
    """Refine pictures one after another; each result is written whole, with its record, or not at all.

    Raises:
        VelaturaError: a picture does not say how it was made, or it cannot be refined so; nothing is painted then.
    """
    noted = set[str]()
    for event in _refined(request):
        if isinstance(event, Note) and event.text in noted:  # what holds for all pictures is said once
            continue
        noted |= {event.text} if isinstance(event, Note) else set()
        yield event


def _refined(request: RefineRequest) -> Iterator[Event]:
    if not request.pictures:
        raise SettingsError("there is nothing to refine", fix="name a picture")
    if request.colour_correction and not isinstance(request.work, Inpaint):
        raise SettingsError("colour correction is for painting a part anew", fix="leave it out")
    told = [_told(request, picture) for picture in request.pictures]
    for picture, one in zip(request.pictures, told, strict=True):
        _check(picture, one, request.work)
    detectors = detectors_of(request.work)
    files: list[str] = []
    shelf = Shelf()
    for picture, one in zip(request.pictures, told, strict=True):
        for remark in one.remarks:
            yield Note(remark)
        folder = make_folder(request.out or picture.parent)
        names = yield from _worked(picture, one, request.work, shelf, folder, detectors)
        for name in names:
            yield Preview(len(files) + 1, str(folder / name))
            files.append(name)
    yield Done(len(files), {"folder": str(request.out or request.pictures[0].parent), "files": files})


def _told(request: RefineRequest, picture: Path) -> GenerateRequest:
    """What painting is told for a picture."""
    told = recalled(picture, project=request.project, changes=request.changes)
    shown = tuple(use if use.hint != ITSELF else replace(use, hint=picture) for use in told.controls)
    told = replace(told, seed=drawn_unless(told.seed), controls=shown)
    if not isinstance(request.work, Inpaint):
        return told
    share = INPAINT_DENOISING if request.denoising is None else request.denoising
    begin = FromPicture(
        picture,
        share,
        exact_steps=request.exact_steps,
        inpaint=request.work,
        colour_correction=request.colour_correction,
    )
    return replace(told, begin=begin)


def _check(picture: Path, told: GenerateRequest, work: Inpaint | Detail | Enlarge) -> None:
    """Refuse what cannot be, before a base is loaded.

    Raises:
        SettingsError: settings that there are not, a mask or a size that does not fit the picture.
    """
    from velatura.dataset.images import picture_size
    from velatura.generation.inpaint import check_mask, mask_of

    check(told)
    size = picture_size(picture)
    if isinstance(work, Inpaint):
        check_mask(mask_of(work, size), work)
    elif isinstance(work, Detail):
        detail.check(work, sized=bool(told.width or told.height))
        mask_of(Inpaint(boxes=tuple(box for one in work.passes for box in one.boxes)), size)
    else:
        enlarge.check(work)
        enlarge.target(size, work)
        if work.upscaler not in enlarge.USUAL:
            settings.find_upscaler(work.upscaler)


def detectors_of(work: Inpaint | Detail | Enlarge) -> Sequence[Detector | None]:
    """What finds things for each pass of a work; none where there is nothing to look for.

    Raises:
        SettingsError: there is no such detector.
    """
    if not isinstance(work, Detail):
        return ()
    from velatura.detection import detector

    return [
        detector(one.detector, one.picking.confidence) if one.detector and one.finds is None else None
        for one in work.passes
    ]


def _worked(
    picture: Path,
    request: GenerateRequest,
    work: Inpaint | Detail | Enlarge,
    shelf: Shelf,
    folder: Path,
    detectors: Sequence[Detector | None],
) -> Generator[Event, None, Sequence[str]]:
    """Refine one picture; the names of the results."""
    if isinstance(work, Inpaint):
        return (yield from _inpainted(picture, request, shelf, folder))
    model, files = yield from shelf.base(request)
    if isinstance(work, Enlarge):

        def write(data: bytes) -> str:
            return written(folder, f"{picture.stem}-upscale", data, request.form)

        return [(yield from upscaled(picture, model, files, request, work, folder, write))]
    made = yield from detailed(picture, model, files, request, work, detectors)
    return [] if made is None else [written(folder, f"{picture.stem}-detail", made[1], request.form)]


def refine_again(
    picture: Path, *, parent: Path | None = None, out: Path | None = None, project: Path | None = None
) -> Iterator[Event]:
    """Make a refined picture again from the one that it was made from, and say whether it is the same.

    Args:
        picture: the refined one.
        parent: the other; none: it is looked for beside it, in the current folder and in the project.
        out: folder for the result; none: that of the picture.
        project: whose LoRAs are meant.

    Raises:
        SettingsError: the picture was not refined here, or something that it was made with is not here.
    """
    record: Mapping[str, Any] = read(picture).record or {}
    out = out or picture.parent / "again"
    if "refined" not in record and (record.get("begun") or {}).get("inpaint"):
        changes = Changes({"out": out}, begin={"path": parent} if parent is not None else {})
        yield from generate(again(picture, project=project, changes=changes))
        return
    if "refined" not in record:
        raise SettingsError(
            "this picture was not refined here", where=picture, fix="make it again with velatura generate --again"
        )
    told = record["refined"]
    found = found_picture(record["parent"], beside=picture, project=project, given=parent)
    if found is None:
        raise missing(record["parent"], "refined")
    request = as_it_was(picture, record, project=project, changes=Changes(), hints=(found,))
    work: Detail | Enlarge
    if told["work"] == "detail":
        loras = {one["name"]: found_lora(one["name"], one["sha256_tensors"], project) for one in told["loras"]}
        work = recorded_detail(told, loras)
    else:
        work = recorded_upscale(told)
    doubts = (*(request.original.doubts if request.original else ()), *doubts_of(record))
    original = Original(picture, record["pixels"], 0, (), tuple(dict.fromkeys(doubts)))
    request = replace(request, original=None)
    folder = make_folder(out)
    names = yield from _worked(found, request, work, Shelf(), folder, detectors_of(work))
    for name in names:
        with Image.open(folder / name) as image:
            yield Note(likeness(image, original))
        yield Preview(1, str(folder / name))
    yield Done(len(names), {"folder": str(folder), "files": list(names)})


@dataclass
class Shelf:
    """The base that was loaded last."""

    request: GenerateRequest | None = None
    model: Model | None = None
    files: BaseFiles | None = None

    def base(self, request: GenerateRequest) -> Generator[Event, None, tuple[Model, BaseFiles]]:
        """The base of a request; loaded anew only where it is another."""
        if self.model is None or self.files is None or self.request is None or _other(self.request, request):
            self.model = self.files = None
            self.model, self.files = yield from opened(request)
            self.request = request
        return self.model, self.files


def _other(one: GenerateRequest, request: GenerateRequest) -> bool:
    names = ("base", "vae", "text_encoders", "base_sha256", "strict", "memory", "threads")
    return any(getattr(one, name) != getattr(request, name) for name in names)


def _inpainted(
    picture: Path, request: GenerateRequest, shelf: Shelf, folder: Path
) -> Generator[Event, None, Sequence[str]]:
    """Paint a part of a picture anew, once for each seed; the names of the results."""
    model, files = yield from shelf.base(request)
    groups = wanted(request, request.seed or 0, drawn_unless(request.variation_seed))
    ready = yield from made_ready(model, files, request, groups)
    names = []
    for event in painted(ready):
        if not isinstance(event, Finished):
            yield event
            continue
        names.append(written(folder, f"{picture.stem}-inpaint", event.data, request.form))
    return names


def written(folder: Path, stem: str, data: bytes, form: str) -> str:
    """Write a result under a name that is not taken; the name."""
    name = free_name(folder, stem, form)
    write_bytes(folder / name, data)
    return name
