"""From prompts to pictures: the one loop that every way of painting goes through.

A job is one picture: its prompts, its seed. Jobs of one size and one sampling go through the
denoiser together, as many at a time as the batch allows, and half as many where the memory turns
out to be too small. Each picture's noise comes from its own seed (`noise.py`), whatever the batch
and the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from velatura.adapters.switch import Switch
from velatura.errors import SettingsError
from velatura.events import Note, Progress
from velatura.family import Model, TextConditioning
from velatura.generation.hires import Hires
from velatura.generation.passes import Pass, needed, passes_of, prompts_of, walked
from velatura.generation.pictures import decode
from velatura.generation.preview import small_pictures
from velatura.generation.reading import read_texts
from velatura.generation.sampling import Job, Sampling
from velatura.generation.start import Start
from velatura.text.weighted import Embedding
from velatura.weights import room


@dataclass(frozen=True)
class Painted:
    """A finished picture and the job it comes from."""

    job: Job
    image: Image.Image
    together: Sequence[Job]
    """The jobs of its batch, itself among them."""
    batch: int
    """How many were painted at a time, at most."""


@dataclass(frozen=True)
class Unfinished:
    """The pictures of a batch as they look so far, small."""

    images: list[Image.Image]


def generate(
    model: Model,
    jobs: Sequence[Job],
    sampling: Sampling,
    *,
    batch: int = 4,
    start: Start | None = None,
    hires: Hires | None = None,
    embeddings: Sequence[Embedding] = (),
    adapters: Switch | None = None,
    shown_every: int = 0,
) -> Iterator[Progress | Note | Unfinished | Painted]:
    """Paint the jobs in order; yields progress after each sampling step and each finished picture.

    A note says where the autoencoder had to go on in fp32, and where there was no memory for a batch: it is painted
    again in halves, and so is all that follows.

    Args:
        start: latents to begin with; none: noise alone.
        hires: a second pass, larger, that begins with what the first has painted.
        embeddings: those whose names in the prompts mean their vectors.
        adapters: those in use, where some come or go between steps.
        shown_every: steps between two looks at the unfinished pictures; 0: none.

    Raises:
        PromptError: a prompt has no meaning.
        ModelError: what comes out are no numbers.
        SettingsError: an unknown sampler or schedule, one that does not fit the model, no steps, or no seed.
    """
    if batch < 1:
        raise SettingsError(f"batches of {batch} paint nothing", fix="use 1 or more")
    passes = passes_of(model, jobs, sampling, start=start, hires=hires)
    batch = batch_of(passes, batch)
    texts = read_texts(model, needed(passes, jobs), embeddings)
    first = done = 0
    while first < len(jobs):
        group = jobs[first : first + batch]
        latents = None if start is None else start.of(first, len(group))
        known, total = len(model.notes), done + steps_of(passes, len(jobs) - first, batch)
        images: list[Image.Image] | None = None
        try:
            for event in _batch(model, passes, group, latents, texts, adapters, shown_every):
                if isinstance(event, int):
                    yield Progress("painting", done + event, total)
                elif isinstance(event, Unfinished):
                    yield event
                else:
                    images = event
        except (RuntimeError, MemoryError) as error:
            if len(group) == 1 or not room.is_full(error):
                raise
        if images is None:  # out of the handler, so that what the failed attempt held is free
            room.give_back()
            batch = len(group) // 2
            yield Note(f"there is no memory for {len(group)} pictures at a time; so it is {batch} from now on")
            continue
        for note in model.notes[known:]:
            yield Note(note)
        for job, image in zip(group, images, strict=True):
            yield Painted(job, image, group, batch)
        first, done = first + len(group), done + steps_of(passes, 1, 1)


def _batch(
    model: Model,
    passes: Sequence[Pass],
    group: Sequence[Job],
    latents: Tensor | None,
    texts: Mapping[str, TextConditioning],
    adapters: Switch | None,
    shown_every: int,
) -> Iterator[int | Unfinished | list[Image.Image]]:
    """Paint jobs together: how many steps are done, how the pictures look so far, and at last the pictures."""
    done = 0
    for one in passes:
        before = done
        for step in walked(model, one, group, latents, [texts] * len(group), adapters):
            painted = step.x
            done = min(done + 1, before + one.steps)
            yield done
            if shown_every and (step.index + 1) % shown_every == 0:
                yield Unfinished(small_pictures(model, step.denoised))
        done, latents = before + one.steps, painted
    yield decode(model, painted)


def batch_of(passes: Sequence[Pass], batch: int) -> int:
    """How many pictures go through these passes at a time, of as many as may."""
    return 1 if any(one.sampler.alone for one in passes) else batch


def steps_of(passes: Sequence[Pass], count: int, batch: int) -> int:
    """The steps that so many pictures take, in batches."""
    return sum(one.steps for one in passes) * -(-count // batch)


def read_all(
    model: Model, jobs: Sequence[Job], sampling: Sampling, embeddings: Sequence[Embedding] = ()
) -> dict[str, TextConditioning]:
    """Every text that the jobs need, encoded once, before the denoiser is needed.

    Raises:
        PromptError: a prompt has no meaning.
        ModelError: what comes out are no numbers.
    """
    return read_texts(model, (text for job in jobs for text in prompts_of(job, sampling).texts), embeddings)
