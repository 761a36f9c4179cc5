"""Judging a run: the protocol, the choice, the report, and the chosen adapter put where it is found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura import bases
from velatura import run as runs
from velatura.api.inputs import (
    base_of,
    check_unchanged,
    read_objective,
    read_pictures,
    read_texts,
    set_threads,
    unread,
)
from velatura.api.memory import chosen
from velatura.errors import RunError
from velatura.events import Done, Event, Note
from velatura.files import make_folder, sha256, write_bytes, write_text
from velatura.recipe import Recipe

if TYPE_CHECKING:
    from velatura.evaluation.choose import Choice
    from velatura.evaluation.results import Results
    from velatura.family import Model
    from velatura.training.data import Cached
    from velatura.training.dataset import Pictures


def evaluate(path: Path) -> Iterator[Event]:
    """Judge a finished run again.

    Raises:
        RunError: this is no run, it has no checkpoint yet, or its pictures or base have changed.
    """
    from velatura.family import load_base
    from velatura.training.data import Cached
    from velatura.training.encoding import encode

    run = runs.open_run(path.resolve())
    if not run.checkpoints():
        raise RunError("this run has no checkpoint yet", where=run.path.name, fix="train it first")
    recipe, project = run.recipe, run.path.parent.parent
    set_threads(recipe.train.threads)
    yield from bases.fetched(recipe.base.model, beside=project)
    base = base_of(recipe, project)
    memory = chosen(base, recipe.memory, task="paint")
    model = load_base(base, policy=memory.policy, strict=recipe.base.strict)
    for note in (*memory.warnings, *model.notes):
        yield Note(note)
    read_texts(model, clip_skip=recipe.base.clip_skip)
    read_objective(model, recipe)
    pictures = read_pictures(recipe, project, model)
    check_unchanged(run, pictures, model)
    for sentence in unread(model.readers, recipe, pictures):
        yield Note(sentence)
    with runs.lock(run):
        for event in encode(model, pictures.prepared, masked=recipe.objective.masked_loss, turned=False):
            if isinstance(event, Cached):
                yield from judge(model, recipe, pictures, event, run, project)
            else:
                yield event


def judge(
    model: Model, recipe: Recipe, pictures: Pictures, cached: Cached, run: runs.Run, project: Path
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
    if recipe.word.tokens:
        keep_word(run, model, chosen.adapter)
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


def keep_word(run: runs.Run, model: Model, adapter: Path) -> None:
    """Put the learned word of an adapter into the run's `embedding/`, for programs that read no words out of a LoRA."""
    from velatura.text.embeddings import to_bytes
    from velatura.training.samples import read_adapter

    for word, vectors in read_adapter(model, adapter).embeddings.items():
        write_bytes(make_folder(run.path / "embedding") / f"{word}.safetensors", to_bytes(vectors))


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
    measured = [event for event in run.events() if isinstance(event, Metric)]
    losses = [(event.step, event.values["loss"]) for event in measured if "loss" in event.values]
    curves = (
        [Curve("Training loss", [Series("loss", [step for step, _ in losses], [value for _, value in losses])])]
        if losses
        else []
    )
    return report_page(results, choice, pictures=pictures, title=run.recipe.name, curves=curves, **sections)
