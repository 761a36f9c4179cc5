"""What a recipe comes to, before anything runs."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura import bases
from velatura import recipe as recipes
from velatura.api.inputs import base_of, project_of, readers_of, unread
from velatura.api.memory import chosen
from velatura.bases import FAMILIES, BaseFiles
from velatura.recipe import Recipe

if TYPE_CHECKING:
    from velatura.training.cost import Calibration, Case
    from velatura.training.dataset import Pictures
    from velatura.weights.policy import Choice

PAINTED_WITH = 2
"""Predictions of a sampling step with guidance."""

HEADER = 50_000
"""Bytes of an adapter's file that say what its numbers are, about."""

STATE = {"adamw": 3, "schedule_free": 3, "riemannian": 3, "prodigy": 5, "lion": 2, "adamw8bit": 2, "adafactor": 1}
"""Numbers that a checkpoint's state holds for each trained one."""


@dataclass(frozen=True)
class BucketPlan:
    """One size of an epoch."""

    pictures: int
    samples: int
    """Pictures as often as they are repeated."""
    batches: int
    short: int
    """How many of the batches are not full."""


@dataclass(frozen=True)
class Estimate:
    """What a training is expected to take on this machine."""

    step_seconds: float
    """By the clock, of a mean step."""
    training_seconds: float
    preparing_seconds: float
    """To encode the pictures."""
    painting_seconds: float
    """To paint sample pictures, and those by which checkpoints are compared."""
    error: float
    """Share by which a step's time was missed where it was checked."""
    memory_bytes: int | None
    """The most that training holds on the device; None where it could not be measured."""
    memory_error: float | None
    busy: float
    """Seconds by the clock for each second of computing, when it was measured: above 1 where others computed too."""
    pace: float
    """Seconds of the processor's yardstick by which the seconds are told; 0: another device computes."""
    measured: str
    """The day."""
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of everything."""
        return self.training_seconds + self.preparing_seconds + self.painting_seconds


@dataclass(frozen=True)
class Plan:
    """What a recipe comes to, before anything runs."""

    steps: int
    batch: int
    accumulation: int
    pictures: int
    held_out: int
    steps_per_epoch: int
    epochs: float
    images: int
    """Seen in the whole training, each as often as it is."""
    buckets: dict[str, BucketPlan]
    checkpoints: int
    trained: int
    """Numbers that are trained."""
    disk: dict[str, int]
    """Bytes of an adapter's file, of a checkpoint's state, and of all checkpoints that are kept."""
    estimate: Estimate | None = None
    """None where nothing has been measured on this machine; `velatura plan --probe` does."""
    warnings: list[str] = field(default_factory=list)
    """What is unwise."""
    notes: list[str] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    """The policy: device, precisions, and what saves memory."""
    reasons: list[str] = field(default_factory=list)
    """Why the policy is as it is."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def plan(path: Path, *, overrides: Iterable[str] = ()) -> Plan:
    """Steps, epochs, buckets, cost and sizes of a recipe, and what is unwise in it; loads no weights."""
    from velatura.training.dataset import counted, read
    from velatura.weights.policy import written

    recipe = recipes.load(path, overrides)
    project = project_of(path)
    base = base_of(recipe, project, fetch=False)
    resolution = recipe.dataset.resolution or bases.resolution(base)
    memory = chosen(base, recipe.memory, task="train")
    pictures = read(recipe, project, resolution=resolution)
    recipe = counted(recipe, pictures)
    epoch = _epoch(recipe, pictures, 0)
    steps = recipe.train.steps
    checkpoints, samples = _rhythm(recipe, len(epoch))
    denoiser, text = _trained(recipe, base)
    images = _images(recipe, pictures, len(epoch))
    estimate = _estimate(recipe, base, memory, pictures, epoch, (denoiser, text), (checkpoints, samples), resolution)
    return Plan(
        steps=steps,
        batch=recipe.train.batch,
        accumulation=recipe.train.accumulation,
        pictures=len(pictures.train),
        held_out=len(pictures.held_out),
        steps_per_epoch=len(epoch),
        epochs=round(steps / len(epoch), 2),
        images=images,
        buckets=_buckets(recipe, pictures, epoch),
        checkpoints=checkpoints,
        trained=denoiser + text,
        disk=_disk(recipe, denoiser + text, checkpoints),
        estimate=estimate,
        warnings=list(_unwise(recipe, base, memory, pictures, images, estimate)),
        memory=written(memory.policy).model_dump(),
        reasons=list(memory.reasons),
        notes=[*memory.warnings, *pictures.notes, *unread(readers_of(base), recipe, pictures)],
    )


def _epoch(recipe: Recipe, pictures: Pictures, number: int) -> Sequence[Sequence[Sequence[int]]]:
    """The steps of an epoch, each of micro-batches of pictures."""
    from velatura.training.dataset import steps_of

    return steps_of(recipe, pictures.epoch, epoch=number)


def _rhythm(recipe: Recipe, per_epoch: int) -> tuple[int, int]:
    """How many checkpoints are kept, and at how many of them samples are painted."""
    from velatura.training.due import Due

    due = Due(recipe, per_epoch)
    every = range(1, recipe.train.steps + 1)
    return sum(map(due.checkpoint, every)), sum(map(due.sample, every))


def _images(recipe: Recipe, pictures: Pictures, per_epoch: int) -> int:
    """Pictures seen: those of whole epochs, and of the steps of the last."""
    whole, rest = divmod(recipe.train.steps, per_epoch)
    everything = sum(len(bucket.pictures) for bucket in pictures.epoch)
    last = _epoch(recipe, pictures, whole)[:rest] if rest else []
    return whole * everything + sum(len(micro) for step in last for micro in step)


def _buckets(recipe: Recipe, pictures: Pictures, epoch: Sequence[Sequence[Sequence[int]]]) -> dict[str, BucketPlan]:
    """How the pictures of an epoch, those of the class too, fall into sizes and batches."""
    sizes = {index: bucket.size for bucket in pictures.epoch for index in bucket.pictures}
    micros = [micro for step in epoch for micro in step]
    batches = Counter(sizes[micro[0]] for micro in micros)
    short = Counter(sizes[micro[0]] for micro in micros if len(micro) < recipe.train.batch)
    return {
        f"{bucket.size[0]}x{bucket.size[1]}": BucketPlan(
            len(set(bucket.pictures)), len(bucket.pictures), batches[bucket.size], short[bucket.size]
        )
        for bucket in sorted(pictures.epoch, key=lambda bucket: bucket.size)
    }


def _trained(recipe: Recipe, files: BaseFiles) -> tuple[int, int]:
    """Numbers that are trained beside the denoiser and beside text encoders, from headers alone."""
    from velatura.families.names import layers_of
    from velatura.family import family
    from velatura.training.adapter import of_text, planned, trained_numbers

    base = bases.locate(files)
    known = {name: shape for name, shape in layers_of(base).items() if len(shape) > 1}  # norms are not adapted
    counts = {True: 0, False: 0}
    for spec in planned(recipe, known, family(base.variant.family)):
        counts[of_text(spec.name)] += trained_numbers(spec, known[spec.name])
    return counts[False], counts[True]


def _disk(recipe: Recipe, trained: int, checkpoints: int) -> dict[str, int]:
    """Bytes of what the run writes: adapters in 16 bits, the optimizer's state beside what it is of in fp32."""
    adapter = 2 * trained + HEADER
    state = 4 * trained * STATE[recipe.train.optimizer] + HEADER
    kept = min(recipe.checkpoints.keep_state, checkpoints)
    return {"adapter": adapter, "state": state, "run": checkpoints * adapter + kept * state}


def _estimate(
    recipe: Recipe,
    base: BaseFiles,
    memory: Choice,
    pictures: Pictures,
    epoch: Sequence[Sequence[Sequence[int]]],
    trained: tuple[int, int],
    rhythm: tuple[int, int],
    resolution: int,
) -> Estimate | None:
    """What was measured on this machine, as it applies to the recipe; None where nothing was."""
    from velatura.api.training.calibrating import known
    from velatura.training.cost import Case

    found, differences = known(base, recipe, memory.policy)
    if found is None:
        return None
    sizes = {index: bucket.size for bucket in pictures.epoch for index in bucket.pictures}
    cases = Counter((sizes[micro[0]][0] * sizes[micro[0]][1], len(micro)) for step in epoch for micro in step)

    def case(pixels: int, batch: int) -> Case:
        return Case(pixels, batch, *trained, memory.policy.checkpointing, recipe.train.optimizer)

    costs = {one: found.cost(case(*one)) for one in cases}
    step = sum(costs[one].seconds * count for one, count in cases.items()) / len(epoch)
    seen = [one.bucket for one in (*pictures.prepared, *pictures.regularisation)]
    preparing = sum(width * height for width, height in seen) * found.encode * found.busy
    notes = [f"measured with {difference}; --probe measures anew" for difference in differences]
    if any(cost.far for cost in costs.values()):
        notes.append("these pictures are much larger than any that was measured, so the estimate is rough")
    largest = [cost.bytes for cost in costs.values() if cost.bytes is not None]
    return Estimate(
        step,
        step * recipe.train.steps,
        preparing,
        _painting(recipe, base, pictures, found, rhythm, resolution),
        found.error,
        max(largest, default=None),
        found.memory_error,
        found.busy,
        found.pace,
        found.on,
        notes,
    )


def _painting(
    recipe: Recipe, files: BaseFiles, pictures: Pictures, found: Calibration, rhythm: tuple[int, int], resolution: int
) -> float:
    """Seconds to paint the samples, and the pictures by which checkpoints and base are compared.

    Args:
        rhythm: how many checkpoints are kept, and at how many of them samples are painted.
    """
    from velatura.evaluation.protocol import exam

    configuration = importlib.import_module(f"{FAMILIES[bases.locate(files).variant.family]}.configuration")
    usual = int(getattr(configuration, "SAMPLING_STEPS", 20))
    steps = recipe.samples.sampling_steps or usual
    pixels = resolution * resolution
    picture = steps * found.predicting(pixels, PAINTED_WITH) + pixels * found.decode * found.busy
    checkpoints, samples = rhythm
    painted = recipe.samples.count * samples + len(exam(recipe, pictures).jobs) * (checkpoints + 1)
    return painted * picture


def _unwise(
    recipe: Recipe,
    files: BaseFiles,
    memory: Choice,
    pictures: Pictures,
    images: int,
    estimate: Estimate | None,
) -> Iterator[str]:
    from velatura.doctor.devices import devices
    from velatura.training import unwise

    own = sum(one.repeats for one in pictures.train)
    everything = sum(len(bucket.pictures) for bucket in pictures.epoch)
    yield from unwise.steps(recipe.train.steps, images * own // max(everything, 1), len(pictures.train))
    yield from unwise.rate(recipe, small="the base is small" in " ".join(memory.reasons))
    yield from unwise.buckets(pictures.buckets, recipe.train.batch)
    if recipe.dataset.triggers:
        base = bases.locate(files)
        configuration, tokens = (
            importlib.import_module(f"{FAMILIES[base.variant.family]}.{name}") for name in ("configuration", "tokens")
        )
        count = tokens.tokenizers(base, configuration.read(base))[0].count
        for trigger in recipe.dataset.triggers:
            yield from unwise.trigger(trigger, count)
    device = next(one for one in devices() if one.kind == memory.policy.device)
    needed = estimate.memory_bytes if estimate else None
    yield from unwise.memory(needed, device.total, device.free, graphics=device.kind == "cuda")
