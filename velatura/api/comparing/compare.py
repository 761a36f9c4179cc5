"""Comparing: the cells of a sheet painted with what they share done once, and laid side by side."""

from __future__ import annotations

import os
from collections.abc import Generator, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura import run as runs
from velatura.api.comparing.varying import changed, ordered, varied
from velatura.api.inputs import read_texts
from velatura.api.painting.fingerprint import fingerprints
from velatura.api.painting.paint import Read, check, laid, made_ready, opened
from velatura.api.painting.repeating import pixels_hash
from velatura.api.painting.request import GenerateRequest
from velatura.api.painting.wanted import wanted
from velatura.errors import RunError, SettingsError
from velatura.events import Done, Event, Note, Preview, Progress
from velatura.files import make_folder, write_bytes, write_text
from velatura.generation import control
from velatura.sheets import axes as sheet_axes
from velatura.sheets import folder as folders
from velatura.sheets import plan
from velatura.sheets.axes import Axis
from velatura.sheets.folder import Placed
from velatura.sheets.plan import Cell, Sheet

if TYPE_CHECKING:
    from PIL.Image import Image

    from velatura.api.painting.paint import Ready
    from velatura.bases import BaseFiles
    from velatura.family import Model
    from velatura.generation.hires import Hires
    from velatura.generation.record import UsedLora
    from velatura.generation.sampling import Job
    from velatura.sheets.together import Wanted


@dataclass(frozen=True)
class CompareRequest:
    """What `velatura compare` is told."""

    sheet: Sheet
    request: GenerateRequest
    """What all cells begin with; the sheet's prompt, LoRAs and settings come on top."""
    folder: Path
    """Of the sheet; what is there of it is not painted again."""
    shared: bool = True
    """Paint cells with LoRAs or strengths of their own as one batch, where the base allows it."""


def compare(told: CompareRequest) -> Iterator[Event]:
    """Paint the cells of a sheet that are not there yet, and lay all of them side by side.

    Raises:
        VelaturaError: as `generate`; or an axis that cannot be, before anything is painted.
    """
    sheet, files = settled(told)
    cells = plan.cells(sheet.axes)
    requests = [request_of(told, sheet, cell, files) for cell in cells]
    asked = [*map(fingerprints(), requests)]
    for at in (at for places in _left(told.folder, requests, asked) for at in places):
        check(requests[at])
    with folders.lock(make_folder(told.folder)):
        yield from _compared(told, sheet, cells, requests, asked)


def _left(folder: Path, requests: Sequence[GenerateRequest], asked: Sequence[str | None]) -> list[list[int]]:
    """Places of the cells of each base of which some are not known to be there."""
    there = folders.read_index(folder)
    return [places for places in _by_base(requests) if not all(asked[at] in there for at in places)]


def _compared(
    told: CompareRequest,
    sheet: Sheet,
    cells: Sequence[Cell],
    requests: Sequence[GenerateRequest],
    asked: Sequence[str | None],
) -> Iterator[Event]:
    """The cells painted and laid out."""
    from velatura.sheets.page import write_page
    from velatura.sheets.picture import write_pictures

    folder, there = told.folder, folders.read_index(told.folder)
    placed = {at: Placed(cells[at], there[key]) for at, key in enumerate(asked) if key is not None and key in there}
    make_folder(folder / folders.CELLS)
    folders.read_notes(folder)
    write_text(folder / folders.SHEET, plan.to_toml(sheet))
    numbers = {cell: number for number, cell in enumerate(cells)}
    painted = 0
    for places in _left(folder, requests, asked):
        for event in _painted(told, sheet.axes, [cells[at] for at in places], [requests[at] for at in places]):
            if isinstance(event, Placed):
                placed[numbers[event.cell]] = event
            else:
                painted += isinstance(event, Preview)
                yield event
    whole = [placed[at] for at in range(len(cells))]
    if painted < len(cells):
        yield Note(f"{len(cells) - painted} of {len(cells)} cells were there already")
    laid_out = folders.laid_out(folder, sheet.axes, whole)
    if not laid_out:
        folders.write_index(folder, sheet.axes, whole, known=asked)
        yield Progress("laying out", 0, 2)
        pictures = write_pictures(folder, sheet, whole)
        yield Progress("laying out", 1, 2)
        for sentence in write_page(folder, sheet, whole):
            yield Note(sentence)
        laid_out = [*pictures, folders.PAGE]
        folders.write_index(folder, sheet.axes, whole, known=asked, laid_out=laid_out)
        yield Progress("laying out", 2, 2)
    summary = {
        "folder": str(folder),
        "page": folders.PAGE,
        "pictures": [name for name in laid_out if name != folders.PAGE],
        "cells": len(cells),
        "painted": painted,
    }
    yield Done(len(cells), summary)


def settled(told: CompareRequest) -> tuple[Sheet, dict[int, Path]]:
    """A sheet with everything drawn and looked up that is left open, and the adapter of each checkpoint it means.

    Raises:
        SettingsError: no axis, or no such run or checkpoint.
    """
    sheet = told.sheet
    if not sheet.axes:
        raise SettingsError("a sheet needs an axis", fix="write one, as in --x seed=1-4")
    files: dict[int, Path] = {}
    found = []
    for axis in sheet.axes:
        if axis.name == sheet_axes.CHECKPOINT:
            run = _run(sheet.run, told.request.project)
            there = {one.step: one.adapter for one in run.checkpoints()}
            steps = sheet_axes.checkpoints(axis.values, sorted(there), run.path)
            files = {step: there[step] for step in steps}
            axis, sheet = replace(axis, values=steps), replace(sheet, run=_from(run.path, told.request.project))
        if axis.name.endswith("seed"):
            axis = replace(axis, values=tuple(_seed() if value == -1 else value for value in axis.values))
        found.append(axis)
    named = {axis.name for axis in found} | set(sheet.settings)
    drawn = {} if "seed" in named or told.request.seed is not None else {"seed": _seed()}
    varies = "variation_strength" in named or told.request.variation_strength
    if varies and "variation_seed" not in named and told.request.variation_seed is None:
        drawn["variation_seed"] = _seed()
    return replace(sheet, axes=tuple(found), settings={**sheet.settings, **drawn}), files


def request_of(told: CompareRequest, sheet: Sheet, cell: Cell, files: Mapping[int, Path]) -> GenerateRequest:
    """What paints a cell alone.

    Raises:
        VelaturaError: as `varying.varied`.
    """
    request = told.request
    request = replace(
        request,
        prompt=sheet.prompt or request.prompt,
        loras=(*request.loras, *sheet.loras),
        controls=(*request.controls, *map(control.read, sheet.controls)),
        count=1,
    )
    changes = plan.changes(sheet.axes, cell)
    opening = {axis.name: value for axis, value in changes if axis.name in _OPENING}
    once = "hires.scale" in opening and opening["hires.scale"] is None
    settings = {name: value for name, value in sheet.settings.items() if name not in opening}
    for name in ordered({**settings, **opening}):
        if not (once and name.startswith("hires.") and name != "hires.scale"):
            request = changed(request, name, {**settings, **opening}[name])
    rest = [one for one in changes if one[0].name not in _OPENING and not (once and one[0].name.startswith("hires."))]
    return varied(request, rest, files)


_OPENING = ("begin.path", "hires.scale", "hires.width", "hires.height")
"""What a picture to begin with and a second pass need comes before what changes of them; a cell whose `hires.scale` is
none has no second pass, and so nothing of one."""


def _run(name: str, project: Path | None) -> runs.Run:
    if name:
        places = [Path(name), *([project / name, project / "runs" / name] if project else ())]
        return runs.open_run(next((place for place in places if place.is_dir()), places[0]).resolve())
    found = [run for run in (runs.runs_of(project) if project else []) if run.checkpoints()]
    if not found:
        raise RunError("run.checkpoint needs a run", fix="name its folder with --run")
    return found[-1]


def _from(path: Path, project: Path | None) -> str:
    """A path as the project has it, so that its folder may be moved."""
    whole = path.resolve()
    if project is not None and whole.is_relative_to(project.resolve()):
        return whole.relative_to(project.resolve()).as_posix()
    return str(whole)


def _seed() -> int:
    return int.from_bytes(os.urandom(4), "little")


def _by_base(requests: Sequence[GenerateRequest]) -> list[list[int]]:
    """Places of the requests that one loaded base can paint."""
    found: dict[Hashable, list[int]] = {}
    for place, one in enumerate(requests):
        key = one.base, one.vae, one.text_encoders, one.memory.model_dump_json()
        found.setdefault(key, []).append(place)
    return list(found.values())


@dataclass(frozen=True)
class _Ready:
    """A cell, and all that painting it needs."""

    cell: Cell
    ready: Ready
    name: str
    """Of its file."""

    @property
    def job(self) -> Job:
        """The picture."""
        return self.ready.groups[0][0].jobs[0]

    @property
    def hires(self) -> Hires | None:
        """Its second pass."""
        return self.ready.groups[0][0].hires

    @property
    def loras(self) -> Sequence[UsedLora]:
        """Its LoRAs."""
        return self.ready.groups[0][1]


def _painted(
    told: CompareRequest, axes: Sequence[Axis], cells: Sequence[Cell], requests: Sequence[GenerateRequest]
) -> Iterator[Event | Placed]:
    """The cells of one base, those that are there first."""
    from velatura.sheets import together

    model, files = yield from opened(*requests)
    every = yield from _once(_made_ready(model, files, cells, requests))
    waiting = []
    for one in every:
        if (told.folder / (file := Placed(one.cell, one.name)).file).exists():
            yield file
        else:
            waiting.append(one)
    number = 0
    pictures = [_wanted(one) for one in waiting]
    for event in together.painted(model, pictures, batch=told.request.batch, shared=told.shared):
        match event:
            case together.Walked(done, total):
                yield Progress("painting", done, total)
            case together.Finished(places, image, beside, shared):
                for place in places:
                    one = waiting[place]
                    with_it = [waiting[at] for at in beside] if place in beside else [one]
                    file, number = Placed(one.cell, one.name), number + 1
                    data = _file(axes, one, laid(one.ready, image), with_it, shared=shared)
                    write_bytes(told.folder / file.file, data)
                    yield Preview(number, file.file)
                    yield file
            case _:
                yield event


def _made_ready(
    model: Model, files: BaseFiles, cells: Sequence[Cell], requests: Sequence[GenerateRequest]
) -> Generator[Event, None, list[_Ready]]:
    read = Read()
    found = []
    for cell, request in zip(cells, requests, strict=True):
        (group,) = wanted(request, request.seed or 0, request.variation_seed or 0)
        ready = yield from made_ready(model, files, request, [group], read)
        one = _Ready(cell, ready, "")
        _, record = _told(one, [one])
        found.append(replace(one, name=folders.named(record)))
    return found


def _once(events: Generator[Event, None, list[_Ready]]) -> Generator[Event, None, list[_Ready]]:
    """Cells have much to say in common; each sentence is said once."""
    said: set[str] = set()
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            found: list[_Ready] = end.value
            return found
        if not isinstance(event, Note) or event.text not in said:
            yield event
        if isinstance(event, Note):
            said.add(event.text)


def _wanted(one: _Ready) -> Wanted:
    from velatura.sheets.together import Lora, Wanted
    from velatura.text.clip import EMPHASES

    ready, request = one.ready, one.ready.request
    begun = ready.begun
    return Wanted(
        one.job,
        ready.sampling,
        tuple(
            Lora(lora.applied, (lora.hash, lora.blocks, lora.applied.start, lora.applied.stop)) for lora in one.loras
        ),
        ready.start,
        begun and (begun.sha256, begun.resize_mode, begun.background, begun.inpaint),
        one.hires,
        tuple(ready.embeddings),
        request.clip_skip,
        next(one for one in EMPHASES if one == request.emphasis),
    )


def _told(one: _Ready, together: Sequence[_Ready]) -> tuple[str, dict[str, Any]]:
    """What is to be said of a picture."""
    from velatura.generation.record import infotext_of

    ready = one.ready
    read_texts(ready.model, clip_skip=ready.request.clip_skip, emphasis=ready.request.emphasis)
    return infotext_of(
        ready.model,
        one.job,
        ready.sampling,
        one.loras,
        batch=len(together),
        embeddings=ready.embeddings,
        begun=ready.begun,
        hires=one.hires,
        together=[each.job for each in together],
        files=ready.files,
    )


def _file(axes: Sequence[Axis], one: _Ready, image: Image, beside: Sequence[_Ready], *, shared: bool) -> bytes:
    """A cell's file: its own record, and where it stands in the sheet."""
    from velatura.generation.carriers import to_bytes

    infotext, record = _told(one, beside)
    if shared:
        record["adapters"] = "beside the layers"
    if shared or any(each.ready.sampling != one.ready.sampling for each in beside):
        del record["together"]  # a batch that `velatura generate` does not paint: equal within 1e-4, not bit for bit
    values = {axis.title: sheet_axes.shown(value) for axis, value in zip(axes, one.cell.values, strict=True)}
    return to_bytes(image, infotext, record | {"sheet": values, "pixels": pixels_hash(image)})
