"""Short trainings on made-up pictures, by which `velatura plan` knows what a training costs on this machine.

What is measured is the real loop, with the recipe's own optimizer and layers, at a few sizes, batches and ranks. It
is kept in the cache folder for the base, the device and the versions of what computes.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura import bases, settings
from velatura import recipe as recipes
from velatura import run as runs
from velatura.api.inputs import base_of, project_of, read_objective, read_texts, set_threads
from velatura.api.memory import chosen
from velatura.events import Event, Progress
from velatura.files import make_folder, write_text
from velatura.recipe import (
    CheckpointSettings,
    DatasetSettings,
    Recipe,
    SampleSettings,
    TrackingSettings,
    ValidationSettings,
)
from velatura.version import __version__

if TYPE_CHECKING:
    from velatura.family import Model
    from velatura.training.cost import Calibration, Case, Probe
    from velatura.weights.policy import MemoryPolicy

LEAST_SIDE = 64
"""Pixels; no smaller picture is trained on."""

NEVER = 100_000
"""A step that no probe comes to."""

STEP = 32
"""Pixels that every side is a multiple of."""

PATIENCE = 90.0
"""Seconds that the largest pictures may take before they are left out."""

LONG_ENOUGH = 1.0
"""Seconds that the steps of a probe take together, at least where they are few."""


@dataclass(frozen=True)
class Trial:
    """What one probe trains."""

    side: int
    batch: int
    rank: int
    text: bool = False
    checkpointing: bool = False
    check: bool = False
    """The model is not fitted to it but judged by it."""


def calibrate(path: Path, *, overrides: Iterable[str] = ()) -> Iterator[Event]:
    """Measure what training a recipe's base costs here, and keep it; takes from half a minute to some minutes.

    Raises:
        VelaturaError: the recipe or the base are not as they must be.
    """
    recipe = recipes.load(path, overrides)
    base = base_of(recipe, project_of(path))
    yield Progress("loading the base", 0, 1)
    from velatura.family import load_base
    from velatura.training.cost import fit

    set_threads(recipe.train.threads)
    policy = replace(chosen(base, recipe.memory, task="train").policy, checkpointing=False)
    model = load_base(base, policy=policy)
    read_texts(model, clip_skip=recipe.base.clip_skip)
    read_objective(model, recipe)
    yield Progress("loading the base", 1, 1)
    trials = design(model, recipe)
    found: dict[Trial, Probe] = {}
    slow = False
    for number, trial in enumerate(trials):
        if slow and trial.side == max(one.side for one in trials):
            continue
        begun = time.monotonic()
        found[trial] = probe(model, recipe, trial)
        growth = (max(one.side for one in trials) / trial.side) ** 2
        slow |= not trial.check and (time.monotonic() - begun) * growth > PATIENCE
        yield Progress("measuring", number + 1, len(trials))
    made = fit(
        [one for trial, one in found.items() if not trial.check],
        [one for trial, one in found.items() if trial.check],
        on=time.strftime("%Y-%m-%d"),
    )
    place = _place(base, policy)
    make_folder(place.parent)
    told = {"about": about(recipe, policy), "calibration": made.to_dict()}
    write_text(place, json.dumps(told, indent=1))


def design(model: Model, recipe: Recipe) -> list[Trial]:
    """What is measured: three sizes, two batches, two ranks, text encoders, checkpointing; and two to judge by."""
    large = model.resolution if model.policy.device != "cpu" or model.resolution < 256 else model.resolution // 2
    small = max(LEAST_SIDE, large // 4 // STEP * STEP)
    middle = max(large // 2, (small + large) // 2 if large < 256 else 0) // STEP * STEP
    rank = max(4, min(recipe.adapter.rank, 16))
    trials = [
        Trial(middle, 1, rank),
        Trial(small, 1, rank),
        Trial(middle, 3, rank),
        Trial(small, 3, rank),
        Trial(small, 1, 4 * rank),
        Trial(middle, 1, 4 * rank),
        Trial(middle, 1, rank, checkpointing=True),
        Trial(middle, 3, rank, checkpointing=True),
        Trial(large, 1, rank),
        Trial(small, 2, 2 * rank, check=True),
        Trial(middle, 2, 2 * rank, check=True, checkpointing=True),
    ]
    if "text" in model.family.targets:
        trials[7:7] = [Trial(small, 1, rank, text=True), Trial(small, 3, rank, text=True)]
        trials[-1] = replace(trials[-1], text=True)
    return trials


def probe(model: Model, recipe: Recipe, trial: Trial) -> Probe:
    """Train a few steps, and measure them."""
    from velatura.adapters.lora import inject
    from velatura.training.adapter import specs
    from velatura.training.cost import Probe
    from velatura.training.data import Cached
    from velatura.training.dataset import read
    from velatura.training.encoding import encode
    from velatura.training.loop import train
    from velatura.training.meter import Meter, held, pace, tidy
    from velatura.training.pace import freed_memory_kept

    device = model.policy.device
    denoiser: Any = model.parts["denoiser"]
    with tempfile.TemporaryDirectory() as folder, freed_memory_kept():
        told = _recipe(recipe, trial)
        _paint(Path(folder) / "pictures", trial)
        pictures = read(told, Path(folder), resolution=trial.side, latent_factor=model.latent_factor)
        with Meter(device) as encoding:
            (cached,) = (one for one in encode(model, pictures.prepared, keep=False) if isinstance(one, Cached))
        decode, forward = _predicting(model, cached, trial)
        if model.turns is not None:
            model.turns.need("denoiser")
        if trial.checkpointing:
            denoiser.enable_gradient_checkpointing()
        try:
            with inject(model.trainable_parts, specs(told, model), seed=0) as injected:
                tidy(device)
                rest = held(device)
                run = runs.Run(Path(folder) / "run")
                events = train(model, injected, cached, told, run, adapter_bytes=lambda weights, step: b"")
                with Meter(device) as first:
                    _steps(events, 1)
                paces = [pace()] if device == "cpu" else []
                count = min(16, max(2, math.ceil(LONG_ENOUGH / max(first.wall, 1e-3))))
                with Meter(device) as steps:
                    _steps(events, count)
                paces += [pace()] if device == "cpu" else []
                events.close()  # type: ignore[attr-defined]
                case = _case(told, trial, injected.named())
        finally:
            denoiser.disable_gradient_checkpointing()
    peaks = [meter.peak for meter in (first, steps) if meter.peak is not None]
    return Probe(
        case,
        steps.wall / count,
        steps.cpu / count,
        max(peaks, default=None),
        rest,
        forward,
        (encoding.cpu if device == "cpu" else encoding.wall) / len(pictures.prepared),
        decode,
        sum(paces) / 2,
    )


def _recipe(recipe: Recipe, trial: Trial) -> Recipe:
    """The recipe with made-up pictures and as many steps as will never be taken."""
    targets = [target for target in recipe.adapter.targets if not target.startswith("text")]
    adapter = {
        "rank": trial.rank,
        "alpha": float(trial.rank),
        "ranks": [],
        "conv_rank": None,
        "timestep_rank": None,
        "timestep_power": 1.0,
        "targets": [*(targets or ["attention+mlp"]), *(["text"] if trial.text else [])],
    }
    train: dict[str, Any] = {
        "steps": NEVER,
        "epochs": None,
        "batch": trial.batch,
        "accumulation": 1,
        "warmup": 0,
        "text_learning_rate": None,
        "rates": [],
        "lengthened": [],
        "init_from": "",
        "seed": 1,
    }
    return recipe.model_copy(
        update={
            "dataset": DatasetSettings(path="pictures", resolution=trial.side, hold_out=0.0, regularisation=""),
            "adapter": recipe.adapter.model_copy(update=adapter),
            "train": recipe.train.model_copy(update=train),
            "checkpoints": CheckpointSettings(every=NEVER),
            "samples": SampleSettings(),
            "validation": ValidationSettings(),
            "tracking": TrackingSettings(),
        }
    )


def _paint(folder: Path, trial: Trial) -> None:
    """As many pictures of noise as one batch holds."""
    import numpy as np
    from PIL import Image

    make_folder(folder)
    for number in range(trial.batch):
        noise = np.random.default_rng(number).integers(0, 256, (trial.side, trial.side, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
        write_text(folder / f"{number}.txt", "a house beside a tree, in the evening")


def _predicting(model: Model, cached: Any, trial: Trial) -> tuple[float, float]:
    """Seconds to decode one picture, and to predict one batch without gradients."""
    import torch

    from velatura.recipe import ObjectiveSettings
    from velatura.training.data import Batches
    from velatura.training.losses import loss
    from velatura.training.meter import Meter

    if trial.checkpointing or trial.text or trial.check:
        return 0.0, 0.0
    recipe = Recipe(dataset=DatasetSettings(caption_dropout=0.0), train=_recipe(Recipe(), trial).train)
    batch = next(iter(Batches(model, cached, recipe).of(0)))
    with torch.no_grad():
        loss(model, batch, ObjectiveSettings(min_snr=0.0))
        with Meter(model.policy.device) as predicting:
            loss(model, batch, ObjectiveSettings(min_snr=0.0))
        with Meter(model.policy.device) as decoding:
            model.family.decode_latents(model, batch.clean_BCHW[:1])
    seconds = [meter.cpu if model.policy.device == "cpu" else meter.wall for meter in (decoding, predicting)]
    return seconds[0], seconds[1]


def _steps(events: Iterator[Event], count: int) -> None:
    """Go on until so many steps are done."""
    for event in events:
        count -= isinstance(event, Progress) and event.stage == "training"
        if count == 0:
            return


def _case(recipe: Recipe, trial: Trial, parameters: Mapping[str, Any]) -> Case:
    from velatura.training.adapter import of_text
    from velatura.training.cost import Case

    text = sum(one.numel() for name, one in parameters.items() if of_text(name))
    every = sum(one.numel() for one in parameters.values())
    return Case(trial.side**2, trial.batch, every - text, text, trial.checkpointing, recipe.train.optimizer)


def known(base: bases.BaseFiles, recipe: Recipe, policy: MemoryPolicy) -> tuple[Calibration | None, list[str]]:
    """What was measured of a base on this device, and in what that differs from the recipe and what is installed."""
    from velatura.training.cost import Calibration

    place = _place(base, policy)
    try:
        told = json.loads(place.read_text(encoding="utf-8"))
        found = Calibration.from_dict(told["calibration"])
        then = dict(told["about"])
    except (OSError, ValueError, TypeError, KeyError):
        return None, []
    now = about(recipe, policy)
    return found, [f"{key} {then.get(key)}, and now {value}" for key, value in now.items() if then.get(key) != value]


def about(recipe: Recipe, policy: MemoryPolicy) -> dict[str, str]:
    """What an estimate depends on beside the base and the device."""
    import diffusers
    import torch

    targets = [target for target in recipe.adapter.targets if not target.startswith("text")]
    return {
        "velatura": __version__,
        "torch": str(torch.__version__),
        "diffusers": diffusers.__version__,
        "threads": str(recipe.train.threads or torch.get_num_threads()) if policy.device == "cpu" else "-",
        "adapter": recipe.adapter.kind,
        "layers": ", ".join(targets) or "attention+mlp",
        "optimizer": recipe.train.optimizer,
    }


def _place(base: bases.BaseFiles, policy: MemoryPolicy) -> Path:
    """Where what was measured of a base is kept, for the device and the way the base is held on it.

    A base goes by its family and the sizes of its files: those of one size cost the same, and nothing has to be read.
    """
    from velatura.doctor.devices import devices

    title = next((one.title for one in devices() if one.kind == policy.device), policy.device)
    held = replace(policy, checkpointing=False)
    found = bases.locate(base)
    files = dict.fromkeys(path for part in found.parts.values() for path in part.files)
    named = f"{found.variant.family} {[path.stat().st_size for path in files]} {title} {held}"
    return settings.load().cache / "costs" / f"{hashlib.sha256(named.encode()).hexdigest()[:24]}.json"
