"""What differs between two runs: settings, pictures, captions, environment, verdict. No torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from velatura.api.training.going_on import changes
from velatura.files import disk_problems
from velatura.run import Run, read_json, summary

ENVIRONMENT = ("velatura", "python", "torch", "diffusers", "transformers", "system", "device", "dtype", "threads")
"""What `provenance.json` says of where a run was made."""

VERDICT = ("step", "chosen", "reasons", "warnings")
"""What `result.json` says of a finished run."""


@dataclass(frozen=True)
class Differences:
    """Between a first and a second run; pairs are first and second, None where one has none."""

    settings: dict[str, tuple[Any, Any]]
    pictures: dict[str, tuple[str | None, str | None]]
    """Name -> how each run uses it: "train", "held out", "class", or that its content differs."""
    captions: dict[str, tuple[list[str], list[str]]]
    """Of pictures in both: as trained before, and after."""
    environment: dict[str, tuple[Any, Any]]
    verdict: dict[str, tuple[Any, Any]]
    """How each ended, said whether or not it differs."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def diff(one: Run, other: Run) -> Differences:
    """Compare two runs by what stands in their folders.

    Raises:
        RunError, RecipeError: a folder is damaged.
    """
    before, after = _pictures(one), _pictures(other)
    pictures: dict[str, tuple[str | None, str | None]] = {}
    captions = {}
    for name in sorted({*before, *after}):
        first, second = before.get(name), after.get(name)
        uses = (str(first["split"]) if first else None, str(second["split"]) if second else None)
        if first and second and first["sha256"] != second["sha256"]:
            pictures[name] = (uses[0], f"{uses[1]}, another picture")
        elif uses[0] != uses[1]:
            pictures[name] = uses
        if first and second and first["captions"] != second["captions"]:
            captions[name] = (list(first["captions"]), list(second["captions"]))
    made = (one.provenance, other.provenance)
    named = (*ENVIRONMENT, "base", "base_hash", "parent")
    environment = {key: (made[0].get(key), made[1].get(key)) for key in named if made[0].get(key) != made[1].get(key)}
    return Differences(changes(one.recipe, other.recipe), pictures, captions, environment, _verdicts(one, other))


def _verdicts(one: Run, other: Run) -> dict[str, tuple[Any, Any]]:
    ended = (_verdict(one), _verdict(other))
    return {key: (ended[0].get(key), ended[1].get(key)) for key in dict.fromkeys((*ended[0], *ended[1]))}


def _verdict(run: Run) -> dict[str, Any]:
    told = summary(run)
    found: dict[str, Any] = {"state": told.state, "steps": f"{told.step}/{told.steps}"}
    if not run.finished:
        return found
    result = read_json(run.path / "result.json")
    return found | {key: result[key] for key in VERDICT if result.get(key)} | _losses(run, result.get("step"))


def _losses(run: Run, step: Any) -> dict[str, Any]:
    """The held-out loss of the step that was chosen, as the evaluation has it."""
    if not (run.path / "evaluation.json").exists():
        return {}
    for checkpoint in read_json(run.path / "evaluation.json").get("checkpoints", []):
        if checkpoint.get("step") == step and isinstance(checkpoint.get("held_out"), dict):
            return {"held-out loss": checkpoint["held_out"].get("value")}
    return {}


def _pictures(run: Run) -> dict[str, dict[str, Any]]:
    path = run.path / "dataset.jsonl"
    with disk_problems(path):
        lines = path.read_text(encoding="utf-8").splitlines()
    return {one["name"]: one for one in map(json.loads, lines)}
