"""What a training is to do: begin, go on, go on for longer, or begin where another run stood. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velatura import recipe as recipes
from velatura import run as runs
from velatura import tensorfile
from velatura.api import inputs
from velatura.errors import RecipeError, RunError
from velatura.recipe import Recipe
from velatura.training.due import exhausted

HARMLESS = ("samples.", "validation.", "tracking.", "checkpoints.every", "checkpoints.every_epochs", "checkpoints.keep")
"""Beginnings of settings that change nothing of what is trained, so that a run may be told them on its way."""


IN_STATE = ("train.optimizer", "train.ema", "checkpoints.average")
"""Settings of what the optimizer's state holds."""


@dataclass(frozen=True)
class Parent:
    """The checkpoint of another run that a run begins with."""

    run: runs.Run
    checkpoint: runs.CheckpointFolder
    weights_only: bool

    @property
    def record(self) -> dict[str, Any]:
        """As it stands in the child's provenance."""
        made = runs.read_json(self.checkpoint.path / "manifest.json")["sha256"]["adapter.safetensors"]
        told = {"run": self.run.path.name, "step": self.checkpoint.step, "adapter": made}
        return {"parent": told | {"weights_only": self.weights_only}}


@dataclass(frozen=True)
class Task:
    """What is to be trained, and where it goes on."""

    recipe: Recipe
    project: Path
    run: runs.Run | None = None
    """To go on with."""
    retold: bool = False
    """The run is told other settings than before."""
    parent: Parent | None = None


def read(
    path: Path,
    overrides: Sequence[str],
    *,
    new: bool = False,
    more: int = 0,
    start: str = "",
    weights_only: bool = False,
) -> Task:
    """What a command line asks for.

    Raises:
        RecipeError: the settings are wrong, or a run cannot go on with them.
        RunError: the run or its checkpoint is not there, or is not what this needs.
    """
    if not (path / "provenance.json").exists():
        if more or start or weights_only:
            raise RecipeError(
                "only a run can be gone on from", where=path, fix="name it: `velatura train runs/0001-...`"
            )
        return Task(recipes.load(path, overrides), project_of(path))
    run, project = runs.open_run(path.resolve()), project_of(path)
    if start:
        return _child(run, project, overrides, start, weights_only=weights_only)
    if new or weights_only:
        fix = "train the recipe with --new, or add --from STEP"
        raise RecipeError("a run is gone on with as it is", where=path, fix=fix)
    recipe = _retold(run, overrides)
    if more:
        recipe = _lengthened(run, recipe, more)
    return Task(recipe, project, run, retold=recipe != run.recipe)


def project_of(path: Path) -> Path:
    """The project that a recipe, a folder or a run belongs to."""
    if (path / "provenance.json").exists():
        return path.resolve().parent.parent
    return inputs.project_of(path)


def changes(one: Recipe, other: Recipe) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, by their full names: both values."""
    first, second = (_flat(recipe.model_dump()) for recipe in (one, other))
    keys = dict.fromkeys((*first, *second))
    return {key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value and not key.endswith("_settings"):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _retold(run: runs.Run, overrides: Sequence[str]) -> Recipe:
    """A run's recipe with settings that change nothing of what it trains."""
    before = run.recipe
    recipe = recipes.build(before.model_dump(), overrides)
    for key in changes(before, recipe):
        averages = before.checkpoints.average > 1 and key.startswith("checkpoints.every")
        if averages or not key.startswith(HARMLESS):
            raise RecipeError(
                f"{key} decides what this run trains, and it has begun",
                where=run.path.name,
                fix=f"start another with it: --from step-N --set {key}=...",
            )
    return recipe


def _lengthened(run: runs.Run, recipe: Recipe, more: int) -> Recipe:
    """A recipe for so many steps more, each part with its own course of the learning rate."""
    if more < 0:
        raise RecipeError("--more is a number of steps", fix="write --more 500")
    last = _checkpoint(run, None)
    if exhausted(measured(last), recipe.validation.patience):
        raise RunError(
            f"this run has stopped by itself at step {last.step}",
            where=run.path.name,
            fix="add --set validation.patience=0",
        )
    train = recipe.train
    longer = {"steps": train.steps + more, "lengthened": [*train.lengthened, train.steps]}
    return recipe.model_copy(update={"train": train.model_copy(update=longer)})


def _child(run: runs.Run, project: Path, overrides: Sequence[str], start: str, *, weights_only: bool) -> Task:
    """A recipe that begins where a run stood at a step."""
    checkpoint = _checkpoint(run, start)
    before = run.recipe
    if weights_only:
        adapter = checkpoint.adapter.relative_to(project).as_posix()
        overrides = [f"train.init_from={json.dumps(adapter)}", "train.lengthened=[]", *overrides]
    recipe = recipes.build(before.model_dump(), overrides)
    if not weights_only:
        if not checkpoint.state.exists():
            raise RunError(
                f"the optimizer's state of {checkpoint.path.name} is no longer kept",
                where=run.path.name,
                fix="add --weights-only, or keep more with checkpoints.keep_state",
            )
        told = changes(before, recipe)
        unfit = next((key for key in told if key.startswith(("adapter.", "base.")) or key in IN_STATE), None)
        if unfit:
            raise RecipeError(
                f"the optimizer's state of {run.path.name} does not fit another {unfit}",
                where=checkpoint.path.name,
                fix="add --weights-only, which begins with its weights alone",
            )
        if recipe.train.steps <= checkpoint.step:
            fix = f"set train.steps to more than {checkpoint.step}, or add --weights-only"
            raise RecipeError(f"{recipe.train.steps} steps are over at {checkpoint.path.name}", fix=fix)
    return Task(recipe, project, parent=Parent(run, checkpoint, weights_only))


def _checkpoint(run: runs.Run, name: str | None) -> runs.CheckpointFolder:
    """A checkpoint by its name or number, or the newest."""
    known = {one.path.name: one for one in run.checkpoints()}
    if not known:
        raise RunError("this run has no checkpoint yet", where=run.path.name, fix="train it first")
    wanted = list(known)[-1] if name is None else f"step-{int(name):06d}" if name.isdigit() else name
    if wanted not in known:
        raise RunError(f"this run has no checkpoint {wanted}", where=run.path.name, fix=f"it has {', '.join(known)}")
    return known[wanted]


def measured(checkpoint: runs.CheckpointFolder) -> list[float]:
    """The held-out losses up to a checkpoint; none where its state is no longer kept."""
    if not checkpoint.state.exists():
        return []
    told = json.loads(tensorfile.read_header(checkpoint.state).metadata.get("remembered", "{}"))
    return list(told.get("held_out", []))
