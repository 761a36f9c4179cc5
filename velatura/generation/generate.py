"""From prompts to pictures: the one loop that every way of painting goes through.

A job is one picture: its prompts, its seed. Jobs of one size and one sampling go through the
denoiser together, as many at a time as the batch allows. Each picture's noise comes from its own
seed on the CPU, as in A1111 with the RNG source "CPU", whatever the batch and the device.

Painting from a picture and the second pass of a high-resolution fix are the same loop with another
start: latents of a picture, or of the first pass, given as much noise as the first step takes away.

Shape suffixes: B batch, C latent channels, H and W latent height and width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from velatura.adapters.switch import Switch
from velatura.diffusion import samplers
from velatura.errors import PromptError, SettingsError
from velatura.events import Note, Progress
from velatura.family import Model, TextConditioning
from velatura.generation import hires as second
from velatura.generation import start as starts
from velatura.generation import upscale
from velatura.generation.conditioning import Guided, Prompts, read_prompts
from velatura.generation.hires import Hires
from velatura.generation.reading import breakdown, read_texts
from velatura.generation.start import Start
from velatura.text.weighted import Embedding

LONGEST = 8192
"""Pixels of a side at most."""


@dataclass(frozen=True)
class Sampling:
    """How noise becomes a picture; the same for all pictures of a batch."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    steps: int = 20
    cfg_scale: float = 5.0
    sampler: str = "DPM++ 2M"
    scheduler: str = "Karras"
    guidance: float = 3.5
    """Told to bases into which guidance is distilled; others do not see it."""
    negative_strength: float = 1.0
    """What the strengths of LoRAs on the denoiser are multiplied by on the negative side of guidance. Below 1 guidance
    leads away from what the base would do of itself, and so brings out what the LoRAs add."""

    @property
    def apart(self) -> bool:
        """Whether LoRAs differ in strength between the two sides of guidance."""
        return self.cfg_scale != 1 and self.negative_strength != 1


@dataclass(frozen=True)
class Job:
    """One picture to paint."""

    prompt: str
    seed: int
    negative_prompt: str = ""


@dataclass(frozen=True)
class Painted:
    """A finished picture and the job it comes from."""

    job: Job
    image: Image.Image


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
) -> Iterator[Progress | Note | Painted]:
    """Paint the jobs in order; yields progress after each sampling step and each finished picture.

    A note says where the autoencoder had to go on in fp32.

    Args:
        start: latents to begin with; none: noise alone.
        hires: a second pass, larger, that begins with what the first has painted.
        embeddings: those whose names in the prompts mean their vectors.
        adapters: those in use, where some come or go between steps.

    Raises:
        PromptError: a prompt has no meaning.
        ModelError: what comes out are no numbers.
        SettingsError: an unknown sampler or schedule, one that does not fit the model, no steps, or no seed.
    """
    check_size(model, sampling.width, sampling.height)
    if wrong := next((job.seed for job in jobs if not 0 <= job.seed < 2**64), None):
        raise SettingsError(f"{wrong} is not a seed", fix="use a number from 0 to 18446744073709551615")
    if sampling.steps < 1 or batch < 1:
        raise SettingsError(f"{sampling.steps} steps in batches of {batch} paint nothing", fix="use 1 or more of each")
    passes = [_Pass.of(model, sampling, start)]
    if hires is not None:
        passes.append(second_pass(model, sampling, hires))
    total = sum(len(one.sigmas) - 1 for one in passes) * -(-len(jobs) // batch)
    done = 0
    needed = (text for one in passes for prompts in one.prompts(jobs) for text in prompts.texts)
    texts = read_texts(model, needed, embeddings)
    for first in range(0, len(jobs), batch):
        group = jobs[first : first + batch]
        latents = None if start is None else start.of(first, len(group))
        for one in passes:
            for step in one.run(model, group, latents, texts, adapters):
                painted = step.x
                done += 1
                yield Progress("painting", done, total)
            latents = painted
            if not bool(latents.isfinite().all()):
                raise breakdown(model, "the latents", "memory.precision", model.policy.dtype)
        known = len(model.notes)
        images = decode(model, painted)
        for note in model.notes[known:]:
            yield Note(note)
        for job, image in zip(group, images, strict=True):
            yield Painted(job, image)


@dataclass(frozen=True)
class _Pass:
    """One walk from noisy latents to clean ones, the same for all pictures."""

    sampling: Sampling
    sampler: samplers.Sampler
    sigmas: Sequence[float]
    start: Start | None = None
    """How much of the latents given is painted anew; none: there are none."""
    hires: Hires | None = None
    """How the latents given are brought to the size of this pass."""
    first_pass: int | None = None
    """Steps of the pass before, where this is the second."""

    @classmethod
    def of(
        cls,
        model: Model,
        sampling: Sampling,
        start: Start | None,
        hires: Hires | None = None,
        first_pass: int | None = None,
    ) -> _Pass:
        """Settle the sampler and the noise levels."""
        sampler, schedule = samplers.resolve(sampling.sampler, sampling.scheduler, model.objective)
        factor = model.latent_factor
        objective = model.objective_for(sampling.height // factor, sampling.width // factor)
        if hires is not None:
            told = hires.denoising, True
        elif start is not None:
            told = start.denoising, start.exact_steps
        else:
            return cls(sampling, sampler, schedule(objective, sampling.steps))
        remaining = starts.levels(partial(schedule, objective), sampling.steps, denoising=told[0], exact_steps=told[1])
        return cls(sampling, sampler, remaining, start, hires, first_pass)

    def prompts(self, jobs: Sequence[Job]) -> list[Prompts]:
        """The prompts of this pass."""
        if self.hires is not None:
            prompt, negative = self.hires.prompt, self.hires.negative_prompt
            jobs = [
                replace(
                    job,
                    prompt=job.prompt if prompt is None else prompt,
                    negative_prompt=job.negative_prompt if negative is None else negative,
                )
                for job in jobs
            ]
        return [prompts_of(job, self.sampling, first_pass=self.first_pass) for job in jobs]

    def run(
        self,
        model: Model,
        jobs: Sequence[Job],
        latents_BCHW: Tensor | None,
        texts: Mapping[str, TextConditioning],
        adapters: Switch | None,
    ) -> Iterator[samplers.Step]:
        """The steps of a batch, from the latents given; from noise alone where there are none."""
        if self.hires is not None and latents_BCHW is not None:
            latents_BCHW = enlarged(model, latents_BCHW, self.hires)
        noise = SeededNoise([job.seed for job in jobs], model, self.sampling)
        told = self.sampling
        guided = Guided(
            model,
            self.prompts(jobs),
            texts,
            width=told.width,
            height=told.height,
            cfg_scale=told.cfg_scale,
            guidance=told.guidance,
            adapters=adapters,
            negative_strength=told.negative_strength if told.apart else 1.0,
        )
        denoise = _Denoise(model, guided, adapters)
        x = _first_latents(model, noise.next(), self.sampler, self.sigmas[0], latents_BCHW)
        yield from self.sampler.run(denoise, x, self.sigmas, noise=lambda _, __: noise.next())


def second_pass(model: Model, sampling: Sampling, hires: Hires) -> _Pass:
    """The second pass of a high-resolution fix, whose size is settled by that of the first.

    Raises:
        SettingsError: an unknown upscaler, sampler or schedule, or a size or denoising that there is not.
        PromptError: the size is not one that the base can paint.
    """
    second.check_upscaler(hires.upscaler)
    target = second.target(sampling.width, sampling.height, hires, factor=model.latent_factor)
    width, height = target.size(model.latent_factor)
    check_size(model, width, height)
    return _Pass.of(
        model,
        replace(
            sampling,
            width=width,
            height=height,
            steps=hires.steps or sampling.steps,
            sampler=hires.sampler or sampling.sampler,
            scheduler=hires.scheduler or sampling.scheduler,
            cfg_scale=sampling.cfg_scale if hires.cfg_scale is None else hires.cfg_scale,
        ),
        None,
        hires,
        sampling.steps,
    )


def enlarged(model: Model, latents_BCHW: Tensor, hires: Hires) -> Tensor:
    """What the first pass has painted, at the size of the second."""
    factor = model.latent_factor
    height, width = (side * factor for side in latents_BCHW.shape[-2:])
    target = second.target(width, height, hires, factor=factor)
    if hires.upscaler in second.LATENT_UPSCALERS:
        larger = upscale.upscaled_latents(latents_BCHW, target.height // factor, target.width // factor, hires.upscaler)
    else:
        pictures = (
            upscale.upscaled_picture(image, target.width, target.height, hires.upscaler)
            for image in decode(model, latents_BCHW)
        )
        larger = torch.cat([starts.encoded(model, picture) for picture in pictures])
    return upscale.cropped(larger, target.crop_x, target.crop_y)


class SeededNoise:
    """Noise for a batch: each picture draws from its own seed, so the batch changes nothing."""

    def __init__(self, seeds: Sequence[int], model: Model, sampling: Sampling) -> None:
        """Nothing is drawn yet."""
        self._streams = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        factor = model.latent_factor
        self._shape = (model.latent_channels, sampling.height // factor, sampling.width // factor)
        self._device = model.policy.device

    def next(self) -> Tensor:
        """The next draw of every picture, unit variance, (B, C, H, W)."""
        drawn = [torch.randn(self._shape, generator=stream) for stream in self._streams]
        return torch.stack(drawn).to(self._device)


def _first_latents(
    model: Model, noise_BCHW: Tensor, sampler: samplers.Sampler, sigma: float, clean_BCHW: Tensor | None
) -> Tensor:
    if clean_BCHW is None:
        clean_BCHW, sigma = torch.zeros_like(noise_BCHW), sampler.start(sigma)
    sigma_B = torch.full((len(noise_BCHW),), sigma, dtype=torch.float64)
    return model.objective.add_noise(clean_BCHW.to(noise_BCHW), noise_BCHW, sigma_B)


class _Denoise:
    """The clean latents that a batch most likely hides, guided by its prompts."""

    def __init__(self, model: Model, guided: Guided, adapters: Switch | None) -> None:
        self.model, self.guided, self.adapters = model, guided, adapters

    @torch.inference_mode()
    def __call__(self, x: Tensor, sigma: float, step: int) -> Tensor:
        if self.adapters is not None:
            self.adapters.at(step + 1)
        prediction = self.guided(x, sigma, step)
        return self.model.objective.denoised(x, prediction, torch.full((len(x),), sigma, dtype=torch.float64))


def read_all(
    model: Model, jobs: Sequence[Job], sampling: Sampling, embeddings: Sequence[Embedding] = ()
) -> dict[str, TextConditioning]:
    """Every text that the jobs need, encoded once, before the denoiser is needed.

    Raises:
        PromptError: a prompt has no meaning.
        ModelError: what comes out are no numbers.
    """
    return read_texts(model, (text for job in jobs for text in prompts_of(job, sampling).texts), embeddings)


def prompts_of(job: Job, sampling: Sampling, *, first_pass: int | None = None) -> Prompts:
    """The prompts of a job through the steps of a pass.

    Raises:
        PromptError: a prompt has no meaning.
    """
    return read_prompts(
        job.prompt,
        job.negative_prompt,
        steps=sampling.steps,
        cfg_scale=sampling.cfg_scale,
        first_pass=first_pass,
    )


@torch.inference_mode()
def decode(model: Model, latents_BCHW: Tensor) -> list[Image.Image]:
    """Latents as 8-bit pictures, one at a time, so that memory and bits do not depend on the batch."""
    images = []
    for latents_CHW in latents_BCHW:
        pixels = model.family.decode_latents(model, latents_CHW[None])[0]
        if not bool(pixels.isfinite().all()):
            raise breakdown(model, "the picture", "memory.vae_precision", model.policy.vae_dtype)
        scaled = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        images.append(Image.fromarray(np.ascontiguousarray(scaled.permute(1, 2, 0).cpu().numpy())))
    return images


def check_size(model: Model, width: int, height: int) -> None:
    """Refuse sizes that the model's latents cannot have.

    Raises:
        PromptError: a side is not a multiple of what the networks halve, or is absurd.
    """
    for name, side in (("width", width), ("height", height)):
        if side != nearest_side(model, side):
            step = model.latent_factor * model.side_step
            raise PromptError(
                f"the {name} {side} is not possible with this base, multiples of {step} up to {LONGEST} are",
                fix=f"use {nearest_side(model, side)}",
            )


def nearest_side(model: Model, side: int) -> int:
    """The nearest side, in pixels, that the model's latents can have."""
    step = model.latent_factor * model.side_step
    return min(max(step, round(side / step) * step), LONGEST)
