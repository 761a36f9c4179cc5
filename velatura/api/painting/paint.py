"""Painting: prompts, or pictures, to pictures on disk, each saying how it was made."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura import bases, settings
from velatura.api.inputs import read_texts, set_threads
from velatura.api.memory import chosen
from velatura.api.painting.repeating import likeness, pixels_hash
from velatura.api.painting.request import GenerateRequest
from velatura.api.painting.wanted import Together, wanted
from velatura.bases import BaseFiles
from velatura.errors import SettingsError
from velatura.events import Done, Event, Glimpse, Note, Preview, Progress
from velatura.files import make_folder, write_bytes
from velatura.generation.carriers import check_room
from velatura.text.readers import unread

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from velatura.adapters.weights import AdapterFile
    from velatura.controlnets import ControlFiles
    from velatura.family import ControlNet, Model
    from velatura.generation.conditioning import Prompts
    from velatura.generation.control import ControlUse
    from velatura.generation.hints import Shown
    from velatura.generation.inpaint import Patch
    from velatura.generation.record import Begun, UsedLora
    from velatura.generation.sampling import Job, Sampling
    from velatura.generation.start import Start
    from velatura.text.weighted import Embedding


def generate(request: GenerateRequest) -> Iterator[Event]:
    """Paint pictures and write each with its record, and a contact sheet where there are several.

    Raises:
        VelaturaError: a name resolves to nothing, a LoRA does not fit, the prompt has no meaning.
    """
    from velatura.generation.contact import contact_sheet

    check(request)
    for remark in request.remarks:
        yield Note(remark)
    seed = drawn_unless(request.seed)
    groups = wanted(request, seed, drawn_unless(request.variation_seed))
    model, files = yield from opened(request)
    ready = yield from made_ready(model, files, request, groups)
    folder = make_folder(request.out or (request.project or Path.cwd()) / "images")
    done: dict[int, tuple[Image, str]] = {}
    for event in painted(ready):
        if not isinstance(event, Finished):
            yield event
            continue
        if request.original is not None:
            if event.place != request.original.place:
                continue
            yield Note(likeness(event.image, request.original))
            seed = event.job.seed
        name = free_name(folder, f"{event.job.seed}", request.form)
        write_bytes(folder / name, event.data)
        done[event.place] = event.image, name
        yield Preview(len(done), str(folder / name))
    images, names = [list(told) for told in zip(*(done[place] for place in sorted(done)), strict=True)]
    if len(images) > 1:
        names.append(free_name(folder, f"{seed}-sheet", request.form))
        write_bytes(folder / names[-1], picture_file(contact_sheet(images, columns=min(4, len(images))), request))
    yield Done(len(images), {"folder": str(folder), "files": names, "seed": seed})


@dataclass(frozen=True)
class Ready:
    """All that painting needs besides prompts and seeds, settled before the first step."""

    request: GenerateRequest
    model: Model
    files: BaseFiles
    sampling: Sampling
    groups: Sequence[tuple[Together, Sequence[UsedLora]]]
    """Pictures that are painted together, with their LoRAs."""
    embeddings: Sequence[Embedding]
    start: Start | None
    begun: Begun | None
    """What is to be said of the picture that painting starts from."""
    patch: Patch | None = None
    """The part of that picture that is painted anew; none: all of it."""
    original: Image | None = None
    """That picture, where the rest of it stays."""
    colours: Image | None = None
    """The picture whose colours what is painted is brought back to; none: they stay as painted."""


@dataclass(frozen=True)
class Finished:
    """A picture, and the file that it is to be."""

    job: Job
    place: int
    """Of the job, among all; those with the same LoRAs come together."""
    image: Image
    data: bytes


def check(request: GenerateRequest) -> None:
    """Refuse what cannot be, before a base is loaded.

    Raises:
        SettingsError: an unknown form of file, upscaler or way of fitting, or two things that exclude each other.
    """
    from velatura.generation import carriers, control, hires
    from velatura.generation.parts import check as check_inpaint
    from velatura.generation.start import check_mode

    carriers.check_format(request.form, request.quality)
    if request.hires is not None:
        hires.check_upscaler(request.hires.upscaler)
    for use in request.controls:
        control.check(use)
    if request.begin is not None:
        check_mode(request.begin.resize_mode)
        if request.begin.inpaint is not None:
            check_inpaint(request.begin.inpaint)
    if request.variation_seed is not None and not request.variation_strength:
        raise SettingsError(
            "a variation seed without a strength changes nothing", fix="add --variation-strength, as in 0.1"
        )
    if request.hires is not None and request.begin is not None:
        raise SettingsError(
            "a second pass follows a picture painted from noise, not one painted from a picture",
            fix="leave --hires out, and paint larger by --width and --height",
        )


def opened(request: GenerateRequest, *others: GenerateRequest) -> Generator[Event, None, tuple[Model, BaseFiles]]:
    """The base, loaded, and its files.

    Args:
        request: which base.
        others: what else is painted with it; its ControlNets too need memory.

    Raises:
        SettingsError, ModelError: it is not there, or cannot be loaded.
    """
    from velatura.family import load_base

    yield from bases.fetched(request.base, beside=request.project)
    base = bases.find(
        request.base,
        vae=request.vae,
        text_encoders=request.text_encoders,
        beside=request.project,
        sha256=request.base_sha256,
    )
    set_threads(request.threads)
    controls = _controlnets((request, *others), base)
    yield Progress("loading the base", 0, 1)
    memory = chosen(base, request.memory, task="paint", controls=controls)
    model = load_base(base, policy=memory.policy, strict=request.strict)
    yield Progress("loading the base", 1, 1)
    for note in (*memory.warnings, *model.notes):
        yield Note(note)
    return model, base


def _controlnets(requests: Sequence[GenerateRequest], base: BaseFiles) -> list[ControlFiles]:
    """The ControlNets of requests; refuses those of another family, and hints that are not there.

    Raises:
        SettingsError, ModelError, DatasetError: one is.
    """
    from velatura import controlnets
    from velatura.dataset.images import open_image

    uses = dict.fromkeys((use.file, use.hint, request.project) for request in requests for use in request.controls)
    found: dict[Path, ControlFiles] = {}
    for file, hint, project in uses:
        path = settings.find_controlnet(file, project=project)
        if path not in found:
            found[path] = controlnets.recognise(path)
            family = bases.recognise(base).family
            controlnets.check_family(found[path], family, settings.base_name(base.model))
        open_image(hint)
    return list(found.values())


@dataclass(frozen=True)
class Read:
    """What requests that are painted with one base have read so far."""

    loras: dict[Path, tuple[AdapterFile, str]] = field(default_factory=dict)
    pictures: dict[tuple[object, ...], Tensor] = field(default_factory=dict)
    """Picture, background, size and way of fitting -> latents."""
    nets: dict[Path, ControlNet] = field(default_factory=dict)
    shown: dict[tuple[ControlUse, object], Shown] = field(default_factory=dict)


def made_ready(
    model: Model, files: BaseFiles, request: GenerateRequest, groups: Sequence[Together], read: Read | None = None
) -> Generator[Event, None, Ready]:
    """What a request comes to with a base; notes say what the user should know.

    Args:
        model: the base.
        files: its files.
        request: what is asked for.
        groups: its pictures, as `wanted` has them.
        read: what was read for other requests already.

    Raises:
        VelaturaError: a name resolves to nothing, a LoRA does not fit, a prompt has no meaning.
    """
    from velatura.generation.passes import passes_of
    from velatura.generation.reading import weighted
    from velatura.generation.record import used_embeddings, used_loras
    from velatura.generation.sampling import Sampling, check_negative

    project = request.project
    read_texts(model, clip_skip=request.clip_skip, emphasis=request.emphasis)
    read = read or Read()
    ready = [
        (group, used_loras(model, group.prompt, request.loras, project, partial=request.partial, known=read.loras))
        for group in groups
    ]
    loras = {lora.name: lora for _, used in ready for lora in used}
    for lora in (lora for lora in loras.values() if lora.passed_over):
        yield Note(f"{lora.name} attaches in part: {len(lora.passed_over)} keys are passed over, {lora.passed_over[0]}")
    begun = _begin(model, request, read.pictures)
    sampling = Sampling(
        *begun.size,
        request.steps or model.defaults.steps,
        model.defaults.cfg_scale if request.cfg is None else request.cfg,
        *model.defaults.how(request.sampler, request.scheduler),
        model.defaults.guidance if request.guidance is None else request.guidance,
        request.negative_strength,
        request.tuning,
        _controls(model, request, read, begun),
    )
    for group in groups:
        passes_of(model, group.jobs, sampling, start=begun.start, hires=group.hires)  # what cannot be painted ends here
    prompts = [prompts for group in groups for prompts in _prompts(model, group, sampling)]
    if not all(one.negative for one in prompts):
        for job in (job for group in groups for job in group.jobs):
            check_negative(job.negative_prompt, sampling)
    texts = list(dict.fromkeys(text for one in prompts for text in one.texts))
    bundled = [one for lora in loras.values() for one in lora.embeddings]
    named = used_embeddings(model, texts, project, bundled=bundled)
    told = [weighted(text).words for text in texts]
    lone = {one.positive[0].weight for one in prompts if len(one.positive) == 1} - {1.0}
    for sentence in (*named.passed_over, *unread(model.readers, told, called="prompt"), *map(_weight_note, lone)):
        yield Note(sentence)
    return Ready(
        request,
        model,
        files,
        sampling,
        ready,
        named.embeddings,
        begun.start,
        begun.told,
        begun.patch,
        begun.original,
        begun.colours,
    )


def _controls(model: Model, request: GenerateRequest, read: Read, begun: _Beginning) -> tuple[Shown, ...]:
    """The ControlNets of a request, with their hints, or what these say of the part that is painted.

    Each is there once for all requests.
    """
    from velatura.generation.hints import shown

    part = None
    if begun.patch is not None and begun.original is not None and begun.patch.part.size != begun.original.size:
        part = begun.original.size, begun.patch.part
    for use in request.controls:
        if (use, None) not in read.shown:
            read.shown[use, None] = shown(model, use, request.project, read.nets)
        if part is not None and (use, part) not in read.shown:
            read.shown[use, part] = read.shown[use, None].of_part(*part)
    return tuple(read.shown[use, part] for use in request.controls)


def _prompts(model: Model, group: Together, sampling: Sampling) -> list[Prompts]:
    """What the pictures of a group are told, in both passes where there are two."""
    from velatura.generation.passes import prompts_of, second_pass

    first = [prompts_of(job, sampling) for job in group.jobs]
    return [*first, *(second_pass(model, sampling, group.hires).prompts(group.jobs) if group.hires else ())]


def _weight_note(weight: float) -> str:
    told = f"{weight:g}"
    return (
        f"the prompt ends in :{told}, which multiplies its guidance by {told}, as in A1111;"
        f" where it is a part of the text, write :\\{told}"
    )


def painted(ready: Ready, *, more: Mapping[int, dict[str, Any]] | None = None) -> Iterator[Event | Finished]:
    """Paint group by group, and make each picture the file that it is to be.

    Args:
        more: what the record of a picture is to say besides, by its place.

    Raises:
        VelaturaError: as `generation.generate.generate`; FileProblem: a file has no room for what is to be said.
    """
    from velatura.generation.generate import Painted, Unfinished, batch_of, steps_of
    from velatura.generation.generate import generate as paint
    from velatura.generation.passes import passes_of, second_pass
    from velatura.training.samples import merged

    request, model, sampling = ready.request, ready.model, ready.sampling
    for group, loras in ready.groups:
        check_room(request.form, *_told(ready, group, loras, 0, group.jobs[: request.batch], request.batch))
    steps = []
    for group, _ in ready.groups:
        passes = passes_of(model, group.jobs, sampling, start=ready.start, hires=group.hires)
        steps.append(steps_of(passes, len(group.jobs), batch_of(passes, request.batch)))
    for number, (group, loras) in enumerate(ready.groups):
        hires, at = group.hires, 0
        apart = sampling.apart or (hires is not None and second_pass(model, sampling, hires).sampling.apart)
        with merged(model, [lora.applied for lora in loras], apart=apart) as adapters:
            for event in paint(
                model,
                group.jobs,
                sampling,
                batch=request.batch,
                start=ready.start,
                hires=hires,
                embeddings=ready.embeddings,
                adapters=adapters,
                shown_every=request.preview_every if request.preview else 0,
            ):
                if isinstance(event, Painted):
                    place, image = group.places[at], laid(ready, event.image)
                    infotext, record = _told(ready, group, loras, at, event.together, event.batch)
                    record |= {"pixels": pixels_hash(image), **(more or {}).get(place, {})}
                    yield Finished(event.job, place, image, picture_file(image, request, infotext, record))
                    at += 1
                elif isinstance(event, Unfinished):
                    yield _shown(event.images, request)
                elif isinstance(event, Progress):
                    steps[number] = event.total  # more than was thought where the memory is too small for the batch
                    yield replace(event, done=event.done + sum(steps[:number]), total=sum(steps))
                else:
                    yield event


def laid(ready: Ready, painted: Image) -> Image:
    """What was painted, its colours corrected where that is asked for, in the picture of which it is a part."""
    from velatura.generation.colours import corrected

    if ready.colours is not None:
        painted = corrected(painted, ready.colours)
    if ready.patch is None or ready.original is None:
        return painted
    whole = ready.original.copy()
    ready.patch.lay(whole, painted)
    return whole


def _shown(images: Sequence[Image], request: GenerateRequest) -> Glimpse:
    """Unfinished pictures side by side in one file, each enlarged to what can be seen."""
    from PIL import Image as Images

    assert request.preview is not None
    scale = max(1, 256 // max(images[0].size))
    width, height = (side * scale for side in images[0].size)
    sheet = Images.new("RGB", (width * len(images), height))
    for place, image in enumerate(images):
        sheet.paste(image.resize((width, height), Images.Resampling.BILINEAR), (place * width, 0))
    write_bytes(request.preview, png(sheet))
    return Glimpse(len(images), str(request.preview))


def _told(
    ready: Ready, group: Together, loras: Sequence[UsedLora], at: int, together: Sequence[Job], batch: int
) -> tuple[str, dict[str, Any]]:
    """What is to be said of a picture of a group, painted together with some of it."""
    from velatura.generation.record import infotext_of
    from velatura.text.embeddings import named

    model, job = ready.model, group.jobs[at]
    texts = [text for one in _prompts(model, replace(group, jobs=[job]), ready.sampling) for text in one.texts]
    return infotext_of(
        model,
        job,
        ready.sampling,
        loras,
        batch=batch,
        embeddings=named(texts, model.tokenizers[0], ready.embeddings) if ready.embeddings else (),
        begun=ready.begun,
        hires=group.hires,
        together=together,
        files=ready.files,
    )


def picture_file(
    image: Image, request: GenerateRequest, infotext: str = "", record: dict[str, Any] | None = None
) -> bytes:
    """A picture as a file of the form that is asked for."""
    from velatura.generation.carriers import to_bytes

    return to_bytes(image, infotext, record, form=request.form, quality=request.quality)


@dataclass(frozen=True)
class _Beginning:
    """What painting begins with."""

    size: tuple[int, int]
    """Width and height that are painted in."""
    start: Start | None = None
    told: Begun | None = None
    patch: Patch | None = None
    original: Image | None = None
    colours: Image | None = None


def _begin(model: Model, request: GenerateRequest, read: dict[tuple[object, ...], Tensor]) -> _Beginning:
    """What painting begins with, and what is to be said of it.

    Raises:
        DatasetError: the picture to begin with, or a mask, cannot be read.
        PromptError: the size is not one that the base can paint.
        SettingsError: an unknown way of fitting, or a mask that does not fit.
    """
    from velatura.dataset.images import open_image
    from velatura.generation.inpaint import begin_with, mask_bytes, mask_of, patch
    from velatura.generation.record import Begun, parent_of
    from velatura.generation.sampling import check_size, nearest_side
    from velatura.generation.start import Start, encoded_picture, fitted

    width, height, told = request.width, request.height, request.begin
    if told is None:
        return _Beginning((width or model.resolution, height or model.resolution))
    image, inpaint = open_image(told.path, background=told.background), told.inpaint
    across, down = image.size
    if inpaint is not None and inpaint.area == "whole picture" and not (width or height):
        width, height = nearest_side(model, across), nearest_side(model, down)
    side = model.resolution
    width = width or nearest_side(model, round(height * across / down if height else side * (across / down) ** 0.5))
    height = height or nearest_side(model, round(width * down / across))
    check_size(model, width, height)
    parent = parent_of(told.path)
    shared = (parent["name"], parent["sha256"], told.denoising, told.resize_mode, told.exact_steps, told.background)
    if inpaint is not None:
        one = patch(image, mask_of(inpaint, image.size), inpaint, (width, height))
        start = begin_with(
            model,
            one,
            denoising=told.denoising,
            exact_steps=told.exact_steps,
            fill=inpaint.fill,
            soft=inpaint.soft,
        )
        if isinstance(inpaint.mask, Path):
            inpaint = replace(inpaint, mask=mask_bytes(mask_of(replace(inpaint, boxes=()), image.size)))
        colours = one.begun(inpaint.fill) if told.colour_correction else None
        return _Beginning(
            (width, height), start, Begun(*shared, inpaint, parent, told.colour_correction), one, image, colours
        )
    key = told.path, told.background, width, height, told.resize_mode
    if (latents := read.get(key)) is None:
        latents = read[key] = encoded_picture(model, image, width, height, mode=told.resize_mode)
    start = Start(latents, told.denoising, told.exact_steps)
    colours = fitted(image, width, height, told.resize_mode) if told.colour_correction else None
    begun = Begun(*shared, parent=parent, colour_correction=told.colour_correction)
    return _Beginning((width, height), start, begun, colours=colours)


def drawn_unless(seed: int | None) -> int:
    """The seed, or one that is drawn."""
    return int.from_bytes(os.urandom(4), "little") if seed is None else seed


def free_name(folder: Path, stem: str, ending: str = "png") -> str:
    """A file name that is not taken: a user's picture is never overwritten."""
    number = 1
    while (folder / (name := f"{stem}.{ending}" if number == 1 else f"{stem}-{number}.{ending}")).exists():
        number += 1
    return name


def png(image: Any, infotext: str = "", record: dict[str, Any] | None = None) -> bytes:
    """A picture as PNG; with what made it, where that is given."""
    from velatura.generation.carriers import to_bytes

    return to_bytes(image, infotext, record)
