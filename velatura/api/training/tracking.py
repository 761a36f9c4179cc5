"""A run's numbers in TensorBoard and on Weights & Biases, where the recipe asks for it.

Events pass through; what is written is the train and held-out loss, norms, rate, time and memory of each step that
recorded them, and the sample pictures. Both libraries are looked for when they are asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from velatura import settings as user
from velatura.errors import RecipeError
from velatura.events import Event, Metric, Preview
from velatura.recipe import Recipe
from velatura.run import Run

EXTRA = 'pip install "velatura[track]"'

Writer = Callable[[Event], None]


def check(recipe: Recipe) -> None:
    """Refuse what could not be written, before hours of training.

    Raises:
        RecipeError: a library is not there, or the user's settings say that nothing leaves this machine.
    """
    if recipe.tracking.tensorboard:
        _library("torch.utils.tensorboard", "tracking.tensorboard", "tensorboard")
    if recipe.tracking.wandb:
        if user.load().offline:
            raise RecipeError(
                "numbers cannot be sent while your settings say offline",
                where="tracking.wandb",
                fix="leave it out, or set offline to false",
            )
        _library("wandb", "tracking.wandb", "wandb")


def tracked(events: Iterable[Event], recipe: Recipe, run: Run) -> Iterator[Event]:
    """The events as they come, their numbers written on the way."""
    with ExitStack() as stack:
        writers = []
        if recipe.tracking.tensorboard:
            writers.append(_tensorboard(run, stack))
        if recipe.tracking.wandb:
            writers.append(_wandb(recipe, run, stack))
        for event in events:
            for write in writers:
                write(event)
            yield event


def _tensorboard(run: Run, stack: ExitStack) -> Writer:
    made = _library("torch.utils.tensorboard", "tracking.tensorboard", "tensorboard")
    writer = made.SummaryWriter(str(run.path / "tensorboard"))
    stack.callback(writer.close)

    def write(event: Event) -> None:
        if isinstance(event, Metric):
            for name, value in event.values.items():
                writer.add_scalar(_grouped(name), value, event.step)
        if isinstance(event, Preview):
            writer.add_image("samples", _pixels(run.path / event.path), event.step, dataformats="HWC")

    return write


def _wandb(recipe: Recipe, run: Run, stack: ExitStack) -> Writer:
    library = _library("wandb", "tracking.wandb", "wandb")
    told = recipe.model_dump(mode="json", exclude={"base": {"model", "vae", "text_encoders"}, "dataset": {"path"}})
    name = run.path.name
    session = library.init(project=recipe.tracking.wandb, name=name, id=_id(run), resume="allow", config=told)
    stack.callback(session.finish)

    def write(event: Event) -> None:
        if isinstance(event, Metric):
            session.log({_grouped(key): value for key, value in event.values.items()}, step=event.step)
        if isinstance(event, Preview):
            session.log({"samples": library.Image(str(run.path / event.path))}, step=event.step)

    return write


def _id(run: Run) -> str:
    """The same for a run that goes on; not for one of the same name in another project."""
    return str(run.provenance.get("run_fingerprint", ""))[:16] + f"-{run.path.name[:4]}"


def _grouped(name: str) -> str:
    group = "held out" if name.startswith("held_out") else "train"
    return f"{group}/{name}"


def _pixels(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _library(module: str, where: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RecipeError(f"this needs {name}", where=where, fix=EXTRA) from error
