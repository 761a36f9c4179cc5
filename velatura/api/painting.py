"""Painting: prompts, or pictures, to pictures on disk, each saying how it was made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura import bases
from velatura.api.inputs import read_texts, set_threads
from velatura.api.memory import chosen
from velatura.dataset.colour import WHITE
from velatura.errors import PromptError, SettingsError
from velatura.events import Done, Event, Note, Preview, Progress
from velatura.files import make_folder, sha256, write_bytes
from velatura.generation.hires import Hires
from velatura.recipe import MemorySettings
from velatura.text.readers import unread

if TYPE_CHECKING:
    from velatura.family import Model
    from velatura.generation.record import Begun
    from velatura.generation.start import Start


@dataclass(frozen=True)
class FromPicture:
    """A picture to paint from."""

    path: Path
    denoising: float = 0.75
    """How much of it is painted anew, 0 to 1."""
    resize_mode: str = "stretch"
    """How it is made to fit: stretch, crop, fill or latent."""
    exact_steps: bool = False
    """Take as many steps as are asked for, and not that share of them."""
    background: tuple[int, int, int] = WHITE
    """What shows through where it is transparent."""


@dataclass(frozen=True)
class GenerateRequest:
    """What `velatura generate` is told."""

    prompt: str
    negative: str = ""
    base: str = "pocket"
    vae: str = ""
    """File or name of another autoencoder."""
    text_encoders: tuple[str, ...] = ()
    """Files or names of text encoders, for bases of several files."""
    base_sha256: str = ""
    """What the base must be; empty: not checked."""
    strict: bool = False
    """Refuse a base whose files hold keys that its networks have no use for, rather than note them."""
    loras: tuple[str, ...] = ()
    """FILE or NAME, with `:strength` behind it."""
    partial: bool = False
    """Take of a LoRA what fits the base, and note the rest, rather than refuse it."""
    seed: int | None = None
    """None: drawn, and written down."""
    steps: int | None = None
    """This, and what follows: None for what suits the base."""
    cfg: float | None = None
    guidance: float | None = None
    negative_strength: float = 1.0
    """What strengths of LoRAs are multiplied by on the negative side of guidance."""
    sampler: str | None = None
    scheduler: str | None = None
    width: int | None = None
    height: int | None = None
    begin: FromPicture | None = None
    """A picture to paint from; then what is not said of width and height follows from its proportions."""
    hires: Hires | None = None
    """A second, larger pass."""
    clip_skip: int | None = None
    """Which hidden layer of CLIP is read, counted from the last; None: the base's own."""
    emphasis: str = "a1111"
    """What weights in the prompt do: a1111, a1111-nonorm or comfy."""
    memory: MemorySettings = field(default_factory=MemorySettings)
    """Where and in which precision; what is not said is chosen for the machine."""
    count: int = 1
    batch: int = 4
    form: str = "png"
    """Of the files: png, jpg, webp or avif."""
    quality: int = 90
    """Of files that lose something."""
    out: Path | None = None
    """Folder for the pictures; none: `images/` of the project, or of the current folder."""
    project: Path | None = None


def generate(request: GenerateRequest) -> Iterator[Event]:
    """Paint pictures and write each with its record, and a contact sheet where there are several.

    Raises:
        VelaturaError: a name resolves to nothing, a LoRA does not fit, the prompt has no meaning.
    """
    from velatura.family import load_base
    from velatura.generation import carriers
    from velatura.generation.contact import contact_sheet
    from velatura.generation.generate import Job, Painted, Sampling, second_pass
    from velatura.generation.generate import generate as paint
    from velatura.generation.reading import weighted
    from velatura.generation.record import infotext_of, used_embeddings, used_loras
    from velatura.training.samples import merged

    project, hires = request.project, request.hires
    carriers.check_format(request.form, request.quality)
    if hires is not None and request.begin is not None:
        raise SettingsError(
            "a second pass follows a picture painted from noise, not one painted from a picture",
            fix="leave --hires out, and paint larger by --width and --height",
        )
    base = bases.find(
        request.base,
        vae=request.vae,
        text_encoders=request.text_encoders,
        beside=project,
        sha256=request.base_sha256,
    )
    set_threads(None)
    yield Progress("loading the base", 0, 1)
    memory = chosen(base, request.memory, task="paint")
    model = load_base(base, policy=memory.policy, strict=request.strict)
    yield Progress("loading the base", 1, 1)
    for note in (*memory.warnings, *model.notes):
        yield Note(note)
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
    )
    seed = request.seed if request.seed is not None else int.from_bytes(os.urandom(4), "little")
    jobs = [Job(request.prompt, seed + place, request.negative) for place in range(request.count)]
    folder = make_folder(request.out or (project or Path.cwd()) / "images")
    apart = sampling.apart or (hires is not None and second_pass(model, sampling, hires).sampling.apart)
    images, names = [], []
    used = [lora.applied for lora in loras]
    with merged(model, used, apart=apart) as adapters:
        events = paint(
            model,
            jobs,
            sampling,
            batch=request.batch,
            start=start,
            hires=hires,
            embeddings=named.embeddings,
            adapters=adapters,
        )
        for event in events:
            if not isinstance(event, Painted):
                yield event
                continue
            infotext, record = infotext_of(
                model,
                event.job,
                sampling,
                loras,
                batch=request.batch,
                embeddings=named.embeddings,
                begun=begun,
                hires=hires,
            )
            images.append(event.image)
            names.append(free_name(folder, f"{event.job.seed}", request.form))
            data = carriers.to_bytes(event.image, infotext, record, form=request.form, quality=request.quality)
            write_bytes(folder / names[-1], data)
            yield Preview(len(names), str(folder / names[-1]))
    if len(images) > 1:
        names.append(free_name(folder, f"{seed}-sheet", request.form))
        sheet = contact_sheet(images, columns=min(4, len(images)))
        write_bytes(folder / names[-1], carriers.to_bytes(sheet, form=request.form, quality=request.quality))
    yield Done(len(images), {"folder": str(folder), "files": names, "seed": seed})


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
    from velatura.generation.start import Start, check_mode, encoded_picture

    width, height, told = request.width, request.height, request.begin
    if told is None:
        return None, None, width or model.resolution, height or model.resolution
    check_mode(told.resize_mode)
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
