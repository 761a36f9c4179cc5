"""Pictures painted from a checkpoint: read back from its file and merged, on the path that generation uses.

What a preview shows is therefore what the saved file gives anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from PIL import Image

from velatura.adapters import formats
from velatura.adapters.beside import Beside, beside, small
from velatura.adapters.layers import every_shape
from velatura.adapters.lora import Injected
from velatura.adapters.merge import Applied, merge
from velatura.adapters.switch import Switch
from velatura.adapters.weights import AdapterFile
from velatura.diffusion.samplers import resolve
from velatura.errors import AdapterError, PromptError
from velatura.family import Model
from velatura.generation.generate import Painted, generate
from velatura.generation.noise import check_source
from velatura.generation.passes import prompts_of
from velatura.generation.prompt import literal, parse
from velatura.generation.prompt.template import has_choices, without_comments
from velatura.generation.record import used_embeddings
from velatura.generation.sampling import Job, Sampling, check_guidance, nearest_side
from velatura.recipe import Recipe
from velatura.text.embeddings import Found
from velatura.text.weighted import Embedding
from velatura.training import assistant
from velatura.training.dataset import Pictures


def read_adapter(model: Model, path: Path) -> AdapterFile:
    """An adapter file for this base.

    Raises:
        AdapterError: it does not fit.
    """
    return formats.read(path, keys=model.family.keys, layers=every_shape(model.trainable_parts))


@contextmanager
def merged(
    model: Model, uses: Sequence[Applied], injected: Injected | None = None, *, apart: bool = False
) -> Iterator[Switch]:
    """The model with adapters in it, and the adapter in training silent; afterwards as before.

    They are merged into its weights, or stand beside its layers where the policy says so. What is yielded lets them
    come and go between sampling steps.

    Args:
        model: in which they are.
        uses: the adapters.
        injected: the adapter in training.
        apart: they stand beside the layers in any case, so that samples may have strengths of their own.

    Raises:
        AdapterError: one does not fit; or is to stand apart, and changes norms or biases, which samples share.
    """
    training = injected is not None
    if apart and (shared := small(model.trainable_parts, uses)):
        raise AdapterError(
            f"{shared[0].name or 'the LoRA'} changes norms or biases, which both sides of guidance share",
            fix="leave negative_strength at 1",
        )
    if apart or not model.policy.merges:
        with nullcontext() if injected is None else injected.set_aside():
            assistant.send_away(model)
            standing = _Standing(model)
            try:
                yield Switch(uses, standing.put)
            finally:
                standing.put([])
                _after(model, training=training)
        return
    before = injected.strength if injected is not None else 0.0
    if injected is not None:
        injected.strength = 0.0
    try:
        yield Switch(uses, lambda told: _merge(model, told))
    finally:
        _after(model, training=training)
        if injected is not None:
            injected.strength = before


class _Standing:
    """Adapters beside a model's layers, exchanged for others."""

    def __init__(self, model: Model) -> None:
        self._model, self._now = model, Beside({}, {})

    def put(self, uses: Sequence[Applied]) -> Beside:
        parts, pristine = self._model.trainable_parts, self._model.pristine
        self._now.eject()
        with torch.inference_mode(False):
            merge(parts, pristine, small(parts, uses))
            self._now = beside(parts, uses, pristine)
        return self._now


def _merge(model: Model, uses: Sequence[Applied]) -> None:
    with torch.inference_mode(False):  # sampling steps are in it, and weights outlast them
        merge(model.trainable_parts, model.pristine, uses)


def _after(model: Model, *, training: bool) -> None:
    if training:
        assistant.bring(model)
    else:
        assistant.send_away(model)


def check(recipe: Recipe, model: Model) -> None:
    """Refuse sample settings that could not be painted, before hours of training end in them.

    Raises:
        PromptError: a prompt has no meaning, or names a LoRA.
        SettingsError: an unknown sampler or schedule, or one that does not fit the base.
    """
    how = sampling(recipe, model)
    resolve(how.sampler, how.scheduler, model.objective, family=model.variant.family, told=recipe.samples.tuning.told())
    check_source(recipe.samples.tuning.rng, model.policy.device)
    check_guidance(how)
    for prompt in recipe.samples.prompts:
        if parse(prompt).loras:
            raise PromptError(
                f"a sample prompt names a LoRA: {prompt}",
                where="samples.prompts",
                fix="leave it out: samples show the LoRA in training",
            )
        if has_choices(prompt):
            raise PromptError(
                f"a sample prompt leaves something open: {prompt}",
                where="samples.prompts",
                fix="write out one choice: samples are compared with each other",
            )
        prompts_of(Job(prompt, 0), how)


def jobs(recipe: Recipe, pictures: Pictures) -> list[Job]:
    """The recipe's prompts, or else captions: held-out ones first, then those of training."""
    captions = [literal(one.captions[0]) for one in (*pictures.held_out, *pictures.train)]
    told = [*map(without_comments, recipe.samples.prompts)] or list(dict.fromkeys(captions))
    chosen = (told * recipe.samples.count)[: recipe.samples.count] if told else []
    return [Job(prompt, recipe.samples.seed + place) for place, prompt in enumerate(chosen)]


def embeddings(
    model: Model, recipe: Recipe, pictures: Pictures, project: Path, *, words: Sequence[Embedding] = ()
) -> Found:
    """The textual-inversion embeddings that the sample prompts name, as in `velatura generate`.

    Args:
        words: those that came with the adapter.

    Raises:
        SettingsError, ModelError, PromptError: as `generation.record.used_embeddings`.
    """
    told, how = jobs(recipe, pictures), sampling(recipe, model)
    return used_embeddings(model, [text for job in told for text in prompts_of(job, how).texts], project, bundled=words)


def sampling(recipe: Recipe, model: Model) -> Sampling:
    """How the recipe's sample pictures are painted."""
    side = nearest_side(model, recipe.dataset.resolution or model.resolution)
    told, own = recipe.samples, model.defaults
    return Sampling(
        side,
        side,
        told.sampling_steps or own.steps,
        told.cfg_scale or own.cfg_scale,
        *own.how(told.sampler, told.scheduler),
        told.guidance or own.guidance,
        told.negative_strength,
        told.tuning,
    )


def paint(
    model: Model,
    what: Sequence[Job],
    how: Sampling,
    *,
    batch: int = 4,
    embeddings: Sequence[Embedding] = (),
    adapters: Switch | None = None,
) -> list[Image.Image]:
    """The jobs' pictures, in order."""
    events = generate(model, what, how, batch=batch, embeddings=embeddings, adapters=adapters)
    return [event.image for event in events if isinstance(event, Painted)]
