"""Pictures of the class, painted by the base itself: what it knows, kept by training it beside the set.

One is painted for each training caption, with the words of the class in the trigger's place and at its picture's size;
or as many of given prompts. Files are named by all that made them, so that what is there is not painted again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from velatura import bases
from velatura import recipe as recipes
from velatura.api.datasets import recipe_of
from velatura.api.inputs import base_of, read_objective, read_texts, set_threads
from velatura.api.memory import chosen
from velatura.api.painting.paint import png
from velatura.api.painting.wanted import wildcards_of
from velatura.dataset.captions import with_class
from velatura.errors import DatasetError, RecipeError
from velatura.events import Done, Event, Note, Preview, Progress
from velatura.files import make_folder, write_bytes, write_text
from velatura.randomness import key
from velatura.recipe import MemorySettings, Recipe
from velatura.text.readers import unread

if TYPE_CHECKING:
    from velatura.bases import BaseFiles
    from velatura.family import Model
    from velatura.generation.sampling import Job, Sampling

PREFIX = "painted-"
"""How the names of pictures begin that are painted here."""


@dataclass(frozen=True)
class RegulariseRequest:
    """What `velatura dataset regularise` is told."""

    folder: Path
    """A dataset or a project."""
    base: str = ""
    """Empty: the project's own, or else pocket."""
    class_words: str = ""
    """What the trigger is one of, as in "woman"; one picture is painted for each training caption."""
    trigger: str = ""
    """What they take the place of; empty: the project's own."""
    prompts: tuple[str, ...] = ()
    """Instead: prompts to paint."""
    count: int | None = None
    """Pictures of each prompt; None: so many that there are as many in all as training pictures."""
    seed: int = 1
    negative: str = ""
    steps: int | None = None
    """This, and what follows: None for what suits the base."""
    cfg: float | None = None
    guidance: float | None = None
    sampler: str | None = None
    scheduler: str | None = None
    side: int | None = None
    """Side of the square of the training area, in pixels."""
    clip_skip: int | None = None
    batch: int = 4
    memory: MemorySettings = field(default_factory=MemorySettings)
    prune: bool = False
    """Delete what was painted for captions, prompts or settings that are no longer wanted."""


@dataclass(frozen=True)
class _Wanted:
    """One picture of the class."""

    name: str
    caption: str
    job: Job
    sampling: Sampling


def regularise(request: RegulariseRequest) -> Iterator[Event]:
    """Paint what is missing of the pictures of the class, into the dataset's folder for them.

    Raises:
        DatasetError, RecipeError: neither or both of class and prompts are told, or there is no trigger to replace.
        VelaturaError: the dataset cannot be read, the base is not found, a prompt has no meaning.
    """
    from velatura.family import load_base
    from velatura.generation.generate import Painted
    from velatura.generation.generate import generate as paint
    from velatura.generation.reading import weighted
    from velatura.generation.record import infotext_of
    from velatura.training.samples import merged

    recipe, project = _told(request)
    if not request.prompts and not (request.trigger or recipe.dataset.trigger):
        what, fix = "there is no trigger whose place the class could take", "give --trigger, or --prompt"
        raise RecipeError(what, where="dataset.trigger", fix=fix)
    yield from bases.fetched(request.base or recipe.base.model, beside=project)
    base = _base(request, recipe, project)
    set_threads(recipe.train.threads)
    yield Progress("loading the base", 0, 1)
    memory = chosen(base, request.memory, task="paint")
    model = load_base(base, policy=memory.policy, strict=recipe.base.strict)
    yield Progress("loading the base", 1, 1)
    for note in (*memory.warnings, *model.notes):
        yield Note(note)
    _read_as_told(model, request, recipe)
    wanted = _wanted(request, recipe, project, model)
    for sentence in unread(model.readers, [weighted(one.job.prompt).words for one in wanted], called="prompt"):
        yield Note(sentence)
    usual = str(type(recipe.dataset).model_fields["regularisation"].default)
    if not recipe.dataset.regularisation:
        yield Note("dataset.regularisation is empty, so a training will leave these pictures out")
    folder = make_folder(project / recipe.dataset.path / (recipe.dataset.regularisation or usual))
    missing = [one for one in wanted if not (folder / one.name).exists()]
    done = len(wanted) - len(missing)
    with merged(model, []) as adapters:
        for sampling in dict.fromkeys(one.sampling for one in missing):
            group = {one.job: one for one in missing if one.sampling == sampling}
            for event in paint(model, list(group), sampling, batch=request.batch, adapters=adapters):
                if isinstance(event, Painted):
                    one = group[event.job]
                    # the caption first: what is interrupted leaves no picture without one
                    write_text((folder / one.name).with_suffix(".txt"), f"{one.caption}\n")
                    infotext, record = infotext_of(model, event.job, sampling, (), batch=request.batch)
                    write_bytes(folder / one.name, png(event.image, infotext, record))
                    done += 1
                    yield Preview(done, str(folder / one.name))
                    yield Progress("painting the class", done, len(wanted))
                elif isinstance(event, Note):
                    yield event
    stale = sorted({path.name for path in folder.glob(f"{PREFIX}*.png")} - {one.name for one in wanted})
    if request.prune:
        for name in stale:
            (folder / name).unlink(missing_ok=True)
            (folder / name).with_suffix(".txt").unlink(missing_ok=True)
    elif stale:
        yield Note(f"{len(stale)} pictures were painted for what is no longer wanted; --prune deletes them")
    summary = {"folder": str(folder), "painted": len(missing), "kept": len(wanted) - len(missing)}
    yield Done(len(wanted), summary | {"deleted": len(stale) if request.prune else 0})


def _told(request: RegulariseRequest) -> tuple[Recipe, Path]:
    """The project's recipe and its folder; of a dataset without a project one that names it.

    Raises:
        DatasetError: it is not told, or told twice, what to paint.
    """
    if bool(request.prompts) == bool(request.class_words):
        what = "it is not said what to paint" if not request.prompts else "both a class and prompts are given"
        raise DatasetError(what, where=request.folder, fix="give --class WORDS, or --prompt once or more")
    if (told := recipe_of(request.folder)) is not None:
        return told
    folder = request.folder.absolute()
    return recipes.build({"dataset": {"path": folder.name, "hold_out": 0.0}}), folder.parent


def _base(request: RegulariseRequest, recipe: Recipe, project: Path) -> BaseFiles:
    if request.base:
        return bases.find(request.base, beside=project)
    return base_of(recipe, project)


def _read_as_told(model: Model, request: RegulariseRequest, recipe: Recipe) -> None:
    """How texts are read and what is predicted; what the recipe says of its base holds for that base only."""
    read_texts(model, clip_skip=request.clip_skip or (None if request.base else recipe.base.clip_skip))
    if not request.base:
        read_objective(model, recipe)


def _wanted(request: RegulariseRequest, recipe: Recipe, project: Path, model: Model) -> list[_Wanted]:
    """Every picture that there should be, in an order that depends on content alone."""
    from velatura.generation.prompt import literal
    from velatura.generation.prompt.template import Template
    from velatura.generation.reading import weighted
    from velatura.generation.sampling import Job, Sampling, nearest_side
    from velatura.training.dataset import read

    resolution = request.side or recipe.dataset.resolution or model.resolution
    alone = recipe.model_copy(update={"dataset": recipe.dataset.model_copy(update={"regularisation": ""})})
    train = read(alone, project, resolution=resolution, latent_factor=model.latent_factor).train
    own = model.defaults
    square = nearest_side(model, resolution)
    sampling = Sampling(
        square,
        square,
        request.steps or own.steps,
        own.cfg_scale if request.cfg is None else request.cfg,
        *own.how(request.sampler, request.scheduler),
        own.guidance if request.guidance is None else request.guidance,
    )

    def made(prompt: str, caption: str, how: Sampling, *labels: str | int) -> _Wanted:
        job = Job(prompt, key(request.seed, "regularise", caption, *labels) % 2**32, request.negative)
        plain = {**how.__dict__, "tuning": how.tuning.model_dump(exclude_defaults=True)}
        told = json.dumps([model.hash, model.clip_skip, job.__dict__, plain], sort_keys=True)
        return _Wanted(f"{PREFIX}{hashlib.sha256(told.encode()).hexdigest()[:16]}.png", caption, job, how)

    if request.prompts:
        count = request.count or -(-len(train) // len(request.prompts))
        wildcards = wildcards_of(project)
        listed = []
        for number, told in product(range(count), request.prompts):
            seed = key(request.seed, "choices", told, number)
            prompt, _ = Template(told).resolve(seed, wildcards)
            listed.append(made(prompt, weighted(prompt).words, sampling, number))
    else:
        trigger = request.trigger or recipe.dataset.trigger
        listed = []
        for one in train:
            caption = with_class(one.captions[0] or trigger, trigger, request.class_words.strip())
            width, height = one.bucket
            how = replace(sampling, width=width, height=height)
            listed.append(made(literal(caption), caption, how, one.picture.sha256))
    return list({one.name: one for one in listed}.values())
