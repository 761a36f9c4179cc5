"""Pictures that have little in common but the base, with what they share done once.

Every text is encoded once for each state of the text encoders. Pictures that differ in seed, prompt, guidance or in
which LoRAs they have at which strength go through the denoiser as one batch: LoRAs stand beside the layers, each
sample with strengths of its own. Pictures that are made of the same (a LoRA at strength 0 is none) are painted once,
and so are first passes that several second passes begin with.

What cannot be shared is not: a LoRA that changes norms, or otherwise than in proportion to its strength, is painted
with in batches of one strength, and so are all LoRAs on a base that takes its samples together. Where the memory has no
room for a batch, it and all that come are halved.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from PIL.Image import Image
from torch import Tensor

from velatura.adapters.beside import SamplesTogether, small
from velatura.adapters.merge import Applied
from velatura.adapters.weights import part_of
from velatura.diffusion.samplers import Step
from velatura.events import Note
from velatura.family import Model, TextConditioning
from velatura.generation import prompt as grammar
from velatura.generation.hires import Hires
from velatura.generation.passes import needed, passes_of, walked
from velatura.generation.pictures import decode
from velatura.generation.reading import read_texts
from velatura.generation.sampling import Job, Sampling
from velatura.generation.start import Start
from velatura.text.clip import Emphasis
from velatura.text.weighted import Embedding
from velatura.training.samples import merged
from velatura.weights import room

Texts = Mapping[str, TextConditioning]


@dataclass(frozen=True)
class Lora:
    """An adapter in use, and what tells it from others."""

    applied: Applied
    identity: Hashable
    """Of file, blocks and steps; whatever its strengths."""

    @cached_property
    def reads(self) -> bool:
        """Whether it changes how texts are read."""
        return any(part_of(name).startswith("text_encoder") for name in self.applied.layers)


@dataclass(frozen=True)
class Wanted:
    """A picture to paint."""

    job: Job
    sampling: Sampling
    loras: tuple[Lora, ...] = ()
    start: Start | None = None
    start_identity: Hashable = None
    """Of the latents that `start` holds."""
    hires: Hires | None = None
    embeddings: tuple[Embedding, ...] = ()
    clip_skip: int | None = None
    emphasis: Emphasis = "a1111"

    @property
    def text_state(self) -> Hashable:
        """What of it decides how a text is read."""
        loras = tuple(
            (lora.identity, lora.applied.text_strength)
            for lora in self.loras
            if lora.applied.text_strength and lora.reads
        )
        return loras, tuple(one.hash for one in self.embeddings), self.clip_skip, self.emphasis

    @property
    def strengths(self) -> tuple[tuple[Hashable, float], ...]:
        """The LoRAs that act on the denoiser."""
        return tuple(
            (lora.identity, lora.applied.denoiser_strength) for lora in self.loras if lora.applied.denoiser_strength
        )

    @property
    def first_pass(self) -> Hashable:
        """What decides the picture, the second pass aside."""
        words = tuple(grammar.extract_loras(text)[0] for text in (self.job.prompt, self.job.negative_prompt))
        job = replace(self.job, prompt="", negative_prompt="", template=None)
        start = self.start and (self.start.denoising, self.start.exact_steps, self.start_identity)
        return job, words, self.text_state, self.strengths, _settings(self.sampling), self.sampling.cfg_scale, start

    @property
    def picture(self) -> Hashable:
        """What decides the picture."""
        return self.first_pass, self.hires


@dataclass(frozen=True)
class Batch:
    """Pictures that go through the denoiser together."""

    wanted: tuple[int, ...]
    """Their places; of those that are the same picture, the first."""
    same: Mapping[int, tuple[int, ...]]
    """Place -> all places that the same picture belongs to, its own among them."""
    steps: int
    """Of all passes."""


@dataclass(frozen=True)
class Walked:
    """A step of a batch is done; counted are the steps of every picture."""

    done: int
    total: int


@dataclass(frozen=True)
class Finished:
    """A picture."""

    places: tuple[int, ...]
    """All that it belongs to."""
    image: Image
    batch: tuple[int, ...]
    """Places of those that it was painted with, its own among them."""
    shared: bool
    """Whether the LoRAs of these, or their strengths, differ."""


def planned(model: Model, wanted: Sequence[Wanted], *, batch: int, shared: bool = True) -> list[Batch]:
    """The batches that pictures are painted in, in an order that keeps what they share together.

    Args:
        model: the base.
        wanted: all pictures.
        batch: how many at a time, at most.
        shared: samples may have LoRAs and strengths of their own.

    Raises:
        PromptError, SettingsError: one of them cannot be painted, as `generation.generate.generate` says.
    """
    alike: dict[Hashable, list[int]] = {}
    for place, one in enumerate(wanted):
        alike.setdefault(one.picture, []).append(place)
    proportional = _proportional(model, wanted) if shared else frozenset()
    groups: dict[Hashable, list[int]] = {}
    sizes: dict[Hashable, tuple[int, int]] = {}
    for first, *_ in alike.values():
        one = wanted[first]
        fixed = one.strengths if any(name not in proportional for name, _ in one.strengths) else ()
        start = one.start and (one.start.denoising, one.start.exact_steps, one.start_identity)
        key: Hashable = _settings(one.sampling), one.sampling.cfg_scale == 1, start, one.hires, fixed
        groups.setdefault(key, []).append(first)
        if key not in sizes:
            passes = passes_of(model, [one.job], one.sampling, start=one.start, hires=one.hires)
            alone = one.sampling.tuning.one_path or any(each.sampler.alone for each in passes)
            sizes[key] = 1 if alone else batch, sum(each.steps for each in passes)
    found = []
    for key, places in groups.items():
        ordered = sorted(places, key=lambda place: [str(name) for name, _ in wanted[place].strengths])
        size, steps = sizes[key]
        for begin in range(0, len(ordered), size):
            group = tuple(ordered[begin : begin + size])
            found.append(Batch(group, {place: tuple(alike[wanted[place].picture]) for place in group}, steps))
    return found


def read(model: Model, wanted: Sequence[Wanted]) -> list[Texts]:
    """Every text that the pictures need, encoded once for each state of the text encoders; for each picture its own.

    Raises:
        PromptError: a prompt has no meaning.
        ModelError: what comes out are no numbers.
    """
    states: dict[Hashable, list[int]] = {}
    for place, one in enumerate(wanted):
        states.setdefault(one.text_state, []).append(place)
    found: list[Texts] = [{}] * len(wanted)
    for places in states.values():
        first = wanted[places[0]]
        texts: list[str] = []
        for one in (wanted[place] for place in places):
            texts += needed(passes_of(model, [one.job], one.sampling, start=one.start, hires=one.hires), [one.job])
        model.clip_skip, model.emphasis = first.clip_skip, first.emphasis
        with merged(model, [replace(lora.applied, denoiser_strength=0.0) for lora in first.loras]):
            encoded = read_texts(model, texts, first.embeddings)
        for place in places:
            found[place] = encoded
    return found


def painted(
    model: Model, wanted: Sequence[Wanted], *, batch: int = 4, shared: bool = True
) -> Iterator[Walked | Note | Finished]:
    """Paint all of them, in an order of their own.

    Args:
        model: the base.
        wanted: all pictures.
        batch: how many at a time, at most.
        shared: samples may have LoRAs and strengths of their own, where the base allows it.

    Raises:
        PromptError, SettingsError, ModelError, AdapterError: as `generation.generate.generate`.
    """
    plan = planned(model, wanted, batch=batch, shared=shared)
    texts = read(model, wanted)
    first_passes = _FirstPasses(wanted, plan)
    waiting, done = list(plan), 0
    total = sum(len(one.wanted) * one.steps for one in plan)
    while waiting:
        one = waiting.pop(0)
        group = [wanted[place] for place in one.wanted]
        known, full = len(model.notes), False
        try:
            for number, step in enumerate(_walk(model, group, [texts[place] for place in one.wanted], first_passes), 1):
                latents = step.x
                yield Walked(done + min(number, one.steps) * len(group), total)
            images = decode(model, latents)
        except SamplesTogether as refused:
            yield Note(f"{refused.what}; so cells of one strength are painted at a time")
            waiting = _apart(model, wanted, [one, *waiting], batch=batch)
            continue
        except (RuntimeError, MemoryError) as error:
            if len(group) == 1 or not room.is_full(error):
                raise
            full = True
        if full:  # out of the handler, so that what the failed attempt held is free
            room.give_back()
            batch = len(group) // 2
            yield Note(f"there is no memory for {len(group)} pictures at a time; so it is {batch} from now on")
            waiting = _split([one, *waiting], batch)
            continue
        done += one.steps * len(group)
        first_passes.release(group)
        for note in model.notes[known:]:
            yield Note(note)
        for place, image in zip(one.wanted, images, strict=True):
            yield Finished(one.same[place], image, one.wanted, _differ(group))


def _split(batches: Sequence[Batch], size: int) -> list[Batch]:
    """The same batches, in parts of so many pictures at most."""
    found = []
    for one in batches:
        for begin in range(0, len(one.wanted), size):
            group = one.wanted[begin : begin + size]
            found.append(Batch(group, {place: one.same[place] for place in group}, one.steps))
    return found


def _apart(model: Model, wanted: Sequence[Wanted], left: Sequence[Batch], *, batch: int) -> list[Batch]:
    """What is left to paint in batches of one strength."""
    places = [place for one in left for place in one.wanted]
    same = {place: alike for one in left for place, alike in one.same.items()}
    found = []
    for one in planned(model, [wanted[place] for place in places], batch=batch, shared=False):
        group = tuple(places[place] for place in one.wanted)
        found.append(Batch(group, {place: same[place] for place in group}, one.steps))
    return found


class _FirstPasses:
    """What first passes have painted, as long as a second pass is to begin with it."""

    def __init__(self, wanted: Sequence[Wanted], plan: Sequence[Batch]) -> None:
        self._left: dict[Hashable, int] = {}
        for one in (wanted[place] for each in plan for place in each.wanted):
            if one.hires is not None:
                self._left[one.first_pass] = self._left.get(one.first_pass, 0) + 1
        self._latents: dict[Hashable, Tensor] = {}

    def of(self, group: Sequence[Wanted]) -> Tensor | None:
        """That of a whole batch, (B, C, H, W), where all of it is there."""
        if any(one.first_pass not in self._latents for one in group):
            return None
        return torch.stack([self._latents[one.first_pass] for one in group])

    def keep(self, group: Sequence[Wanted], latents_BCHW: Tensor) -> None:
        """Those that another picture is to begin with."""
        for one, latents_CHW in zip(group, latents_BCHW, strict=True):
            if self._left[one.first_pass] > 1:
                self._latents[one.first_pass] = latents_CHW

    def release(self, group: Sequence[Wanted]) -> None:
        """These pictures are painted."""
        for one in (one for one in group if one.hires is not None):
            self._left[one.first_pass] -= 1
            if not self._left[one.first_pass]:
                self._latents.pop(one.first_pass, None)


def _walk(model: Model, group: Sequence[Wanted], texts: Sequence[Texts], first_passes: _FirstPasses) -> Iterator[Step]:
    """The steps of a batch, through all its passes."""
    first, differ = group[0], _differ(group)
    jobs = [replace(one.job, cfg_scale=one.sampling.cfg_scale) for one in group]
    if differ:
        uses, names = _union(group)
        jobs = [replace(job, strengths=_shares(one, names)) for job, one in zip(jobs, group, strict=True)]
    else:
        uses = [replace(lora.applied, text_strength=0.0) for lora in first.loras]
    passes = passes_of(model, jobs, first.sampling, start=first.start, hires=first.hires)
    apart = differ or any(one.sampling.apart for one in passes)
    latents = None if first.start is None else first.start.of(0, len(group))
    with merged(model, uses, apart=apart) as adapters:
        for one in passes:
            if len(passes) > 1 and one is passes[0] and (known := first_passes.of(group)) is not None:
                latents = known
                continue
            for step in walked(model, one, jobs, latents, texts, adapters):
                end = step.x
                yield step
            latents = end
            if len(passes) > 1 and one is passes[0]:
                first_passes.keep(group, latents)


def _differ(group: Sequence[Wanted]) -> bool:
    return any(one.strengths != group[0].strengths for one in group)


def _union(group: Sequence[Wanted]) -> tuple[list[Applied], dict[Hashable, str]]:
    """All adapters of a batch at strength 1, and what each is called there."""
    names: dict[Hashable, str] = {}
    uses = []
    for lora in (lora for one in group for lora in one.loras):
        if lora.applied.denoiser_strength and lora.identity not in names:
            names[lora.identity] = f"{len(names)}"
            called = names[lora.identity]
            uses.append(replace(lora.applied, denoiser_strength=1.0, text_strength=0.0, name=called))
    return uses, names


def _shares(one: Wanted, names: Mapping[Hashable, str]) -> tuple[tuple[str, float], ...]:
    """The strength of every adapter of a batch for one picture; a LoRA that it names twice counts twice."""
    own = dict.fromkeys(names.values(), 0.0)
    for identity, strength in one.strengths:
        own[names[identity]] += strength
    return tuple(own.items())


def _proportional(model: Model, wanted: Sequence[Wanted]) -> frozenset[Hashable]:
    """The LoRAs of which twice the strength is twice the change, in layers that know samples."""
    uses = {lora.identity: lora.applied for one in wanted for lora in one.loras}
    return frozenset(
        identity
        for identity, use in uses.items()
        if not small(model.trainable_parts, [_of_denoiser(use)])
        and all(change.proportional for change in use.layers.values())
    )


def _of_denoiser(use: Applied) -> Applied:
    own = {name: change for name, change in use.layers.items() if not part_of(name).startswith("text_encoder")}
    return replace(use, layers=own)


def _settings(sampling: Sampling) -> Hashable:
    """What pictures of a batch have in common."""
    told = replace(sampling, cfg_scale=0.0)
    return (*(value for name, value in vars(told).items() if name != "tuning"), told.tuning.model_dump_json())
