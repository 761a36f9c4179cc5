"""What every call begins with: the project, its pictures, the base, the processor's threads."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from velatura import bases
from velatura import run as runs
from velatura import settings as user
from velatura.bases import FAMILIES, BaseFiles
from velatura.errors import RecipeError, RunError, SettingsError, nearest
from velatura.events import Note
from velatura.recipe import Recipe
from velatura.text import readers as text_readers
from velatura.text.readers import Reader

if TYPE_CHECKING:
    from velatura.family import Model
    from velatura.training.dataset import Pictures


def project_of(path: Path) -> Path:
    """The folder that a recipe, or the path of a project, belongs to."""
    return path.resolve() if path.is_dir() else path.resolve().parent


def read_pictures(recipe: Recipe, project: Path, model: Model) -> Pictures:
    """The recipe's dataset, fitted to the base."""
    from velatura.training.dataset import read

    resolution = recipe.dataset.resolution or model.resolution
    return read(recipe, project, resolution=resolution, latent_factor=model.latent_factor)


def base_of(recipe: Recipe, project: Path, *, fetch: bool = True) -> BaseFiles:
    """The files of the recipe's base, fetched where that is allowed.

    Raises:
        SettingsError, ModelError: it is not there, or another one than the recipe's hash says.
    """
    told = recipe.base
    return bases.find(
        told.model, vae=told.vae, text_encoders=told.text_encoders, beside=project, sha256=told.sha256, fetch=fetch
    )


def readers_of(files: BaseFiles) -> tuple[Reader, ...]:
    """The text encoders of a base that do not read all of a long text; of its files only tokenizers are read.

    Raises:
        ModelError: no family knows the base, or a tokenizer is nowhere to be had.
    """
    base = bases.locate(files)
    configuration, tokens = (
        importlib.import_module(f"{FAMILIES[base.variant.family]}.{name}") for name in ("configuration", "tokens")
    )
    told = configuration.read(base)
    found: tuple[Reader, ...] = tokens.readers(base, told, tokens.tokenizers(base, told))
    return found


def unread(readers: Sequence[Reader], recipe: Recipe, pictures: Pictures) -> Iterator[str]:
    """What a base's text encoders do not read of a recipe's captions and prompts, in sentences."""
    from velatura.generation.prompt import scheduled
    from velatura.generation.prompt.template import without_comments
    from velatura.generation.reading import weighted

    captions = [caption for one in (*pictures.prepared, *pictures.regularisation) for caption in one.captions]
    yield from text_readers.unread(readers, captions, called="caption")
    steps = recipe.samples.sampling_steps or 20
    read = [one for prompt in recipe.samples.prompts for one in scheduled(without_comments(prompt), steps)]
    prompts = [weighted(until.text).words for one in read for until in one.texts]
    yield from text_readers.unread(readers, prompts, called="prompt")


def assisted(recipe: Recipe, model: Model, project: Path) -> Iterator[Note]:
    """Give a base that was distilled to few steps its assistant for training, or say that it has none.

    Raises:
        RecipeError: the base is no such base.
        SettingsError, AdapterError: the assistant is not there, or does not fit.
    """
    from velatura.training.samples import read_adapter

    told = recipe.base.assistant
    if told and not model.distilled_steps:
        raise RecipeError(
            "this base was not distilled to few steps, so an assistant would only harm",
            where="base.assistant",
            fix="leave it out",
        )
    if told:
        path = project / told
        found = path if path.is_file() else user.find_lora(told, project=project)
        model.assistant = read_adapter(model, found).layers
    elif model.distilled_steps:
        yield Note(
            "this base was distilled to paint in few steps, and training it undoes that: what is learnt looks soft;"
            " name its de-distillation adapter in base.assistant, or train on the undistilled base"
        )


def read_texts(model: Model, *, clip_skip: int | None = None, emphasis: str = "a1111") -> None:
    """Decide how the model's texts are read.

    Args:
        clip_skip: which hidden layer of CLIP, counted from the last; none: the family's own choice.
        emphasis: what weights in a prompt do, as `text.clip.Emphasis` names it.

    Raises:
        SettingsError: there is no such emphasis, or no such layer.
    """
    from velatura.text import clip

    if emphasis not in clip.EMPHASES:
        close = nearest(emphasis, list(clip.EMPHASES))
        known = f"did you mean {close}?" if close else f"choose from {', '.join(clip.EMPHASES)}"
        raise SettingsError(f"there is no emphasis {emphasis!r}", fix=known)
    if clip_skip is not None:
        layers = [int(one.config.num_hidden_layers) for one in clip.encoders(model.parts, model.tokenizers)]
        if not layers:
            raise SettingsError("clip skip is for bases whose text encoders are CLIP", fix="leave it out")
        if not 1 <= clip_skip <= min(layers):
            raise SettingsError(
                f"clip skip {clip_skip} is not possible: the text encoder has {min(layers)} layers",
                fix=f"use 1 to {min(layers)}",
            )
    model.clip_skip, model.emphasis = clip_skip, emphasis


def read_objective(model: Model, recipe: Recipe) -> None:
    """Let the model predict what the recipe says of its base, and refuse what it cannot honour.

    Raises:
        RecipeError: there are such settings, or it is an inpainting base.
    """
    from velatura.training import honour

    if model.extra_channels:
        raise RecipeError(
            "this is an inpainting base, which cannot be trained without masks",
            where="base.model",
            fix="train on the base that it was made from; the LoRA works on both",
        )
    model.objective = honour.as_told(model.objective, recipe.base)
    honour.check(recipe.objective, model.objective)


def set_threads(wanted: int | None) -> int:
    """Fix the number of processor threads, which decides the last bits of sums; the number set."""
    import torch

    threads = wanted if wanted is not None else int(torch.get_num_threads())
    torch.set_num_threads(threads)
    return threads


def check_unchanged(run: runs.Run, pictures: Pictures, model: Model) -> None:
    """Refuse to go on with a run on other pictures or another base: those held out may have been trained on.

    Raises:
        RunError: they have changed.
    """
    made = run.provenance
    if made.get("dataset_fingerprint") != pictures.fingerprint:
        changed = "the pictures or captions have changed since this run began"
    elif made.get("base_hash") != model.hash:
        changed = "the base is not the one that this run began with"
    else:
        return
    raise RunError(changed, where=run.path.name, fix="train the recipe anew")
