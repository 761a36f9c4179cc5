"""From prompts to pictures: the one loop that every way of painting goes through.

A job is one picture: its prompts, its seed. Jobs of one size and one sampling go through the
denoiser together, as many at a time as the batch allows. Each picture's noise comes from its own
seed (`noise.py`), whatever the batch and the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from velatura.adapters.switch import Switch
from velatura.errors import SettingsError
from velatura.events import Note, Progress
from velatura.family import Model, TextConditioning
from velatura.generation.hires import Hires
from velatura.generation.passes import needed, passes_of, prompts_of, walked
from velatura.generation.pictures import decode
from velatura.generation.preview import small_pictures
from velatura.generation.reading import read_texts
from velatura.generation.sampling import Job, Sampling
from velatura.generation.start import Start
from velatura.text.weighted import Embedding


@dataclass(frozen=True)
class Painted:
    """A finished picture and the job it comes from."""

    job: Job
    image: Image.Image


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

    A note says where the autoencoder had to go on in fp32.

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
    if any(one.sampler.alone for one in passes):
        batch = 1
    total = sum(one.steps for one in passes) * -(-len(jobs) // batch)
    done = 0
    texts = read_texts(model, needed(passes, jobs), embeddings)
    for first in range(0, len(jobs), batch):
        group = jobs[first : first + batch]
        latents = None if start is None else start.of(first, len(group))
        for one in passes:
            before = done
            for step in walked(model, one, group, latents, [texts] * len(group), adapters):
                painted = step.x
                done = min(done + 1, before + one.steps)
                yield Progress("painting", done, total)
                if shown_every and (step.index + 1) % shown_every == 0:
                    yield Unfinished(small_pictures(model, step.denoised))
            done, latents = before + one.steps, painted
        known = len(model.notes)
        images = decode(model, painted)
        for note in model.notes[known:]:
            yield Note(note)
        for job, image in zip(group, images, strict=True):
            yield Painted(job, image)


def read_all(
    model: Model, jobs: Sequence[Job], sampling: Sampling, embeddings: Sequence[Embedding] = ()
) -> dict[str, TextConditioning]:
    """Every text that the jobs need, encoded once, before the denoiser is needed.

    Raises:
        PromptError: a prompt has no meaning.
        ModelError: what comes out are no numbers.
    """
    return read_texts(model, (text for job in jobs for text in prompts_of(job, sampling).texts), embeddings)
