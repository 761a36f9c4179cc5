"""What the demo's training makes of each demo style: likeness, content kept, seconds.

    python benchmarks/styles.py                         all twelve, about four minutes each on one core
    python benchmarks/styles.py --styles pencil,neon    some
    python benchmarks/styles.py --steps 40 --prompts 8  a quick look

For each style: pictures are drawn as the demo draws them, trained on with the demo's settings in a project
of their own, judged as every run is; then prompts of the vocabulary are painted with the chosen checkpoint
and read by the oracle, beside the base's pictures of the same prompts and seeds. Colours are not asked of
styles that have none. Writes `styles.json` and `styles.png`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from oracle import VERSION, Oracle, load_oracle, own_error
from PIL import Image
from pocket import Exam, draw_prompts, examine
from questions import kept, percent, table
from sheets import write_png

from velatura import api, demo
from velatura import settings as user
from velatura.adapters.merge import Applied
from velatura.errors import SettingsError, VelaturaError
from velatura.evaluation import results as judged
from velatura.evaluation.copies import likeness
from velatura.events import Checkpoint, Event, Metric, Preview, Progress
from velatura.family import Model, load_base
from velatura.files import make_folder, write_text
from velatura.generation.contact import contact_sheet
from velatura.generation.sampling import Sampling
from velatura.pocket.scene import Scene
from velatura.pocket.styles import STYLES
from velatura.pocket.styles.examples import draw_dataset
from velatura.recipe import build, to_toml
from velatura.run import Run, runs_of
from velatura.training.samples import read_adapter

SHOWN = 6
"""Generated pictures of each style in the grid."""
COPIES = 24
"""Pictures looked at for copies, generated and freshly drawn."""
OTHERS = 500
"""Added to the seed of the pictures trained on, for drawings that nobody has trained on."""
DRAWN = 2
"""Pictures trained on, beside them."""


@dataclass(frozen=True)
class Figures:
    """What was measured of one style."""

    style: str
    step: int
    """Of the checkpoint chosen."""
    recommended: bool
    """Whether the judgement recommends it; if not, it is the last one."""
    score: float | None
    """0 is the base, 1 real pictures."""
    object_kept: float
    """The share of the base's right objects."""
    content_kept: float
    """The same of object and colour at once; of objects where the style has no colours."""
    closer: int
    """Of 24 generated pictures, how many are more like a training picture than any of 24 fresh drawings is."""
    likeness: dict[str, tuple[float, float]]
    """Detector of copies -> greatest likeness to a training picture: of generated pictures, of fresh drawings."""
    readable: float
    """The share of drawn pictures of the style whose content the oracle reads right: what can be had at most."""
    training_seconds: float
    training_cpu_seconds: float
    seconds: float
    """Everything that `velatura train` does: loading, training, samples, judging."""


def main() -> None:
    """The command."""
    given = _arguments()
    if given.threads:
        torch.set_num_threads(given.threads)
    names = [name.strip() for name in given.styles.split(",")] if given.styles else list(STYLES)
    for name in names:
        if name not in STYLES:
            raise SettingsError(f"there is no demo style {name}", fix=f"choose among {', '.join(STYLES)}")
    oracle, model = load_oracle(), load_base(user.find_base(given.base))
    samples = demo.SETTINGS["samples"]
    sampling = Sampling(model.resolution, model.resolution, 20, samples["cfg_scale"])
    scenes = draw_prompts(given.prompts, unseen=0.25)
    base = examine(model, oracle, scenes, sampling)
    measured, rows = [], []
    for name in names:
        with tempfile.TemporaryDirectory() if given.keep is None else nullcontext(given.keep / name) as project:
            figures, exam = measure(Path(project), name, given, model, oracle, scenes, base, sampling)
            rows.append(_row(Path(project), exam))
        measured.append(figures)
        print(f"{name}: {figures.seconds:.0f} seconds, content kept {percent(figures.content_kept)} %", file=sys.stderr)
    out = make_folder(given.out)
    write_text(out / "styles.json", json.dumps(_as_json(model, given, base, measured), indent=1) + "\n")
    write_png(out / "styles.png", _grid(names, rows, base))
    print(style_table(measured))
    print(f"\nwritten to {out}")


def measure(
    project: Path,
    name: str,
    given: argparse.Namespace,
    model: Model,
    oracle: Oracle,
    scenes: list[Scene],
    base: Exam,
    sampling: Sampling,
) -> tuple[Figures, Exam]:
    """Draw, train, judge, paint and read one style; a project that is finished already is only read."""
    style = STYLES[name]
    if not (project / "recipe.toml").exists():
        draw_dataset(make_folder(project / "dataset"), name, count=given.pictures, seed=given.seed)
        train = {**demo.SETTINGS["train"], "seed": given.seed}
        told = {**demo.SETTINGS, "name": name, "train": train, "base": {"model": str(user.find_base(given.base))}}
        write_text(project / "recipe.toml", to_toml(build(told)))
    overrides = [f"train.steps={given.steps}"] if given.steps else []
    spent = clocked(api.train(project, overrides=overrides))
    run = [one for one in runs_of(project) if one.finished][-1]
    result = json.loads((run.path / "result.json").read_text(encoding="utf-8"))
    found = judged.from_json((run.path / "evaluation.json").read_bytes(), where=run.path.name)
    step = result["step"] if result["step"] is not None else found.checkpoints[-1].step
    layers = read_adapter(model, project / result["lora"]).layers
    lora = Applied(layers, given.strength, given.strength)
    exam = examine(model, oracle, scenes, sampling, trigger=style.trigger, lora=lora)
    before, after = base.rates(), exam.rates()
    content = "object and colour" if style.coloured else "object"
    closer, likest = copied(project, run, name, given.seed, exam)
    training, training_cpu = spent.get("training", (math.nan, math.nan))
    figures = Figures(
        name,
        step,
        result["chosen"],
        found.at(step).style_score,
        kept(after["object"], before["object"]),
        kept(after[content], before[content]),
        closer,
        likest,
        1 - own_error()[name][content],
        round(training, 1),
        round(training_cpu, 1),
        round(sum(wall for wall, _ in spent.values()), 1),
    )
    return figures, exam


def copied(project: Path, run: Run, name: str, seed: int, exam: Exam) -> tuple[int, dict[str, tuple[float, float]]]:
    """How like generated pictures are to the training pictures, against fresh drawings in the same style.

    Returns:
        How many generated pictures are more like a training picture than any fresh drawing is, by some detector;
        and per detector the greatest likeness of both.
    """
    lines = (run.path / "dataset.jsonl").read_text(encoding="utf-8").splitlines()
    trained = [told["name"] for told in map(json.loads, lines) if told["split"] == "train"]
    side = exam.pictures[0].size
    training = [_pixels(Image.open(project / "dataset" / name), side) for name in trained]
    with tempfile.TemporaryDirectory() as folder:
        drawings = draw_dataset(Path(folder), name, count=COPIES, seed=seed + OTHERS)
        fresh = [_pixels(Image.open(path), side) for path in drawings]
    generated = [_pixels(one, side) for one in exam.pictures[:COPIES]]
    drawn, painted = likeness(fresh, training), likeness(generated, training)
    above = np.stack([painted[name] > drawn[name].max() for name in drawn]).any(axis=0)
    return int(above.sum()), {
        name: (round(float(painted[name].max()), 3), round(float(drawn[name].max()), 3)) for name in drawn
    }


def _pixels(image: Image.Image, side: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(image.convert("RGB").resize(side, Image.Resampling.LANCZOS), np.uint8)


def clocked(events: Iterable[Event]) -> dict[str, tuple[float, float]]:
    """Run through a training's events: stage -> seconds and CPU seconds spent in it; samples are a stage apart."""
    spent: dict[str, tuple[float, float]] = {}
    stage = ""
    wall, cpu = time.monotonic(), time.process_time()
    for event in events:
        if isinstance(event, Progress):
            stage = event.stage
        elif isinstance(event, Metric | Checkpoint):
            stage = "training"
        elif isinstance(event, Preview):
            stage = "samples"
        before = spent.get(stage, (0.0, 0.0))
        now, now_cpu = time.monotonic(), time.process_time()
        spent[stage] = before[0] + now - wall, before[1] + now_cpu - cpu
        wall, cpu = now, now_cpu
    return spent


def style_table(measured: Sequence[Figures]) -> str:
    """One row per style."""
    head = "style, step, score, object kept %, content kept %, copies, readable %, train s, CPU s, all s"
    rows = [head.split(", ")]
    for one in measured:
        score = "-" if one.score is None else f"{one.score:.2f}"
        step = f"{one.step}" if one.recommended else f"{one.step} (none recommended)"
        times = [f"{value:.0f}" for value in (one.training_seconds, one.training_cpu_seconds, one.seconds)]
        kept_shares = [percent(one.object_kept), percent(one.content_kept)]
        rows.append([one.style, step, score, *kept_shares, f"{one.closer} of {COPIES}", percent(one.readable), *times])
    return table(rows)


def _row(project: Path, exam: Exam) -> list[Image.Image]:
    side = exam.pictures[0].size
    drawn = []
    for path in sorted((project / "dataset").glob("*.png"))[:DRAWN]:
        with Image.open(path) as picture:
            drawn.append(picture.convert("RGB").resize(side, Image.Resampling.LANCZOS))
    return drawn + exam.pictures[:SHOWN]


def _grid(names: Sequence[str], rows: list[list[Image.Image]], base: Exam) -> Image.Image:
    """The base's pictures, then a row for each style."""
    shown = base.pictures[:SHOWN]
    blank = Image.new("RGB", shown[0].size, (247, 244, 238))
    images = [blank] * DRAWN + shown + [picture for row in rows for picture in row]
    labels = [*["trained on"] * DRAWN, *base.prompts[: len(shown)]]
    return contact_sheet(images, columns=len(labels), row_labels=["base", *names], column_labels=labels)


def _as_json(model: Model, given: argparse.Namespace, base: Exam, measured: list[Figures]) -> dict[str, object]:
    plain = {question: round(rate.share, 4) for question, rate in base.rates().items() if rate.asked}
    styles = [
        {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in asdict(one).items()}
        for one in measured
    ]
    return {
        "base": {"name": model.name, "sha256": model.hash, "rates": plain},
        "oracle": VERSION,
        "pictures": given.pictures,
        "prompts": given.prompts,
        "strength": given.strength,
        "threads": torch.get_num_threads(),
        "styles": styles,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--styles", default="", help="names, with commas between (default: all)")
    parser.add_argument("--base", default="pocket", help="name or folder (default: the built-in one)")
    parser.add_argument("--steps", type=int, help="of training (default: the demo's)")
    parser.add_argument("--pictures", type=int, default=20, help="drawn for each style (default 20)")
    parser.add_argument("--prompts", type=int, default=60, help="painted for each style (default 60)")
    parser.add_argument("--strength", type=float, default=demo.PORTFOLIO_STRENGTH, help="of the adapter")
    parser.add_argument("--seed", type=int, default=1, help="of pictures and training")
    parser.add_argument("--threads", type=int, help="processor threads (default: all)")
    parser.add_argument("--keep", type=Path, help="folder to keep the projects in (default: none are kept)")
    parser.add_argument("--out", type=Path, default=user.cache_folder() / "benchmarks" / "styles", help="folder")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except VelaturaError as error:
        sys.exit(str(error))
