"""What the loop trains on: latents and encoded captions, as `training.encoding` makes them, and any step's batches.

Where text encoders are trained, captions are encoded in each step instead, with gradients.

The batch of step n is a function of the seed and n: its pictures, captions, noise and noise levels.
A resumed run and a run in two processes see what the uninterrupted one sees.

Shape suffixes: B batch, C latent channels, H and W latent height and width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from velatura import randomness
from velatura.dataset.buckets import Step
from velatura.dataset.captions import with_class
from velatura.dataset.images import Geometry as Origin
from velatura.dataset.prepared import Prepared, epoch
from velatura.family import Conditioning, Geometry, Model, TextConditioning, stack_prompts
from velatura.recipe import Recipe
from velatura.training import noise, timesteps
from velatura.training.dataset import steps_of


@dataclass(frozen=True)
class View:
    """A picture as it is cut and turned."""

    latents_CHW: Tensor
    geometry: Origin
    mask_HW: Tensor | None = None
    """How much each latent counts in the loss, 0 to 1; None: all the same."""


@dataclass(frozen=True)
class Sample:
    """One picture as the denoiser sees it."""

    prepared: Prepared
    views: tuple[View, ...]
    """The first is the picture as it is judged by; where it is also trained mirrored, every second one is."""
    texts: tuple[TextConditioning, ...]
    """One for each of its captions."""
    wordings: tuple[tuple[TextConditioning, ...], ...] = ()
    """Of each caption those that a step may tell; none: the caption itself."""

    @property
    def latents_CHW(self) -> Tensor:
        """Of the first view."""
        return self.views[0].latents_CHW

    @property
    def geometry(self) -> Origin:
        """Of the first view."""
        return self.views[0].geometry

    @property
    def mask_HW(self) -> Tensor | None:
        """Of the first view."""
        return self.views[0].mask_HW


@dataclass(frozen=True)
class Cached:
    """A dataset, encoded."""

    train: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    empty: TextConditioning
    """The empty caption: what a dropped caption becomes."""
    of_class: tuple[Sample, ...] = ()
    """Pictures of the class, trained beside the set (regularisation)."""
    preserved: Mapping[str, TextConditioning] = field(default_factory=dict)
    """Caption -> the same with the words of the class in the trigger's place, where what the base says of it is to
    stay."""


@dataclass(frozen=True)
class Batch:
    """Everything that one step needs."""

    clean_BCHW: Tensor
    noise_BCHW: Tensor
    sigma_B: Tensor
    """float64 on the CPU."""
    conditioning: Conditioning
    weight_B: Tensor | None = None
    """What each sample's loss counts; None: 1."""
    mask_B1HW: Tensor | None = None
    """What each latent counts; None: 1."""
    disturbed_BCHW: Tensor | None = None
    """The noise that is put in, where it is other than that which is to be predicted."""
    of: int | None = None
    """Samples of the whole step, where this is a part of it."""
    preserved: Conditioning | None = None
    """What the base alone is told of each sample, where what it says is to stay."""
    preserving: Conditioning | None = None
    """The same as the adapter is told it, where text encoders are trained."""


def of_class(caption: str, recipe: Recipe) -> str:
    """A caption with the words of the class in the trigger's place."""
    return with_class(caption, recipe.dataset.trigger, recipe.objective.preserve)


def conditioned(model: Model, text: TextConditioning, origins: Sequence[Origin]) -> Conditioning:
    """What a training prediction is told: encoded captions, and where each picture was cut from."""
    columns = [
        torch.tensor([getattr(origin, name) for origin in origins], dtype=torch.float32)
        for name in ("original", "crop_top_left", "target")
    ]
    return model.conditioned(text, geometry=Geometry(*columns))


def stack_masks(masks: Sequence[Tensor | None], like_CHW: Tensor) -> Tensor | None:
    """The masks of a batch, (B, 1, H, W), ones where a picture has none; None where none has."""
    if all(mask is None for mask in masks):
        return None
    whole_HW = torch.ones(like_CHW.shape[-2:])
    return torch.stack([whole_HW if mask is None else mask for mask in masks])[:, None]


class Batches:
    """The batches of any step."""

    def __init__(self, model: Model, cached: Cached, recipe: Recipe, *, encode_texts: bool = False) -> None:
        """Nothing is drawn yet; only the last epoch's order is kept at hand.

        Args:
            encode_texts: captions are encoded for each batch, by the text encoders as they are then.
        """
        self.model, self.cached, self.recipe, self.encode_texts = model, cached, recipe, encode_texts
        self.seed, self.objective = recipe.train.seed, recipe.objective
        self.samples = (*cached.train, *cached.of_class)
        self.buckets = epoch(sample.prepared for sample in self.samples)
        self.leaning = timesteps.leaning(model.objective, recipe.objective)
        self.per_epoch = len(steps_of(recipe, self.buckets, epoch=0))
        self._order: tuple[int, list[Step]] = (-1, [])

    def pictures(self, step: int) -> Step:
        """The micro-batches of step `step`, counted from 0: indices into the samples, the set's, then the class's."""
        epoch, place = divmod(step, self.per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, steps_of(self.recipe, self.buckets, epoch=epoch))
        return self._order[1][place]

    def told(self, step: int, micro: int) -> str:
        """Which pictures a micro-batch of a step holds, in words; the first is 0."""
        names = ", ".join(self.samples[index].prepared.picture.name for index in self.pictures(step)[micro])
        return f"micro-batch {micro + 1} ({names})"

    def of(self, step: int, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """The micro-batches of step `step`, one after the other, ready to train on.

        Args:
            step: counted from 0.
            rank, world: of several processes, which one this is; each takes every so-manyth micro-batch. What is
                drawn does not depend on it.
        """
        parts = self.pictures(step)
        whole = sum(len(part) for part in parts)
        uniform_B = self._uniform(step, whole)
        first = 0
        for number, part in enumerate(parts):
            if number % world == rank:
                yield self._batch(step, part, first, uniform_B[first : first + len(part)], whole)
            first += len(part)

    def _batch(self, step: int, chosen: Sequence[int], first: int, uniform_B: Tensor, whole: int) -> Batch:
        """Some of a step's samples, from its `first` on."""
        seed, device = self.seed, self.model.policy.device
        views, texts, captions, noises, disturbed = [], [], [], [], []
        for place, index in enumerate(chosen, first):
            view, text, caption = self._drawn(step, place, self.samples[index])
            views.append(view)
            texts.append(text)
            captions.append(caption)
            noises.append(noise.drawn(view.latents_CHW, self.objective, seed=seed, step=step, place=place))
            disturbed.append(noise.disturbed(noises[-1], self.objective, seed=seed, step=step, place=place))
        if self.encode_texts:
            text = self.model.family.encode_prompts(self.model, [self.model.told(caption) for caption in captions])
        else:
            text = stack_prompts(texts, self.cached.empty).to(device)
        clean_BCHW = torch.stack([view.latents_CHW for view in views])
        origins = [view.geometry for view in views]
        return Batch(
            clean_BCHW.to(device),
            torch.stack(noises).to(device),
            self._sigmas(uniform_B, *clean_BCHW.shape[-2:]),
            conditioned(self.model, text, origins),
            self._weights(chosen),
            stack_masks([view.mask_HW for view in views], clean_BCHW[0]),
            torch.stack(disturbed).to(device) if self.objective.input_perturbation else None,
            whole,
            *self._preserved(captions, origins),
        )

    def _preserved(
        self, captions: Sequence[str], origins: Sequence[Origin]
    ) -> tuple[Conditioning | None, Conditioning | None]:
        """What base and adapter are told of the class, where what is said of it is to stay."""
        if not self.objective.preserve:
            return None, None
        kept = [self.cached.preserved.get(caption, self.cached.empty) for caption in captions]
        told = conditioned(self.model, stack_prompts(kept, self.cached.empty).to(self.model.policy.device), origins)
        if not self.encode_texts:
            return told, told
        words = [self.model.told(of_class(caption, self.recipe)) for caption in captions]
        return told, conditioned(self.model, self.model.family.encode_prompts(self.model, words), origins)

    def _drawn(self, step: int, place: int, sample: Sample) -> tuple[View, TextConditioning, str]:
        """How a sample is cut, turned and told at this place of a step."""
        rules, epoch = sample.prepared.rules, step // self.per_epoch
        draw = randomness.generator(self.seed, "sample", step, place)
        mirror = rules.flip and draw.random() < 0.5
        dropped = draw.random() < rules.caption_dropout
        which = int(draw.integers(len(sample.texts)))
        view = self._one_of(len(sample.views) // (1 + rules.flip), "crop", step, place) * (1 + rules.flip) + mirror
        if dropped or (rules.caption_dropout_every and (epoch + 1) % rules.caption_dropout_every == 0):
            return sample.views[view], self.cached.empty, ""
        if rules.captions != "random":
            which = epoch % len(sample.texts) if rules.captions == "in_turn" else 0
        if not sample.wordings:
            return sample.views[view], sample.texts[which], sample.prepared.captions[which]
        wording = self._one_of(len(sample.wordings[which]), "wording", step, place)
        return sample.views[view], sample.wordings[which][wording], sample.prepared.wordings[which][wording]

    def _one_of(self, count: int, purpose: str, step: int, place: int) -> int:
        return int(randomness.generator(self.seed, purpose, step, place).integers(count)) if count > 1 else 0

    def _weights(self, chosen: Sequence[int]) -> Tensor | None:
        """Pictures of the class count as told."""
        if not self.cached.of_class:
            return None
        prior = self.recipe.dataset.prior_weight
        return torch.tensor([prior if self.samples[index].prepared.of_class else 1.0 for index in chosen])

    def _uniform(self, step: int, count: int) -> Tensor:
        """One number from each of `count` equal slices of [0, 1), in an order drawn anew: less spread than free
        draws."""
        draw = randomness.generator(self.seed, "sigma", step)
        return torch.from_numpy((draw.permutation(count) + draw.random(count)) / count)

    def _sigmas(self, uniform_B: Tensor, height: int, width: int) -> Tensor:
        """Noise levels from numbers drawn, as the recipe spreads them for latents of this size."""
        patch = self.model.patch
        objective = self.leaning.for_tokens((height // patch) * (width // patch))
        return timesteps.training_sigma(objective, self.objective, uniform_B)
