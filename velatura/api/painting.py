"""Painting: prompts, or pictures, to pictures on disk, each saying how it was made."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura import bases
from velatura.api.inputs import read_texts, set_threads
from velatura.api.memory import chosen
from velatura.api.repeating import likeness, pixels_hash
from velatura.api.request import GenerateRequest
from velatura.bases import BaseFiles
from velatura.errors import PromptError, SettingsError
from velatura.events import Done, Event, Note, Preview, Progress
from velatura.files import make_folder, sha256, write_bytes
from velatura.generation.carriers import check_room
from velatura.text.readers import unread

if TYPE_CHECKING:
    from PIL.Image import Image

    from velatura.family import Model
    from velatura.generation.generate import Job, Sampling
    from velatura.generation.record import Begun, UsedLora
    from velatura.generation.start import Start
    from velatura.text.weighted import Embedding


def generate(request: GenerateRequest) -> Iterator[Event]:
    """Paint pictures and write each with its record, and a contact sheet where there are several.

    Raises:
        VelaturaError: a name resolves to nothing, a LoRA does not fit, the prompt has no meaning.
    """
    from velatura.generation.contact import contact_sheet
    from velatura.generation.generate import Job

    check(request)
    for remark in request.remarks:
        yield Note(remark)
    model, files = yield from opened(request)
    ready = yield from made_ready(model, files, request)
    seed = drawn_unless(request.seed)
    jobs = [Job(request.prompt, seed + place, request.negative) for place in range(request.count)]
    if request.variation_strength:
        first, strength = drawn_unless(request.variation_seed), request.variation_strength
        jobs = [Job(request.prompt, seed, request.negative, first + place, strength) for place in range(request.count)]
    if request.original is not None:
        jobs = [
            Job(prompt, seed, negative, variation, strength)
            for seed, prompt, negative, variation, strength in request.original.together
        ]
        seed = jobs[request.original.place].seed
    folder = make_folder(request.out or (request.project or Path.cwd()) / "images")
    images, names = [], []
    for event in painted(ready, jobs):
        if not isinstance(event, Finished):
            yield event
            continue
        if request.original is not None:
            if event.place != request.original.place:
                continue
            yield Note(likeness(event.image, request.original))
        images.append(event.image)
        names.append(free_name(folder, f"{event.job.seed}", request.form))
        write_bytes(folder / names[-1], event.data)
        yield Preview(len(names), str(folder / names[-1]))
    if len(images) > 1:
        names.append(free_name(folder, f"{seed}-sheet", request.form))
        write_bytes(folder / names[-1], _file(contact_sheet(images, columns=min(4, len(images))), request))
    yield Done(len(images), {"folder": str(folder), "files": names, "seed": seed})


@dataclass(frozen=True)
class Ready:
    """All that painting needs besides prompts and seeds, settled before the first step."""

    request: GenerateRequest
    model: Model
    files: BaseFiles
    sampling: Sampling
    loras: Sequence[UsedLora]
    embeddings: Sequence[Embedding]
    start: Start | None
    begun: Begun | None
    """What is to be said of the picture that painting starts from."""


@dataclass(frozen=True)
class Finished:
    """A picture, and the file that it is to be."""

    job: Job
    place: int
    """Of the job, among all."""
    image: Image
    data: bytes


def check(request: GenerateRequest) -> None:
    """Refuse what cannot be, before a base is loaded.

    Raises:
        SettingsError: an unknown form of file, upscaler or way of fitting, or two things that exclude each other.
    """
    from velatura.generation import carriers, hires
    from velatura.generation.start import check_mode

    carriers.check_format(request.form, request.quality)
    if request.hires is not None:
        hires.check_upscaler(request.hires.upscaler)
    if request.begin is not None:
        check_mode(request.begin.resize_mode)
    if request.variation_seed is not None and not request.variation_strength:
        raise SettingsError(
            "a variation seed without a strength changes nothing", fix="add --variation-strength, as in 0.1"
        )
    if request.hires is not None and request.begin is not None:
        raise SettingsError(
            "a second pass follows a picture painted from noise, not one painted from a picture",
            fix="leave --hires out, and paint larger by --width and --height",
        )


def opened(request: GenerateRequest) -> Generator[Event, None, tuple[Model, BaseFiles]]:
    """The base, loaded, and its files.

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
    yield Progress("loading the base", 0, 1)
    memory = chosen(base, request.memory, task="paint")
    model = load_base(base, policy=memory.policy, strict=request.strict)
    yield Progress("loading the base", 1, 1)
    for note in (*memory.warnings, *model.notes):
        yield Note(note)
    return model, base


def made_ready(model: Model, files: BaseFiles, request: GenerateRequest) -> Generator[Event, None, Ready]:
    """What a request comes to with a base; notes say what the user should know.

    Raises:
        VelaturaError: a name resolves to nothing, a LoRA does not fit, a prompt has no meaning.
    """
    from velatura.generation.generate import Sampling, check_negative
    from velatura.generation.reading import weighted
    from velatura.generation.record import used_embeddings, used_loras

    project = request.project
    read_texts(model, clip_skip=request.clip_skip, emphasis=request.emphasis)
    loras = used_loras(model, request.prompt, request.loras, project, partial=request.partial)
    for lora in (lora for lora in loras if lora.passed_over):
        yield Note(f"{lora.name} attaches in part: {len(lora.passed_over)} keys are passed over, {lora.passed_over[0]}")
    bundled = [one for lora in loras for one in lora.embeddings]
    texts = _texts(request)
    named = used_embeddings(model, texts, project, bundled=bundled)
    told = [weighted(text).words for text in texts]
    for sentence in (*named.passed_over, *unread(model.readers, told, called="prompt")):
        yield Note(sentence)
    start, begun, width, height = _begin(model, request)
    sampling = Sampling(
        width,
        height,
        request.steps or model.defaults.steps,
        model.defaults.cfg_scale if request.cfg is None else request.cfg,
        request.sampler or model.defaults.sampler,
        request.scheduler or model.defaults.scheduler,
        model.defaults.guidance if request.guidance is None else request.guidance,
        request.negative_strength,
        request.tuning,
    )
    check_negative(request.negative, sampling)
    return Ready(request, model, files, sampling, loras, named.embeddings, start, begun)


def painted(ready: Ready, jobs: Sequence[Job]) -> Iterator[Event | Finished]:
    """Paint, and make each picture the file that it is to be.

    Raises:
        VelaturaError: as `generation.generate.generate`; FileProblem: a file has no room for what is to be said.
    """
    from velatura.generation.generate import Painted, second_pass
    from velatura.generation.generate import generate as paint
    from velatura.training.samples import merged

    request, model, sampling, hires = ready.request, ready.model, ready.sampling, ready.request.hires
    apart = sampling.apart or (hires is not None and second_pass(model, sampling, hires).sampling.apart)
    check_room(request.form, *_told(ready, jobs, 0))
    place = 0
    with merged(model, [lora.applied for lora in ready.loras], apart=apart) as adapters:
        for event in paint(
            model,
            jobs,
            sampling,
            batch=request.batch,
            start=ready.start,
            hires=hires,
            embeddings=ready.embeddings,
            adapters=adapters,
        ):
            if not isinstance(event, Painted):
                yield event
                continue
            infotext, record = _told(ready, jobs, place)
            data = _file(event.image, request, infotext, record | {"pixels": pixels_hash(event.image)})
            yield Finished(event.job, place, event.image, data)
            place += 1


def _told(ready: Ready, jobs: Sequence[Job], place: int) -> tuple[str, dict[str, Any]]:
    """What is to be said of one of the jobs' pictures."""
    from velatura.generation.record import infotext_of

    first = place - place % ready.request.batch
    return infotext_of(
        ready.model,
        jobs[place],
        ready.sampling,
        ready.loras,
        batch=ready.request.batch,
        embeddings=ready.embeddings,
        begun=ready.begun,
        hires=ready.request.hires,
        together=jobs[first : first + ready.request.batch],
        files=ready.files,
    )


def _file(image: Image, request: GenerateRequest, infotext: str = "", record: dict[str, Any] | None = None) -> bytes:
    from velatura.generation.carriers import to_bytes

    return to_bytes(image, infotext, record, form=request.form, quality=request.quality)


def _texts(request: GenerateRequest) -> list[str]:
    """All that is to be read.

    Raises:
        PromptError: the prompt of the second pass has other LoRAs than that of the first.
    """
    from velatura.generation import prompt as grammar

    texts = [request.prompt, request.negative]
    if request.hires is None:
        return texts
    if (other := request.hires.prompt) is not None:
        if grammar.parse(other).loras != grammar.parse(request.prompt).loras:
            raise PromptError(
                "the prompt of the second pass has other LoRAs than that of the first",
                where=other,
                fix="write the same <lora:...> into both",
            )
        texts.append(other)
    return [*texts, *([request.hires.negative_prompt] if request.hires.negative_prompt is not None else [])]


def _begin(model: Model, request: GenerateRequest) -> tuple[Start | None, Begun | None, int, int]:
    """What painting begins with, what is to be said of it, and the size, width first.

    Raises:
        DatasetError: the picture to begin with cannot be read.
        PromptError: the size is not one that the base can paint.
        SettingsError: an unknown way of fitting.
    """
    from velatura.dataset.images import open_image
    from velatura.generation.generate import check_size, nearest_side
    from velatura.generation.record import Begun
    from velatura.generation.start import Start, encoded_picture

    width, height, told = request.width, request.height, request.begin
    if told is None:
        return None, None, width or model.resolution, height or model.resolution
    image = open_image(told.path, background=told.background)
    across, down = image.size
    side = model.resolution
    width = width or nearest_side(model, round(height * across / down if height else side * (across / down) ** 0.5))
    height = height or nearest_side(model, round(width * down / across))
    check_size(model, width, height)
    latents = encoded_picture(model, image, width, height, mode=told.resize_mode)
    begun = Begun(
        told.path.name, sha256(told.path), told.denoising, told.resize_mode, told.exact_steps, told.background
    )
    return Start(latents, told.denoising, told.exact_steps), begun, width, height


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
