"""One walk from noisy latents to clean ones, and which walks a picture takes: one, or two where it is painted larger.

Painting from a picture and the second pass of a high-resolution fix are the same walk with another
start: latents of a picture, or of the first pass, given as much noise as the first step takes away.

Shape suffixes: B batch, C latent channels, H and W latent height and width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from velatura.adapters.switch import Switch
from velatura.diffusion import samplers
from velatura.diffusion.samplers.table import CFGPP_SHARE
from velatura.errors import SettingsError
from velatura.family import Model, TextConditioning
from velatura.generation import hires as second
from velatura.generation import start as starts
from velatura.generation import upscale
from velatura.generation.conditioning import Guided, Prompts, Without, read_prompts
from velatura.generation.hires import Hires
from velatura.generation.noise import Seed, SeededNoise, check_source
from velatura.generation.pictures import decode
from velatura.generation.reading import breakdown
from velatura.generation.sampling import Job, Sampling, check_guidance, check_size, check_variations
from velatura.generation.start import Held, Start
from velatura.weights.convolutions import FastConvolutions


def passes_of(
    model: Model, jobs: Sequence[Job], sampling: Sampling, *, start: Start | None = None, hires: Hires | None = None
) -> list[Pass]:
    """The passes that jobs go through, settled and checked.

    Raises:
        PromptError, SettingsError: as `generate`.
    """
    check_size(model, sampling.width, sampling.height)
    if wrong := next((job.seed for job in jobs if not 0 <= job.seed < 2**64), None):
        raise SettingsError(f"{wrong} is not a seed", fix="use a number from 0 to 18446744073709551615")
    if sampling.steps < 1:
        raise SettingsError(f"{sampling.steps} steps paint nothing", fix="use 1 or more")
    check_variations(jobs)
    first = Pass.of(model, sampling, start)
    return [first] if hires is None else [first, second_pass(model, sampling, hires)]


def needed(passes: Sequence[Pass], jobs: Sequence[Job]) -> list[str]:
    """Every text that jobs are told in these passes."""
    return [text for one in passes for prompts in one.prompts(jobs) for text in prompts.texts]


def walked(
    model: Model,
    one: Pass,
    jobs: Sequence[Job],
    latents_BCHW: Tensor | None,
    texts: Sequence[Mapping[str, TextConditioning]],
    adapters: Switch | None,
) -> Iterator[samplers.Step]:
    """The steps of a batch through a pass, which ends with numbers or not at all.

    Args:
        latents_BCHW: what the pass begins with, clean; none: noise alone.
        texts: encoded, for each job.

    Raises:
        ModelError: what comes out are no numbers.
    """
    painted = None
    for step in one.run(model, jobs, latents_BCHW, texts, adapters):
        painted = step.x
        yield step
    if painted is not None and not bool(painted.isfinite().all()):
        raise breakdown(model, "the latents", "memory.precision", model.policy.dtype)


@dataclass(frozen=True)
class Pass:
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
    highest: float = 0.0
    """The noise level that the schedule begins with, wherever this pass does."""

    @classmethod
    def of(
        cls,
        model: Model,
        sampling: Sampling,
        start: Start | None,
        hires: Hires | None = None,
        first_pass: int | None = None,
    ) -> Pass:
        """Settle the sampler and the noise levels."""
        sampler, schedule = samplers.resolve(
            sampling.sampler,
            sampling.scheduler,
            model.objective,
            family=model.variant.family,
            told=sampling.tuning.told(),
            strict=hires is None,  # what the first pass has honoured, a second with another sampler may not know
        )
        check_source(sampling.tuning.rng, model.policy.device)
        check_guidance(sampling)
        factor = model.latent_factor
        objective = model.objective_for(sampling.height // factor, sampling.width // factor)
        if hires is not None:
            told = hires.denoising, True
        elif start is not None:
            told = start.denoising, start.exact_steps
        else:
            whole = schedule(objective, sampling.steps)
            return cls(sampling, sampler, whole, highest=whole[0])
        highest: list[float] = []

        def noted(count: int) -> tuple[float, ...]:
            sigmas = schedule(objective, count)
            highest.append(sigmas[0])
            return sigmas

        remaining = starts.levels(noted, sampling.steps, denoising=told[0], exact_steps=told[1])
        return cls(sampling, sampler, remaining, start, hires, first_pass, highest[0])

    @property
    def steps(self) -> int:
        """How many there will be; a guess where the sampler decides on the way."""
        return self.sampler.steps(self.sigmas)

    @property
    def _asked(self) -> int:
        """How often A1111 expects the denoiser to be asked."""
        steps = self.sampling.steps if self.start is None and self.hires is None else self.steps
        return steps * self.sampler.evaluations

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
        asked = self.sampler.cfgpp
        return [
            prompts_of(
                job,
                replace(self.sampling, cfg_scale=self.cfg_scale(job)),
                first_pass=self.first_pass,
                always_negative=asked,
            )
            for job in jobs
        ]

    def cfg_scale(self, job: Job) -> float:
        """The guidance of a job in this pass: its own, unless the second pass has one."""
        told = self.hires is not None and self.hires.cfg_scale is not None
        return self.sampling.cfg_scale if told or job.cfg_scale is None else job.cfg_scale

    def run(
        self,
        model: Model,
        jobs: Sequence[Job],
        latents_BCHW: Tensor | None,
        texts: Sequence[Mapping[str, TextConditioning]],
        adapters: Switch | None,
    ) -> Iterator[samplers.Step]:
        """The steps of a batch, from the latents given; from noise alone where there are none."""
        if self.hires is not None and latents_BCHW is not None:
            latents_BCHW = enlarged(model, latents_BCHW, self.hires)
        noise = seeded_noise(model, jobs, self.sampling)
        told, tuning = self.sampling, self.sampling.tuning
        guided = Guided(
            model,
            self.prompts(jobs),
            texts,
            width=told.width,
            height=told.height,
            cfg_scales=[self.cfg_scale(job) * (CFGPP_SHARE if self.sampler.cfgpp else 1) for job in jobs],
            guidance=told.guidance,
            adapters=adapters,
            negative_strength=told.negative_strength if told.apart else 1.0,
            strengths=[job.strengths for job in jobs],
            without=Without(
                early=tuning.skip_early_cfg * self._asked,
                below=tuning.s_min_uncond,
                every=tuning.s_min_uncond_all,
            ),
            rescale=tuning.cfg_rescale,
            extra_BCHW=self._extra(model, len(jobs)),
            controls=told.controls,
            steps=self.steps,
        )
        first_BCHW = noise.next()
        held = Held.of(self.start, latents_BCHW, first_BCHW)
        denoise = _Denoise(model, guided, adapters, held)
        clean_BCHW = latents_BCHW if held is None else held.latents_BCHW
        x = _first_latents(model, first_BCHW, self.sampler, self.sigmas[0], clean_BCHW)
        draw: samplers.Noise = noise.fresh
        if self.sampler.noise == "path":
            lowest = min(sigma for sigma in self.sigmas if sigma > 0)
            draw = noise.path(lowest, self.highest, together=tuning.one_path)
        for step in self.sampler.run(denoise.both if self.sampler.cfgpp else denoise, x, self.sigmas, noise=draw):
            # a sampler may end at a little noise, which what is kept has none of
            ends = held is not None and step.index + 1 >= self.steps
            yield replace(step, x=held(step.x)) if held is not None and ends else step

    def _extra(self, model: Model, count: int) -> Tensor | None:
        """What an inpainting base is told beside the latents, for each picture; of no picture, that all is masked."""
        if not model.extra_channels:
            return None
        if self.start is not None and self.start.beside_BCHW is not None:
            beside_BCHW = self.start.beside_BCHW
        else:
            blank_1CHW = torch.zeros(1, 3, self.sampling.height, self.sampling.width)
            beside_BCHW = model.family.masked(model, blank_1CHW, torch.ones_like(blank_1CHW[:, 0]))
        return beside_BCHW.expand(count, -1, -1, -1)


def second_pass(model: Model, sampling: Sampling, hires: Hires) -> Pass:
    """The second pass of a high-resolution fix, whose size is settled by that of the first.

    Raises:
        SettingsError: an unknown upscaler, sampler or schedule, or a size or denoising that there is not.
        PromptError: the size is not one that the base can paint.
    """
    second.check_upscaler(hires.upscaler)
    target = second.target(sampling.width, sampling.height, hires, factor=model.latent_factor)
    width, height = target.size(model.latent_factor)
    check_size(model, width, height)
    return Pass.of(
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


def seeded_noise(model: Model, jobs: Sequence[Job], sampling: Sampling) -> SeededNoise:
    """The noise of a batch."""
    factor, tuning = model.latent_factor, sampling.tuning
    resized = tuning.resized_from
    return SeededNoise(
        [Seed(job.seed, job.variation, job.variation_strength) for job in jobs],
        (model.latent_channels, sampling.height // factor, sampling.width // factor),
        model.policy.device,
        source=tuning.rng,
        seed_delta=tuning.ensd,
        resized_from=None if resized is None else (resized[1] // factor, resized[0] // factor),
    )


def _first_latents(
    model: Model, noise_BCHW: Tensor, sampler: samplers.Sampler, sigma: float, clean_BCHW: Tensor | None
) -> Tensor:
    if clean_BCHW is None:
        clean_BCHW, sigma = torch.zeros_like(noise_BCHW), sampler.start(sigma)
    sigma_B = torch.full((len(noise_BCHW),), sigma, dtype=torch.float64)
    return model.objective.add_noise(clean_BCHW.to(noise_BCHW), noise_BCHW, sigma_B)


class _Denoise:
    """The clean latents that a batch most likely hides, guided by its prompts."""

    def __init__(self, model: Model, guided: Guided, adapters: Switch | None, held: Held | None) -> None:
        self.model, self.guided, self.adapters, self.held = model, guided, adapters, held
        self.fast = FastConvolutions(model.parts["denoiser"])

    def __call__(self, x: Tensor, sigma: float, step: int) -> Tensor:
        return self.both(x, sigma, step)[0]

    @torch.inference_mode()
    def both(self, x: Tensor, sigma: float, step: int) -> tuple[Tensor, Tensor]:
        """With guidance, and as the negative prompt alone has it."""
        if self.adapters is not None:
            self.adapters.at(step + 1)
        sigma_B = torch.full((len(x),), sigma, dtype=torch.float64)
        with self.fast:
            guided, negative = self.guided(x, sigma, step)
        denoised = self._kept(self.model.objective.denoised(x, guided, sigma_B))
        if negative is None:
            return denoised, denoised
        return denoised, self._kept(self.model.objective.denoised(x, negative, sigma_B))

    def _kept(self, denoised: Tensor) -> Tensor:
        return denoised if self.held is None else self.held(denoised)


def prompts_of(
    job: Job, sampling: Sampling, *, first_pass: int | None = None, always_negative: bool = False
) -> Prompts:
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
        always_negative=always_negative,
    )
