"""Training: from a recipe to a judged run, gone on with where it stopped."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura import bases
from velatura import run as runs
from velatura import settings as user
from velatura.api.inputs import (
    assisted,
    base_of,
    check_unchanged,
    read_objective,
    read_pictures,
    read_texts,
    set_threads,
    unread,
)
from velatura.api.memory import chosen
from velatura.api.painting.paint import png
from velatura.api.training import going_on, tracking
from velatura.api.training.judging import judge
from velatura.errors import RecipeError, RunError
from velatura.events import Checkpoint, Done, Event, Note, Preview, Progress, Started
from velatura.files import make_folder, sha256, write_bytes
from velatura.recipe import Recipe
from velatura.version import __version__

if TYPE_CHECKING:
    from PIL.Image import Image

    from velatura.adapters.lora import Injected
    from velatura.family import Model
    from velatura.training.data import Cached
    from velatura.training.dataset import Pictures


def train(
    path: Path,
    *,
    overrides: Iterable[str] = (),
    new: bool = False,
    refit: bool = False,
    more: int = 0,
    start: str = "",
    weights_only: bool = False,
) -> Iterator[Event]:
    """Train what a recipe says, or go on with a run.

    A recipe goes on with the newest run that was told the same, on the same pictures and base; if
    that run is finished, this says so and does nothing more.

    Args:
        path: a recipe, a project folder, or a run folder.
        overrides: settings of the form `train.steps=120`; for a run, those that change nothing of what it trains.
        new: start a new run in any case.
        refit: after the choice, train once more on all pictures, held-out ones too.
        more: go on with a run for so many steps past its end.
        start: begin a new run where this run stood at a step, as in step-000400.
        weights_only: with its weights alone, from step 0.

    Raises:
        VelaturaError: the recipe, the pictures, the base or the disk are not as they must be.
    """
    task = going_on.read(path, list(overrides), new=new, more=more, start=start, weights_only=weights_only)
    recipe, project, run = task.recipe, task.project, task.run
    yield from bases.fetched(recipe.base.model, beside=project)
    base = base_of(recipe, project)
    yield Progress("loading the base", 0, 1)
    # torch comes in here, after everything that a recipe can be wrong about without it
    from velatura.family import load_base
    from velatura.training.adapter import specs
    from velatura.training.dataset import counted
    from velatura.training.samples import check as check_samples
    from velatura.training.samples import embeddings as sample_embeddings

    threads = set_threads(recipe.train.threads)
    memory = chosen(base, recipe.memory, task="train")
    model = load_base(base, policy=memory.policy, strict=recipe.base.strict)
    read_texts(model, clip_skip=recipe.base.clip_skip)
    read_objective(model, recipe)
    yield Progress("loading the base", 1, 1)
    yield from assisted(recipe, model, project)
    _keep_trained_texts(recipe, model, [one.name for one in specs(recipe, model)])
    recipe = resolved(recipe, model, threads)
    check_samples(recipe, model)
    tracking.check(recipe)
    pictures = read_pictures(recipe, project, model)
    recipe = recipe if run is not None else counted(recipe, pictures)  # a run may have been lengthened
    named = sample_embeddings(model, recipe, pictures, project)
    long = unread(model.readers, recipe, pictures)
    for note in (*memory.warnings, *model.notes, *pictures.notes, *named.passed_over, *long):
        yield Note(note)
    if run is None and task.parent is None and not new:
        run = runs.matching(project, recipe, fingerprint=pictures.fingerprint, base_hash=model.hash)
    if run is None:
        run = begun(task, recipe, pictures, model)
    yield Started(run.path.name)
    check_unchanged(run, pictures, model)
    if task.retold:
        with runs.lock(run):
            run.retell(recipe)
    at_work = not run.finished
    if at_work:
        yield from tracking.tracked(_train_run(model, recipe, pictures, run, project), recipe, run)
    if refit and run.finished:
        for event in _refit(model, recipe, pictures, run, project):
            at_work |= isinstance(event, Done)
            yield event
    if not at_work:
        yield Note(f"run {run.path.name} is finished; --new trains again")
        yield Done(recipe.train.steps, {"run": run.path.name, "finished_before": True})


def begun(task: going_on.Task, recipe: Recipe, pictures: Pictures, model: Model) -> runs.Run:
    """A new run; one that begins with another's checkpoint records which.

    Raises:
        RunError: that is of another base, or damaged.
    """
    parent, start = task.parent, None
    made = provenance(recipe, pictures, model)
    if parent is not None:
        parent.run.verify(parent.checkpoint)
        if parent.run.provenance.get("base_hash") != model.hash:
            raise RunError(f"{parent.run.path.name} was trained on another base", fix="train the recipe anew")
        made |= parent.record
        start = None if parent.weights_only else parent.checkpoint.state
    if recipe.train.init_from and start is None:
        made |= {"init_hash": sha256(init_file(recipe, task.project))}
    return runs.create(task.project, recipe, provenance=made, dataset_lines=lines(pictures), start=start)


def init_file(recipe: Recipe, project: Path) -> Path:
    """The LoRA that training begins with.

    Raises:
        SettingsError: there is none of that name.
    """
    path = project / recipe.train.init_from
    return path if path.is_file() else user.find_lora(recipe.train.init_from, project=project)


def _begin_with(recipe: Recipe, model: Model, injected: Injected, run: runs.Run, project: Path) -> None:
    """Take over the LoRA that training begins with, unless the run has come further.

    Raises:
        AdapterError: its layers, kinds, ranks or alphas are not the recipe's.
        RunError: it is not the one that the run began with.
    """
    from velatura.training.samples import read_adapter

    further = run.start.exists() or any(one.state.exists() for one in run.checkpoints())
    if further or not recipe.train.init_from:
        return
    path = init_file(recipe, project)
    if run.provenance.get("init_hash") != sha256(path):
        raise RunError(
            "the LoRA that this run began with has changed", where=path, fix="train the recipe anew with --new"
        )
    injected.begin_with(read_adapter(model, path).layers, where=path)


def _keep_trained_texts(recipe: Recipe, model: Model, layers: Iterable[str]) -> None:
    """Text encoders that are trained are needed in every step, with the denoiser.

    Raises:
        RecipeError: parts are to take turns.
    """
    from velatura.training.adapter import changes_text

    if model.turns is None or not (changes_text(layers) or recipe.word.tokens):
        return
    if recipe.memory.in_turn:
        raise RecipeError(
            "text encoders that are trained, or through which a word is, are needed in every step, so parts cannot take"
            " turns",
            where="memory.in_turn",
            fix="set it to false, or leave text encoders out of adapter.targets and set word.tokens to 0",
        )
    model.stay()


def _train_run(model: Model, recipe: Recipe, pictures: Pictures, run: runs.Run, project: Path) -> Iterator[Event]:
    from velatura.adapters.lora import inject
    from velatura.evaluation.protocol import exam
    from velatura.generation.generate import read_all
    from velatura.training import assistant, samples
    from velatura.training.adapter import specs
    from velatura.training.data import Batches, Cached
    from velatura.training.due import Due
    from velatura.training.facts import adapter_writer
    from velatura.training.loop import over
    from velatura.training.loop import train as train_loop
    from velatura.training.pace import channels_last, freed_memory_kept
    from velatura.training.pivotal import LearnedWord

    with runs.lock(run), freed_memory_kept():
        cached: Cached | None = None
        for event in _encoded(model, recipe, pictures):
            if isinstance(event, Cached):
                cached = event
            else:
                yield event
        assert cached is not None
        per_epoch = Batches(model, cached, recipe).per_epoch
        if model.turns is not None:  # while the text encoders are there: what will be painted later
            painted = (*samples.jobs(recipe, pictures), *exam(recipe, pictures).jobs)
            read_all(model, painted, samples.sampling(recipe, model))
            model.turns.leave("vae")
            model.turns.need("denoiser")  # some kinds of adapter begin from its weights
        assistant.bring(model)
        channels_last(model, recipe.train)
        word = LearnedWord(model, recipe) if recipe.word.tokens else None
        with (
            model.knowing([] if word is None else [word.embedding]),
            inject(model.trainable_parts, specs(recipe, model), seed=recipe.train.seed) as injected,
        ):
            _begin_with(recipe, model, injected, run, project)
            write = adapter_writer(recipe, pictures, model, per_epoch=per_epoch, word=word)
            # a process that was killed may have published a checkpoint and not painted it
            due = Due(recipe, per_epoch)
            for checkpoint in run.checkpoints():
                if due.sample(checkpoint.step):
                    yield from _paint_samples(model, recipe, pictures, run, injected, checkpoint)
            for happened in train_loop(model, injected, cached, recipe, run, adapter_bytes=write, word=word):
                run.append(happened)
                yield happened
                if isinstance(happened, Checkpoint) and due.shown(happened.step):
                    yield from _paint_samples(model, recipe, pictures, run, injected, run.checkpoints()[-1])
        done = run.checkpoints()[-1] if run.checkpoints() else None
        if done is None or not over(recipe, done.step, going_on.measured(done)):
            return
        assistant.send_away(model)
        yield from judge(model, recipe, pictures, cached, run, project)


def _encoded(model: Model, recipe: Recipe, pictures: Pictures) -> Iterator[Progress | Note | Cached]:
    from velatura.training.data import of_class
    from velatura.training.encoding import encode

    every, told = (*pictures.prepared, *pictures.regularisation), recipe.objective
    other = functools.partial(of_class, recipe=recipe) if told.preserve else None
    return encode(model, every, masked=told.masked_loss, seed=recipe.train.seed, of_class=other)


def _paint_samples(
    model: Model,
    recipe: Recipe,
    pictures: Pictures,
    run: runs.Run,
    injected: Injected,
    checkpoint: runs.CheckpointFolder,
) -> Iterator[Event]:
    """The sample pictures of a checkpoint, where they are not there yet."""
    from velatura.adapters.merge import Applied
    from velatura.generation.contact import contact_sheet
    from velatura.generation.record import words_of
    from velatura.training import samples

    what = samples.jobs(recipe, pictures)
    path = make_folder(run.path / "samples") / f"step-{checkpoint.step:06d}.png"
    if not what or path.exists():
        return
    adapter = samples.read_adapter(model, checkpoint.adapter)
    named = samples.embeddings(model, recipe, pictures, run.path.parent.parent, words=words_of(adapter))
    how = samples.sampling(recipe, model)
    used = [Applied(adapter.layers, 1.0, 1.0)]
    with samples.merged(model, used, injected, apart=how.apart) as adapters:
        images = samples.paint(model, what, how, embeddings=named.embeddings, adapters=adapters)
    if model.turns is not None:
        model.turns.leave("vae")
    sheet = contact_sheet(images, columns=min(4, len(images)))
    # the run's own first: where the checkpoint's stands, both do, whenever the process was killed
    write_bytes(path.with_name("contact.png"), png(whole_sheet(path, sheet)))
    write_bytes(path, png(sheet))
    preview = Preview(checkpoint.step, path.relative_to(run.path).as_posix())
    run.append(preview)
    yield preview


def whole_sheet(path: Path, newest: Image) -> Image:
    """The samples of each checkpoint one below the other; the newest will stand at `path`."""
    from PIL import Image as images

    from velatura.generation.contact import contact_sheet

    rows = {one: images.open(one) for one in path.parent.glob("step-*.png")} | {path: newest}
    labels = [f"step {int(one.stem.removeprefix('step-'))}" for one in sorted(rows)]
    return contact_sheet([rows[one] for one in sorted(rows)], columns=1, row_labels=labels)


def _refit(model: Model, recipe: Recipe, pictures: Pictures, judged: runs.Run, project: Path) -> Iterator[Event]:
    """Train on all pictures for as long as the chosen checkpoint was, lengthened for the further pictures."""
    result = runs.read_json(judged.path / "result.json")
    if not pictures.held_out:
        yield Note("no picture was held out, so there is no other to train again on")
        return
    if not result["chosen"]:
        yield Note("no checkpoint could be recommended, so there is nothing to train again on all pictures")
        return
    steps = refit_steps(result["step"], len(pictures.train), len(pictures.prepared))
    length = {"steps": steps, "epochs": None}
    recipe = recipe.model_copy(
        update={
            "dataset": recipe.dataset.model_copy(update={"hold_out": 0.0}),
            "train": recipe.train.model_copy(update={**length, "warmup": min(recipe.train.warmup, steps - 1)}),
            "checkpoints": recipe.checkpoints.model_copy(update={"every": steps}),
        }
    )
    everything = read_pictures(recipe, project, model)
    yield Note(f"training on all {len(everything.train)} pictures for {steps} steps")
    run = runs.matching(project, recipe, fingerprint=everything.fingerprint, base_hash=model.hash)
    if run is None:
        made = provenance(recipe, everything, model) | {"refit_of": judged.path.name}
        run = runs.create(project, recipe, provenance=made, dataset_lines=lines(everything))
    if not run.finished:
        yield from _train_run(model, recipe, everything, run, project)


def refit_steps(chosen: int, trained_on: int, pictures: int) -> int:
    """Steps for all the pictures, from the best number of steps for some of them: it grows with n to the 0.54.

    Source: a fit over sets of 10 to 100 pictures at one learning rate, by spacepxl.
    """
    growth: float = (pictures / trained_on) ** 0.54
    return max(1, round(chosen * growth))


def resolved(recipe: Recipe, model: Model, threads: int) -> Recipe:
    """The recipe with what the base and the machine decide written out."""
    from velatura.training.samples import sampling
    from velatura.weights.policy import written

    base = recipe.base.model_copy(update={"sha256": model.hash})
    side = recipe.dataset.resolution or model.resolution
    blocks = [one.model_copy(update={"resolution": one.resolution or side}) for one in recipe.dataset.blocks]
    dataset = recipe.dataset.model_copy(update={"resolution": side, "blocks": blocks})
    gamma = recipe.objective.min_snr
    if gamma is None:
        gamma = 0.0 if model.objective.kind == "flow" or recipe.objective.debiased else 5.0
    objective = recipe.objective.model_copy(update={"min_snr": gamma})
    settings = recipe.train.model_copy(update={"threads": threads})
    how = sampling(recipe, model)
    painting = {
        "sampling_steps": how.steps,
        "cfg_scale": how.cfg_scale,
        "guidance": how.guidance if model.guidance == "distilled" else None,
        "sampler": how.sampler,
        "scheduler": how.scheduler,
    }
    samples = recipe.samples.model_copy(update=painting)
    told = {"base": base, "dataset": dataset, "objective": objective, "train": settings, "samples": samples}
    return recipe.model_copy(update={**told, "memory": written(model.policy)})


def provenance(recipe: Recipe, pictures: Pictures, model: Model) -> dict[str, Any]:
    """What a run is made with: nothing private, no paths."""
    import platform

    import diffusers
    import torch
    import transformers

    from velatura.training.facts import run_fingerprint

    return {
        "velatura": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "device": model.policy.device,
        "dtype": str(model.policy.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "base": model.name,
        "base_hash": model.hash,
        "dataset_fingerprint": pictures.fingerprint,
        "run_fingerprint": run_fingerprint(recipe, pictures, model.hash),
        "seed": recipe.train.seed,
    }


def lines(pictures: Pictures) -> list[str]:
    """The lines of `dataset.jsonl`."""
    from velatura.dataset import prepared

    return prepared.lines((*pictures.prepared, *pictures.regularisation))
