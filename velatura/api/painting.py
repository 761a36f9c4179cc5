"""Painting: prompts to pictures on disk, each saying how it was made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from velatura import bases
from velatura.api.inputs import read_texts, set_threads
from velatura.api.memory import chosen
from velatura.events import Done, Event, Note, Preview, Progress
from velatura.files import make_folder, write_bytes
from velatura.recipe import MemorySettings
from velatura.text.readers import unread


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
    clip_skip: int | None = None
    """Which hidden layer of CLIP is read, counted from the last; None: the base's own."""
    emphasis: str = "a1111"
    """What weights in the prompt do: a1111, a1111-nonorm or comfy."""
    memory: MemorySettings = field(default_factory=MemorySettings)
    """Where and in which precision; what is not said is chosen for the machine."""
    count: int = 1
    batch: int = 4
    out: Path | None = None
    """Folder for the pictures; none: `images/` of the project, or of the current folder."""
    project: Path | None = None


def generate(request: GenerateRequest) -> Iterator[Event]:
    """Paint pictures and write each with its record, and a contact sheet where there are several.

    Raises:
        VelaturaError: a name resolves to nothing, a LoRA does not fit, the prompt has no meaning.
    """
    from velatura.family import load_base
    from velatura.generation.contact import contact_sheet
    from velatura.generation.generate import Job, Painted, Sampling
    from velatura.generation.generate import generate as paint
    from velatura.generation.reading import weighted
    from velatura.generation.record import infotext_of, used_embeddings, used_loras
    from velatura.training.samples import merged

    project = request.project
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
    named = used_embeddings(model, [request.prompt, request.negative], project, bundled=bundled)
    told = [weighted(text).words for text in (request.prompt, request.negative)]
    for sentence in (*named.passed_over, *unread(model.readers, told, called="prompt")):
        yield Note(sentence)
    sampling = Sampling(
        request.width or model.resolution,
        request.height or model.resolution,
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
    images, names = [], []
    used = [lora.applied for lora in loras]
    with merged(model, used, apart=sampling.apart) as adapters:
        for event in paint(model, jobs, sampling, batch=request.batch, embeddings=named.embeddings, adapters=adapters):
            if isinstance(event, Painted):
                infotext, record = infotext_of(
                    model, event.job, sampling, loras, batch=request.batch, embeddings=named.embeddings
                )
                images.append(event.image)
                names.append(free_name(folder, f"{event.job.seed}"))
                write_bytes(folder / names[-1], png(event.image, infotext, record))
                yield Preview(len(names), str(folder / names[-1]))
            else:
                yield event
    if len(images) > 1:
        names.append(free_name(folder, f"{seed}-sheet"))
        write_bytes(folder / names[-1], png(contact_sheet(images, columns=min(4, len(images)))))
    yield Done(len(images), {"folder": str(folder), "files": names, "seed": seed})


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
