"""The public functions: what the command line and the web page call, and what a script may import.

Long work is a generator of events. torch is imported inside the functions that need it, so that
importing this module costs nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura import recipe as recipes
from velatura import run as runs
from velatura import settings as user
from velatura.errors import RecipeError, RunError
from velatura.events import Checkpoint, Done, Event, Note, Preview, Progress
from velatura.files import make_folder, sha256, write_bytes, write_text
from velatura.recipe import Recipe
from velatura.version import __version__

if TYPE_CHECKING:
    from velatura.adapters.lora import Injected
    from velatura.evaluation.choose import Choice
    from velatura.evaluation.results import Results
    from velatura.family import Model
    from velatura.training.dataset import Pictures


# --- training --------------------------------------------------------------------------------


def train(path: Path, *, overrides: Iterable[str] = (), new: bool = False, refit: bool = False) -> Iterator[Event]:
    """Train what a recipe says, or go on with a run.

    A recipe goes on with the newest run that was told the same, on the same pictures and base; if
    that run is finished, this says so and does nothing more.

    Args:
        path: a recipe, a project folder, or a run folder.
        overrides: settings of the form `train.steps=120`.
        new: start a new run in any case.
        refit: after the choice, train once more on all pictures, held-out ones too.

    Raises:
        VelaturaError: the recipe, the pictures, the base or the disk are not as they must be.
    """
    overrides = list(overrides)
    is_run = (path / "provenance.json").exists()
    if is_run and (overrides or new):
        raise RecipeError("a run cannot be given other settings", where=path, fix="train the recipe with --set instead")
    recipe = runs.open_run(path).recipe if is_run else recipes.load(path, overrides)
    project = path.resolve().parent.parent if is_run else project_of(path)
    base = user.find_base(recipe.base.model, beside=project)
    yield Progress("loading the base", 0, 1)
    # torch comes in here, after everything that a recipe can be wrong about without it
    from velatura.family import load_base
    from velatura.training.adapter import specs
    from velatura.training.samples import check as check_samples

    threads = set_threads(recipe.train.threads)
    model = load_base(base)
    yield Progress("loading the base", 1, 1)
    recipe = resolved(recipe, model, threads)
    specs(recipe, model)
    check_samples(recipe, model)
    pictures = read_pictures(recipe, project, model)
    for note in pictures.notes:
        yield Note(note)
    run = runs.Run(path.resolve()) if is_run else None
    if run is None and not new:
        run = runs.matching(project, recipe, fingerprint=pictures.fingerprint, base_hash=model.hash)
    if run is None:
        run = runs.create(
            project, recipe, provenance=provenance(recipe, pictures, model), dataset_lines=lines(pictures)
        )
    check_unchanged(run, pictures, model)
    at_work = not run.finished
    if at_work:
        yield from _train_run(model, recipe, pictures, run, project)
    if refit and run.finished:
        for event in _refit(model, recipe, pictures, run, project):
            at_work |= isinstance(event, Done)
            yield event
    if not at_work:
        yield Note(f"run {run.path.name} is finished; --new trains again")
        yield Done(recipe.train.steps, {"run": run.path.name, "finished_before": True})


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
    recipe = recipe.model_copy(
        update={
            "dataset": recipe.dataset.model_copy(update={"hold_out": 0.0}),
            "train": recipe.train.model_copy(update={"steps": steps, "warmup": min(recipe.train.warmup, steps - 1)}),
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


def _train_run(model: Model, recipe: Recipe, pictures: Pictures, run: runs.Run, project: Path) -> Iterator[Event]:
    from velatura.adapters.lora import inject
    from velatura.training.adapter import specs
    from velatura.training.data import Batches, Cached, encode
    from velatura.training.facts import adapter_writer
    from velatura.training.loop import train as train_loop

    with runs.Lock(run):
        cached: Cached | None = None
        for event in encode(model, pictures.prepared, flip=recipe.dataset.flip):
            if isinstance(event, Progress):
                yield event
            else:
                cached = event
        assert cached is not None
        per_epoch = Batches(model, cached, recipe.train).per_epoch
        with inject(model.trainable_parts, specs(recipe, model), seed=recipe.train.seed) as injected:
            write = adapter_writer(recipe, pictures, model, per_epoch=per_epoch)
            # a process that was killed may have published a checkpoint and not painted it
            for checkpoint in run.checkpoints():
                yield from _paint_samples(model, recipe, pictures, run, injected, checkpoint)
            for happened in train_loop(model, injected, cached, recipe, run, adapter_bytes=write):
                run.append(happened)
                yield happened
                if isinstance(happened, Checkpoint):
                    yield from _paint_samples(model, recipe, pictures, run, injected, run.checkpoints()[-1])
        done = run.checkpoints()[-1] if run.checkpoints() else None
        if done is None or done.step < recipe.train.steps:
            return
        yield from _judge(model, recipe, pictures, cached, run, project)


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
    from velatura.training import samples

    what = samples.jobs(recipe, pictures)
    path = make_folder(run.path / "samples") / f"step-{checkpoint.step:06d}.png"
    if not what or path.exists():
        return
    adapter = samples.read_adapter(model, checkpoint.adapter)
    with samples.merged(model, [Applied(adapter.layers, 1.0, 1.0)], injected):
        images = samples.paint(model, what, samples.sampling(recipe, model))
    write_bytes(path, png(contact_sheet(images, columns=min(4, len(images)))))
    preview = Preview(checkpoint.step, path.relative_to(run.path).as_posix())
    run.append(preview)
    yield preview


def _judge(
    model: Model, recipe: Recipe, pictures: Pictures, cached: Any, run: runs.Run, project: Path
) -> Iterator[Event]:
    """Compare the checkpoints, name one, copy it to `loras/`, and close the run."""
    from velatura.evaluation import choose, results
    from velatura.evaluation.protocol import evaluate as run_protocol

    found: results.Results | None = None
    for event in run_protocol(model, recipe, pictures, cached, run):
        if isinstance(event, results.Results):
            found = event
        else:
            yield event
    assert found is not None
    choice = choose.choose(found)
    write_text(run.path / "report.html", report(run, found, choice))
    last = run.checkpoints()[-1]
    chosen = next((one for one in run.checkpoints() if one.step == choice.step), last)
    lora = keep_lora(project, recipe.name, chosen.adapter.read_bytes())
    summary = {
        "run": run.path.name,
        "step": chosen.step,
        "chosen": choice.step is not None,
        "reasons": list(choice.reasons),
        "warnings": list(choice.warnings),
        "lora": f"loras/{lora.name}",
        "report": f"runs/{run.path.name}/report.html",
    }
    write_text(run.path / "result.json", json.dumps(summary, indent=2, ensure_ascii=False))
    done = Done(recipe.train.steps, summary)
    run.append(done)
    yield done


def keep_lora(project: Path, name: str, data: bytes) -> Path:
    """Put an adapter into `loras/`. One from a run of this project is replaced, any other file keeps its place."""
    folder = make_folder(project / "loras")
    ours = {
        runs.read_json(checkpoint.path / "manifest.json")["sha256"]["adapter.safetensors"]
        for run in runs.runs_of(project)
        for checkpoint in run.checkpoints()
    }
    path, number = folder / f"{name}.safetensors", 1
    while path.exists() and sha256(path) not in ours:
        number += 1
        path = folder / f"{name}-{number}.safetensors"
    write_bytes(path, data)
    return path


def report(run: runs.Run, results: Results, choice: Choice, **sections: Any) -> str:
    """The run's report page; further sections as `evaluation.report.report_page` takes them."""
    from velatura.evaluation.charts import Curve, Series
    from velatura.evaluation.report import report_page
    from velatura.events import Metric

    shown = [*results.base.samples, *results.held_out]
    for checkpoint in results.checkpoints:
        shown += checkpoint.samples
    paths = {sample.path for sample in shown} | {sample.nearest for sample in shown if sample.nearest}
    pictures = {path: (run.path / path).read_bytes() for path in sorted(paths) if (run.path / path).exists()}
    losses = [(event.step, event.values["loss"]) for event in run.events() if isinstance(event, Metric)]
    curves = (
        [Curve("Training loss", [Series("loss", [step for step, _ in losses], [value for _, value in losses])])]
        if losses
        else []
    )
    return report_page(results, choice, pictures=pictures, title=run.recipe.name, curves=curves, **sections)


def evaluate(path: Path) -> Iterator[Event]:
    """Judge a finished run again.

    Raises:
        RunError: this is no run, it has no checkpoint yet, or its pictures or base have changed.
    """
    from velatura.family import load_base
    from velatura.training.data import Cached, encode

    run = runs.open_run(path.resolve())
    if not run.checkpoints():
        raise RunError("this run has no checkpoint yet", where=run.path.name, fix="train it first")
    recipe, project = run.recipe, run.path.parent.parent
    set_threads(recipe.train.threads)
    model = load_base(user.find_base(recipe.base.model, beside=project))
    pictures = read_pictures(recipe, project, model)
    check_unchanged(run, pictures, model)
    with runs.Lock(run):
        for event in encode(model, pictures.prepared, flip=False):
            if isinstance(event, Cached):
                yield from _judge(model, recipe, pictures, event, run, project)
            else:
                yield event


@dataclass(frozen=True)
class Plan:
    """What a recipe comes to, before anything runs."""

    steps: int
    batch: int
    pictures: int
    held_out: int
    steps_per_epoch: int
    epochs: float
    buckets: dict[str, int]
    checkpoints: int
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def plan(path: Path, *, overrides: Iterable[str] = ()) -> Plan:
    """Steps, epochs and buckets of a recipe; loads no weights."""
    from velatura.dataset.buckets import grouped, plan_epoch
    from velatura.training.dataset import read

    recipe = recipes.load(path, overrides)
    project = project_of(path)
    resolution = recipe.dataset.resolution or base_resolution(user.find_base(recipe.base.model, beside=project))
    pictures = read(recipe, project, resolution=resolution)
    buckets = grouped([one.bucket for one in pictures.train])
    per_epoch = len(plan_epoch(buckets, batch=recipe.train.batch, seed=recipe.train.seed, epoch=0))
    every = recipe.checkpoints.every
    return Plan(
        steps=recipe.train.steps,
        batch=recipe.train.batch,
        pictures=len(pictures.train),
        held_out=len(pictures.held_out),
        steps_per_epoch=per_epoch,
        epochs=round(recipe.train.steps / per_epoch, 2),
        buckets={f"{width}x{height}": count for (width, height), count in sorted(pictures.buckets.items())},
        checkpoints=recipe.train.steps // every + bool(recipe.train.steps % every),
        notes=pictures.notes,
    )


def base_resolution(source: Path) -> int:
    """Side of the square a base was made for, from its settings alone."""
    config = runs.read_json(source / "unet" / "config.json")
    vae = runs.read_json(source / "vae" / "config.json")
    levels = vae.get("encoder_block_out_channels") or vae["block_out_channels"]
    factor: int = 2 ** (len(levels) - 1)
    return int(config["sample_size"]) * factor


def project_of(path: Path) -> Path:
    """The folder that a recipe, or the path of a project, belongs to."""
    return path.resolve() if path.is_dir() else path.resolve().parent


def read_pictures(recipe: Recipe, project: Path, model: Model) -> Pictures:
    """The recipe's dataset, fitted to the base."""
    from velatura.training.dataset import read

    resolution = recipe.dataset.resolution or model.resolution
    return read(recipe, project, resolution=resolution, latent_factor=model.latent_factor)


def lines(pictures: Pictures) -> list[str]:
    """The lines of `dataset.jsonl`."""
    from velatura.dataset import prepared

    return prepared.lines(pictures.prepared)


def resolved(recipe: Recipe, model: Model, threads: int) -> Recipe:
    """The recipe with what the base and the machine decide written out."""
    dataset = recipe.dataset.model_copy(update={"resolution": recipe.dataset.resolution or model.resolution})
    settings = recipe.train.model_copy(update={"threads": threads})
    return recipe.model_copy(update={"dataset": dataset, "train": settings})


def set_threads(wanted: int | None) -> int:
    """Fix the number of processor threads, which decides the last bits of sums; the number set."""
    import torch

    threads = wanted if wanted is not None else int(torch.get_num_threads())
    torch.set_num_threads(threads)
    return threads


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


# --- painting --------------------------------------------------------------------------------


@dataclass(frozen=True)
class GenerateRequest:
    """What `velatura generate` is told."""

    prompt: str
    negative: str = ""
    base: str = "pocket"
    loras: tuple[str, ...] = ()
    """FILE or NAME, with `:strength` behind it."""
    seed: int | None = None
    """None: drawn, and written down."""
    steps: int = 20
    cfg: float = 5.0
    sampler: str = "DPM++ 2M"
    scheduler: str = "Karras"
    width: int | None = None
    height: int | None = None
    count: int = 1
    batch: int = 4
    out: Path | None = None
    """Folder for the pictures; none: `images/` of the project, or of the current folder."""
    project: Path | None = None


def generate(request: GenerateRequest) -> Iterator[Event]:
    """Paint pictures and write each with its record, and a contact sheet where there are several.

    Raises:
        VelaturaError: a name resolves to nothing, a LoRA does not fit, the prompt has no meaning.
    """
    from velatura.family import load_base
    from velatura.generation.contact import contact_sheet
    from velatura.generation.generate import Job, Painted, Sampling
    from velatura.generation.generate import generate as paint
    from velatura.generation.record import infotext_of, used_loras
    from velatura.training.samples import merged

    project = request.project
    base = user.find_base(request.base, beside=project)
    set_threads(None)
    yield Progress("loading the base", 0, 1)
    model = load_base(base)
    yield Progress("loading the base", 1, 1)
    loras = used_loras(model, request.prompt, request.loras, project)
    sampling = Sampling(
        request.width or model.resolution, request.height or model.resolution,
        request.steps, request.cfg, request.sampler, request.scheduler,
    )  # fmt: skip
    seed = request.seed if request.seed is not None else int.from_bytes(os.urandom(4), "little")
    jobs = [Job(request.prompt, seed + place, request.negative) for place in range(request.count)]
    folder = make_folder(request.out or (project or Path.cwd()) / "images")
    images, names = [], []
    with merged(model, [lora.applied for lora in loras]):
        for event in paint(model, jobs, sampling, batch=request.batch):
            if isinstance(event, Painted):
                infotext, record = infotext_of(model, event.job, sampling, loras, batch=request.batch)
                images.append(event.image)
                names.append(free_name(folder, f"{event.job.seed}"))
                write_bytes(folder / names[-1], png(event.image, infotext, record))
                yield Preview(len(names), str(folder / names[-1]))
            else:
                yield event
    if len(images) > 1:
        names.append(free_name(folder, f"{seed}-sheet"))
        write_bytes(folder / names[-1], png(contact_sheet(images, columns=min(4, len(images)))))
    yield Done(len(images), {"folder": str(folder), "files": names, "seed": seed})


def free_name(folder: Path, stem: str) -> str:
    """A file name that is not taken: a user's picture is never overwritten."""
    number = 1
    while (folder / (name := f"{stem}.png" if number == 1 else f"{stem}-{number}.png")).exists():
        number += 1
    return name


def png(image: Any, infotext: str = "", record: dict[str, Any] | None = None) -> bytes:
    """A picture as PNG; with what made it, where that is given."""
    import io

    from velatura.generation.infotext import png_bytes

    if record is not None:
        return png_bytes(image, infotext, record)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
