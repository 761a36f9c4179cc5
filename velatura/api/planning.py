"""What a recipe comes to, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from velatura import bases
from velatura import recipe as recipes
from velatura.api.inputs import base_of, project_of, readers_of, unread
from velatura.api.memory import chosen


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
    memory: dict[str, Any] = field(default_factory=dict)
    """The policy: device, precisions, and what saves memory."""
    reasons: list[str] = field(default_factory=list)
    """Why the policy is as it is."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def plan(path: Path, *, overrides: Iterable[str] = ()) -> Plan:
    """Steps, epochs and buckets of a recipe, and what is unwise in it; loads no weights."""
    from velatura.training.dataset import counted, read, steps_of
    from velatura.weights.policy import written

    recipe = recipes.load(path, overrides)
    project = project_of(path)
    base = base_of(recipe, project, fetch=False)
    resolution = recipe.dataset.resolution or bases.resolution(base)
    memory = chosen(base, recipe.memory, task="train")
    pictures = read(recipe, project, resolution=resolution)
    recipe = counted(recipe, pictures)
    per_epoch = len(steps_of(recipe, pictures.epoch, epoch=0))
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
        memory=written(memory.policy).model_dump(),
        reasons=list(memory.reasons),
        notes=[*memory.warnings, *pictures.notes, *unread(readers_of(base), recipe, pictures)],
    )
