"""Everything measured of a run, checkpoint by checkpoint: what `evaluation.json` holds.

Facts only, no verdict: `choose` reads this and may be asked again with other tastes. What was not measured
is None, and `not_measured` says why. Paths are relative to the run folder, with forward slashes, so that the
file tells nothing of the machine it was made on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pydantic import TypeAdapter, ValidationError

from velatura.errors import RunError
from velatura.evaluation.copies import CopyCheck
from velatura.evaluation.diversity import Diversity
from velatura.evaluation.heldout import HeldOutLoss, Reliance
from velatura.evaluation.separability import Separability
from velatura.evaluation.style import StyleScore

FORMAT = 1


def _relative(path: str) -> str:
    """The path, if it stays inside the run folder.

    Raises:
        ValueError: it is absolute, climbs out, or is written with back slashes.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in path or not pure.parts:
        raise ValueError(f"a path in the results is relative with forward slashes, got {path!r}")
    return path


@dataclass(frozen=True)
class Sample:
    """A picture: generated, or real."""

    path: str
    caption: str
    """The prompt, or the caption of a real picture."""
    seed: int | None = None
    nearest: str | None = None
    """Path of the training picture most like it."""
    likeness: float | None = None
    """To that picture, by the detector that speaks most clearly; 1 is the same."""
    copied: bool = False
    """A suspected copy."""

    def __post_init__(self) -> None:
        """Refuse paths that leave the run folder."""
        _relative(self.path)
        if self.nearest is not None:
            _relative(self.nearest)


@dataclass(frozen=True)
class CheckpointResult:
    """One checkpoint, measured."""

    step: int
    """Optimizer step."""
    path: str
    """The checkpoint's folder."""
    held_out: HeldOutLoss | None = None
    training: HeldOutLoss | None = None
    """The same measurement on as many training pictures."""
    style: StyleScore | None = None
    reliance: Reliance | None = None
    separability: Separability | None = None
    diversity: Diversity | None = None
    copies: CopyCheck | None = None
    overbake: float | None = None
    leak: float | None = None
    """Share of the effect that stays without the trigger word; a fact, no fault, for a style."""
    broken: int = 0
    """Generated pictures that show nothing."""
    samples: tuple[Sample, ...] = ()
    """In the same order of prompts and seeds for every checkpoint and for the base."""
    not_measured: dict[str, str] = field(default_factory=dict)
    """Field -> why it is None."""

    def __post_init__(self) -> None:
        """Refuse a path that leaves the run folder."""
        _relative(self.path)

    @property
    def style_score(self) -> float | None:
        """0 is the base, 1 real pictures."""
        return None if self.style is None else self.style.score

    @property
    def adherence(self) -> float | None:
        """How well prompts are still followed, as a share of the base model's, in [0, 1]: the mean of text
        reliance and separability, or the one that was measured."""
        shares = [one.share for one in (self.reliance, self.separability) if one is not None]
        known = [min(share, 1.0) for share in shares if share is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class BaseResult:
    """The base model on the same prompts and seeds."""

    name: str
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class Results:
    """A run, judged on one fixed protocol."""

    base: BaseResult
    checkpoints: tuple[CheckpointResult, ...]
    """By step."""
    held_out: tuple[Sample, ...] = ()
    """Real pictures that training never saw."""
    training_count: int = 0
    """Pictures trained on."""
    seeds_per_prompt: int = 1
    """Generated pictures come prompt by prompt, this many of each."""
    colour_spread: float | None = None
    """Of the training pictures beside the base model's: a set of one hue cannot be told apart by colour."""
    settings: dict[str, str] = field(default_factory=dict)
    """How the run was made and judged, for the report: name -> value in words."""
    not_measured: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Refuse checkpoints out of order."""
        steps = [one.step for one in self.checkpoints]
        if steps != sorted(set(steps)):
            raise ValueError(f"checkpoints come in the order of their steps, each once, got {steps}")

    def at(self, step: int) -> CheckpointResult:
        """The checkpoint of this step.

        Raises:
            KeyError: there is none.
        """
        for checkpoint in self.checkpoints:
            if checkpoint.step == step:
                return checkpoint
        raise KeyError(step)


_ADAPTER = TypeAdapter(Results)


def to_json(results: Results) -> str:
    """The text of `evaluation.json`."""
    return _ADAPTER.dump_json(results, indent=1).decode() + "\n"


def from_json(text: str | bytes, *, where: object = None) -> Results:
    """Read `evaluation.json`.

    Raises:
        RunError: the text is not such a file, or is of a newer format.
    """
    try:
        results = _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the beginning"
        raise RunError(
            f"the evaluation cannot be read: {first['msg']} at {place}",
            where=where,
            fix="run `velatura evaluate` again",
        ) from error
    if results.format > FORMAT:
        raise RunError(
            f"the evaluation is of format {results.format}, this version reads up to {FORMAT}",
            where=where,
            fix="use a newer version of velatura",
        )
    return results
