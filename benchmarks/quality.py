"""Time to quality on the pocket base: how soon Velatura reaches the held-out loss at which kohya's usual recipe ends.

    python benchmarks/quality.py [--steps 1600] [--tuned-on watercolour] [--styles ink neon mosaic]

The baseline is what kohya's trainer does when it is told a network of rank 16 and nothing else: AdamW, batch 1, a
constant rate, 1600 steps, its default layers (attention, feed-forward and projections of the UNet, attention and MLP of
the text encoder), carried over by `velatura recipe import` and trained by this program, as the base is its own. Its
learning rate is chosen first, on another style, out of four; how Velatura trains is chosen there out of eight, each
given half as long, so that both are chosen in as many seconds. What was chosen is then undone, a choice at a time, on
the last style.

Seconds are of the processor, of the training alone: encoding is the same for both, and the held-out loss is measured
between steps, off the clock. It is the loss of pictures kept out of training, as ln(loss / the base's).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from velatura import run as runs
from velatura import settings as user
from velatura.adapters.lora import inject
from velatura.api.inputs import read_objective, read_pictures, read_texts
from velatura.events import Progress
from velatura.family import Model, load_base
from velatura.foreign.reading import read
from velatura.pocket.styles.examples import draw_dataset
from velatura.recipe import Recipe, build
from velatura.training.adapter import specs
from velatura.training.data import Cached
from velatura.training.encoding import encode
from velatura.training.loop import train
from velatura.training.validation import HeldOut

KOHYA = "train_network.py --network_module networks.lora --network_dim 16 --network_alpha 16"
"""Everything else is as its trainer has it by default."""

ALIKE = (
    "base.model=pocket", "base.clip_skip=none", "dataset.path=dataset", "dataset.resolution=none",
    "dataset.hold_out=0.2", "train.seed=1", "checkpoints.every=1000000", "validation.every=1000000",
    "validation.strata=4", "validation.pictures=4",
)  # fmt: skip
"""Of both; nothing is measured or kept on the way."""

KOHYA_RATES = (5e-4, 1e-3, 2e-3, 4e-3)

OURS = ("adapter.rank=16", "adapter.alpha=16.0", "adapter.targets=['attention+mlp']", "train.batch=1",
        "train.schedule=linear", "objective.min_snr=0.0", "dataset.caption_dropout=0.0")  # fmt: skip
"""As the baseline, but that the text encoder is left alone and the rate falls to nothing at the last step."""

SHARE = 0.5
"""Steps of batch 1 of a candidate, of the baseline's: so that the rate has fallen when its seconds are over."""

CANDIDATES: dict[str, tuple[float, tuple[str, ...]]] = {
    "at 2e-3": (SHARE, ("train.learning_rate=2e-3",)),
    "at 4e-3": (SHARE, ("train.learning_rate=4e-3",)),
    "LoRA+ 4 at 2e-3": (SHARE, ("train.learning_rate=2e-3", "train.lora_plus=4.0")),
    "Riemannian at 2e-3": (SHARE, ("train.learning_rate=2e-3", "train.optimizer=riemannian")),
    "batch 2 at 3e-3": (0.7 * SHARE, ("train.learning_rate=3e-3", "train.batch=2")),
    "batch 4 at 4e-3": (0.5 * SHARE, ("train.learning_rate=4e-3", "train.batch=4")),
    "batch 4 at 4e-3, LoRA+ 2": (0.5 * SHARE, ("train.learning_rate=4e-3", "train.batch=4", "train.lora_plus=2.0")),
    "batch 4 at 8e-3": (0.5 * SHARE, ("train.learning_rate=8e-3", "train.batch=4")),
}
"""Steps as a share of the baseline's, and settings."""

TEXT = ("adapter.targets=['attention+mlp', 'text']",)

CONSTANT = ("train.schedule=constant",)

LOOKS = 20
"""Measurements of a training."""


@dataclass(frozen=True)
class Course:
    """The held-out loss as a training went on."""

    seconds: list[float]
    losses: list[float]

    def until(self, loss: float) -> float | None:
        """Seconds until it was as low; None: never."""
        return next((at for at, found in zip(self.seconds, self.losses, strict=True) if found <= loss), None)


def kohyas(folder: Path) -> Recipe:
    """The baseline, as `velatura recipe import` reads it."""
    path = folder / "kohya.txt"
    path.write_text(KOHYA, encoding="utf-8")
    return read(path).recipe


def course(model: Model, recipe: Recipe, project: Path, *, limit: float = math.inf, goal: float = -math.inf) -> Course:
    """Train, and measure now and then.

    Args:
        limit: seconds after which it ends.
        goal: loss at which it ends.
    """
    read_texts(model)
    read_objective(model, recipe)
    pictures = read_pictures(recipe, project, model)
    (cached,) = (one for one in encode(model, pictures.prepared) if isinstance(one, Cached))
    every = max(1, recipe.train.steps // LOOKS)
    found, spent = Course([], []), 0.0
    with (
        tempfile.TemporaryDirectory() as scratch,
        inject(model.trainable_parts, specs(recipe, model), seed=recipe.train.seed) as injected,
    ):
        held_out = HeldOut(model, injected, cached, recipe.validation)
        events = train(model, injected, cached, recipe, runs.Run(Path(scratch)), adapter_bytes=lambda *_: b"")
        begun = time.process_time()
        for event in events:
            if not isinstance(event, Progress) or event.done % every or event.done == recipe.train.steps:
                continue
            spent += time.process_time() - begun
            found.seconds.append(spent)
            found.losses.append(held_out.measure()["held_out"])
            if spent > limit or found.losses[-1] <= goal:
                break
            begun = time.process_time()
        events.close()  # type: ignore[attr-defined]
    return found


def drawn(folder: Path, style: str, pictures: int) -> Path:
    """A project of a style's pictures."""
    project = folder / style
    draw_dataset(project / "dataset", style, count=pictures, seed=1)
    return project


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1600, help="of the baseline")
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--tuned-on", default="watercolour")
    parser.add_argument("--styles", nargs="+", default=["ink", "neon", "mosaic"])
    parser.add_argument("--out", type=Path, help="courses, as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = load_base(user.find_base("pocket"))
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    courses: dict[str, Course] = {}
    steps = f"train.steps={given.steps}"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        baseline, own = tune(model, folder, drawn(folder, given.tuned_on, given.pictures), steps, courses)
        for style in given.styles:
            project = drawn(folder, style, given.pictures)
            goal, whole = compare(model, baseline, own, project, courses)
        without(model, own, project, courses, given.steps, goal=goal, whole=whole)
    if given.out:
        plain = {name: [one.seconds, one.losses] for name, one in courses.items()}
        given.out.write_text(json.dumps(plain), encoding="utf-8")


def tune(model: Model, folder: Path, project: Path, steps: str, courses: dict[str, Course]) -> tuple[Recipe, Recipe]:
    """The baseline and Velatura's way with the lowest losses, each chosen in as many seconds."""
    known, ends = kohyas(folder).model_dump(), {}
    for rate in KOHYA_RATES:
        recipe = build(known, [*ALIKE, steps, f"train.learning_rate={rate}", "train.text_learning_rate=none"])
        found = courses[f"kohya at {rate:g}"] = course(model, recipe, project)
        ends[rate] = found.losses[-1], recipe
        print(f"{project.name}, kohya at {rate:g}: {shown(found)}", flush=True)
    baseline = min(ends.values(), key=lambda end: end[0])[1]
    limit, ways = found.seconds[-1] * len(ends) / len(CANDIDATES), {}
    for name, (share_of_steps, overrides) in CANDIDATES.items():
        own = f"train.steps={round(share_of_steps * baseline.train.steps)}"
        recipe = build({}, [*ALIKE, *OURS, own, *overrides])
        found = courses[name] = course(model, recipe, project, limit=limit)
        ways[name] = min(found.losses), recipe
        print(f"{project.name}, {name}: {shown(found)}", flush=True)
    best = min(ways, key=lambda name: ways[name][0])
    print(f"chosen: kohya at {baseline.train.learning_rate:g}, {best}", flush=True)
    return baseline, ways[best][1]


def compare(
    model: Model, baseline: Recipe, own: Recipe, project: Path, courses: dict[str, Course]
) -> tuple[float, float]:
    """Both on a style; the loss at which the baseline ends, and its seconds."""
    theirs = courses[f"kohya {project.name}"] = course(model, baseline, project)
    goal, whole = theirs.losses[-1], theirs.seconds[-1]
    found = courses[f"ours {project.name}"] = course(model, own, project, limit=whole, goal=goal)
    print(
        f"{project.name}: kohya's ends at {goal:.4f} after {whole:.1f} s (its lowest, {min(theirs.losses):.4f}, after"
        f" {theirs.until(min(theirs.losses)):.1f} s); here that is reached after {share(found, goal, whole)}",
        flush=True,
    )
    return goal, whole


def without(
    model: Model, own: Recipe, project: Path, courses: dict[str, Course], steps: int, *, goal: float, whole: float
) -> None:
    """Each choice undone on the last style."""
    undone: dict[str, tuple[str, ...]] = {"with the text encoder": TEXT, "at a constant rate": CONSTANT}
    if own.train.batch > 1:
        single = round(SHARE * steps)
        undone["with batch 1"] = ("train.batch=1", f"train.steps={single}")
    if own.train.optimizer != "adamw" or own.train.lora_plus != 1:
        undone["with plain AdamW"] = ("train.optimizer=adamw", "train.lora_plus=1.0")
    for name, overrides in undone.items():
        found = courses[name] = course(model, build(own.model_dump(), overrides), project, limit=whole, goal=goal)
        print(f"{project.name}, {name}: {share(found, goal, whole)}", flush=True)


def share(found: Course, goal: float, whole: float) -> str:
    """How soon a loss was reached, in words."""
    reached = found.until(goal)
    return f"never in {whole:.1f} s" if reached is None else f"{reached:.1f} s, {reached / whole:.2f} of it"


def shown(found: Course) -> str:
    """A course in words."""
    return f"{found.losses[-1]:.4f} after {found.seconds[-1]:.1f} s, at best {min(found.losses):.4f}"


if __name__ == "__main__":
    main()
