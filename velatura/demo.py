"""The whole loop on the embedded base: pictures in, a judged LoRA and new pictures out, in one command.

The demo's folder is an ordinary project, so everything in it can be done again by hand:
`velatura train DIR`, `velatura generate ... --project DIR`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura import api
from velatura import run as runs
from velatura.errors import DatasetError, SettingsError, nearest
from velatura.events import Done, Event, Note, Preview, Progress
from velatura.files import make_folder, write_bytes, write_text
from velatura.recipe import Recipe, build, to_toml

if TYPE_CHECKING:
    from velatura.family import Model
    from velatura.generation.record import UsedLora

PICTURES = 20
"""Pictures drawn for a style."""
PORTRAITS = 9
"""Portraits drawn in their place, where those are asked for."""
DEFAULT_STYLE = "watercolour"
STRENGTHS = (0.0, 0.4, 0.8, 1.2)
PORTFOLIO_STRENGTH = 0.9

PROMPTS = (
    "a red boat on the sea, yellow sun",
    "a black cat in the snow at night",
    "portrait of a woman with brown hair, blue background",
    "a yellow house on green hills",
    "two green pine trees in the mountains at sunset",
    "a red apple and a blue mug on a table",
)
"""The portfolio: what the base knows well, unlike the pictures that are trained on."""

SETTINGS: dict[str, Any] = {
    "base": {"model": "pocket"},
    "adapter": {"rank": 16, "alpha": 16, "targets": ["all"]},
    # One thread: on a network this small a second one gains nothing in training, and waits for the first.
    "train": {
        "steps": 400,
        "batch": 6,
        "learning_rate": 5e-3,
        "schedule": "linear",
        "ema": 0.97,
        "warmup": 10,
        "threads": 1,
    },
    "dataset": {"caption_dropout": 0.1, "flip": True},
    "checkpoints": {"every": 100},
    "validation": {"paintings": 20},
    "samples": {"count": 4, "cfg_scale": 2.5},
}
"""What the demo trains with; `velatura/recipes/pocket-style.toml` is the same."""

FEW: dict[str, Any] = {
    "train": {**SETTINGS["train"], "steps": 480, "learning_rate": 3e-3, "schedule": "cosine", "ema": 0.0},
    "checkpoints": {"every": 160},
    "samples": {**SETTINGS["samples"], "cfg_scale": 2.0},
}
"""What nine portraits are trained with in its place, so few and so alike: for longer, at a lower rate."""

OWN: dict[str, Any] = {
    "adapter": {**SETTINGS["adapter"], "rank": 8, "alpha": 8},
    "train": {**FEW["train"], "steps": 240, "learning_rate": 2e-3},
    "checkpoints": {"every": 80},
    # A set of one's own is seldom told picture by picture. Without captions the trigger is all it says, and what
    # the LoRA changes of every picture alike, guidance would take away again; so it acts less on the negative side.
    "samples": {**SETTINGS["samples"], "cfg_scale": 4.0, "negative_strength": 0.6},
}
"""What pictures of one's own are trained with; the stronger settings were tried on drawn sets with captions alone."""


@dataclass(frozen=True)
class Shown:
    """What the demo paints with its LoRA."""

    portfolio: list[tuple[str, bytes]]
    strengths: list[tuple[str, bytes]]
    pairs: list[tuple[str, bytes, bytes]]


def styles() -> list[tuple[str, str]]:
    """The styles that can be drawn: name and one sentence."""
    from velatura.pocket.styles import STYLES

    return [(name, style.description) for name, style in STYLES.items()]


def run(
    folder: Path, *, images: Path | None = None, style: str = DEFAULT_STYLE, portraits: bool = False, seed: int = 1
) -> Iterator[Event]:
    """Make a project of drawn or given pictures, train, judge, paint, and write `report.html`.

    Started again on the same folder it goes on where it stopped.

    Args:
        folder: the project to make.
        images: the user's own pictures, with or without captions; none: a style is drawn.
        style: one of `styles()`.
        portraits: nine portraits are drawn in it in place of twenty scenes, with captions that say who is shown alone.
        seed: of everything.

    Raises:
        VelaturaError: the style is unknown, the pictures cannot be read, the folder cannot be written.
    """
    folder = folder.resolve()
    trigger = yield from _dataset(folder, images, style, portraits, seed)
    recipe = _recipe(folder, images, style, trigger, portraits, seed)
    done: Done | None = None
    for event in api.train(folder):
        if isinstance(event, Done):
            done = event
        else:
            yield event
    if done is None:
        return
    yield from _show(folder, recipe, trigger, seed)


def _dataset(folder: Path, images: Path | None, style: str, portraits: bool, seed: int) -> Generator[Event, None, str]:
    """Pictures in `dataset/`, drawn or copied in; the words that call the style up."""
    target = make_folder(folder / "dataset")
    filled = any(target.iterdir())
    if images is not None:
        from velatura.project import add_pictures

        if not filled:
            count = add_pictures(images, target)
            yield Note(f"copied {count} pictures; the originals stay as they are")
        return "my own style"
    from velatura.pocket.styles import STYLES
    from velatura.pocket.styles.examples import draw_dataset, draw_portraits

    if style not in STYLES:
        close = nearest(style, list(STYLES))
        raise SettingsError(
            f"there is no demo style {style}", fix=f"did you mean {close}?" if close else "see `velatura demo --list`"
        )
    if not filled:
        draw, count = (draw_portraits, PORTRAITS) if portraits else (draw_dataset, PICTURES)
        yield Progress("drawing pictures", 0, count)
        draw(target, style, count=count, seed=seed)
        yield Progress("drawing pictures", count, count)
    return STYLES[style].trigger


def _recipe(folder: Path, images: Path | None, style: str, trigger: str, portraits: bool, seed: int) -> Recipe:
    """The project's recipe; one that stands there is kept, for the user may have changed it."""
    path = folder / "recipe.toml"
    if path.exists():
        from velatura.recipe import load

        return load(path)
    name = "mine" if images is not None else style
    chosen = SETTINGS | (OWN if images is not None else FEW if portraits else {})
    # The captions of drawn pictures end in the trigger already.
    told = {**chosen, "name": name, "train": {**chosen["train"], "seed": seed}}
    if images is not None:
        told["dataset"] = {"trigger": trigger, "caption_dropout": 0.0}
    recipe = build(told)
    write_text(path, to_toml(recipe, comments=True))
    return recipe


def _show(folder: Path, recipe: Recipe, trigger: str, seed: int) -> Iterator[Event]:
    """Paint with the chosen checkpoint and write the report with what was painted."""
    from velatura.adapters.merge import Applied
    from velatura.api.inputs import base_of
    from velatura.api.memory import chosen
    from velatura.evaluation import results as judged
    from velatura.evaluation.choose import choose
    from velatura.evaluation.report import verdict
    from velatura.family import load_base
    from velatura.generation.record import UsedLora, used_loras
    from velatura.generation.sampling import Job

    finished = [one for one in runs.runs_of(folder) if one.finished]
    if not finished:
        raise DatasetError("no run of this project is finished", where=folder.name, fix="run the demo again")
    run = finished[-1]
    base = base_of(recipe, folder)
    model = load_base(base, policy=chosen(base, recipe.memory, task="paint").policy)
    file = folder / str(runs.read_json(run.path / "result.json")["lora"])
    lora = used_loras(model, "", [str(file)], folder)[0]

    def at(strength: float) -> UsedLora:
        return UsedLora(lora.name, lora.hash, Applied(lora.applied.layers, strength, strength))

    # as the captions have it: drawn pictures end in the trigger, before one's own the dataset layer puts it
    told = [f"{trigger}, {prompt}" if recipe.dataset.trigger else f"{prompt}, {trigger}" for prompt in PROMPTS]
    jobs = [Job(prompt, 40 + seed + place) for place, prompt in enumerate(told)]
    strip = Job(told[0], 40 + seed)
    bare = [Job(prompt, 40 + seed + place) for place, prompt in enumerate(PROMPTS[:4])]
    total = len(jobs) + len(STRENGTHS) + 2 * len(bare)
    done = 0

    def painted(what: Sequence[Job], strength: float) -> list[bytes]:
        nonlocal done
        done += len(what)
        return _paint(model, what, at(strength), recipe)

    yield Progress("painting", done, total)
    portfolio = painted(jobs, PORTFOLIO_STRENGTH)
    yield Progress("painting", done, total)
    strengths = [painted([strip], strength)[0] for strength in STRENGTHS]
    yield Progress("painting", done, total)
    before, after = painted(bare, 0.0), painted(jobs[: len(bare)], PORTFOLIO_STRENGTH)
    yield Progress("painting", done, total)
    shown = Shown(
        list(zip(told, portfolio, strict=True)),
        [(f"{strength:g}", data) for strength, data in zip(STRENGTHS, strengths, strict=True)],
        list(zip(PROMPTS, before, after, strict=False)),
    )
    pictures = make_folder(folder / "images")
    for place, data in enumerate(portfolio):
        write_bytes(pictures / f"portfolio-{place + 1}.png", data)
    for strength, data in zip(STRENGTHS, strengths, strict=True):
        write_bytes(pictures / f"strength-{strength:g}.png", data)
    found = judged.from_json((run.path / "evaluation.json").read_bytes(), where=run.path.name)
    choice = choose(found)
    further = _next_steps(folder, recipe, trigger)
    page = api.report(
        run, found, choice,
        portfolio=shown.portfolio, strengths=shown.strengths, pairs=shown.pairs, next_steps=further,
    )  # fmt: skip
    write_text(folder / "report.html", page)
    yield Preview(0, str(folder / "report.html"))
    summary = {
        "verdict": verdict(found, choice),
        "reasons": list(choice.reasons),
        "report": str(folder / "report.html"),
        "lora": str(file),
        "next": [f"{command}   {what}" for command, what in further],
    }
    yield Done(recipe.train.steps, summary)


def _paint(model: Model, jobs: Sequence[Any], lora: UsedLora, recipe: Recipe) -> list[bytes]:
    """Pictures as PNG files that say how they were made."""
    from velatura.generation.generate import Painted, generate
    from velatura.generation.record import infotext_of
    from velatura.training.samples import merged, sampling

    how = sampling(recipe, model)
    loras = [lora] if lora.applied.denoiser_strength else []
    files = []
    used = [one.applied for one in loras]
    with merged(model, used, apart=how.apart) as adapters:
        for event in generate(model, jobs, how, batch=4, adapters=adapters):
            if isinstance(event, Painted):
                files.append(api.png(event.image, *infotext_of(model, event.job, how, loras, batch=4)))
    return files


def _next_steps(folder: Path, recipe: Recipe, trigger: str) -> list[tuple[str, str]]:
    place, how, prompt = folder.name, recipe.samples, "a red boat at night"
    told = f"{trigger}, {prompt}" if recipe.dataset.trigger else f"{prompt}, {trigger}"
    paint = f'velatura generate "{told} <lora:{recipe.name}:0.8>" --project {place} -n 4'
    if how.negative_strength != 1:
        paint += f" --negative-strength {how.negative_strength:g}"
    if how.cfg_scale is not None:
        paint += f" --cfg {how.cfg_scale:g}"
    return [
        (paint, "paint with it"),
        (f"velatura train {place} --set train.steps={recipe.train.steps * 5 // 3}", "train longer"),
        ("velatura demo my-style --images FOLDER", "the same with your own pictures"),
        ("velatura new my-style --images FOLDER", "a project of your own, every setting explained"),
    ]
