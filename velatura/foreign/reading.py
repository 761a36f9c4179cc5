"""Which trainer a file is of, and its settings as a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velatura.errors import RecipeError
from velatura.foreign import ai_toolkit, command_line, kohya, kohya_captions, kohya_gui, musubi, onetrainer
from velatura.foreign.files import read_text, tree_of
from velatura.foreign.places import found
from velatura.foreign.reasons import names
from velatura.foreign.translation import Carried, Left, Translation
from velatura.recipe import Recipe

KNOWN = "kohya's trainers (sd-scripts, kohya_ss, musubi-tuner), ai-toolkit and OneTrainer"


@dataclass(frozen=True)
class Translated:
    """A recipe made of another trainer's settings, and an account of each."""

    trainer: str
    recipe: Recipe
    carried: tuple[Carried, ...]
    """What arrived; also what that trainer does without being told, where it is done differently here."""
    left: tuple[Left, ...]
    """What did not, and why."""
    notes: tuple[str, ...]


def read(path: Path) -> Translated:
    """Carry another trainer's settings over into a recipe.

    Args:
        path: a command line in a script or text file, or a TOML, JSON or YAML file.

    Raises:
        FileProblem: it cannot be read.
        RecipeError: it is damaged, of no trainer that is known, or holds a value of the wrong kind.
    """
    tree = tree_of(path)
    if tree is None:
        translation = _command(path)
    elif "training_method" in tree or ("base_model_name" in tree and "model_type" in tree):
        translation = Translation(onetrainer.TRAINER, dict(tree), path)
        onetrainer.translate(translation)
    elif "job" in tree and "config" in tree:
        translation = Translation(ai_toolkit.TRAINER, {}, path)
        translation.waiting = ai_toolkit.settings_of(tree, translation)
        ai_toolkit.translate(translation)
    elif path.suffix.lower() == ".json" and ("LoRA_type" in tree or "pretrained_model_name_or_path" in tree):
        translation = Translation(kohya_gui.TRAINER, dict(tree), path, kohya_gui.NAMES)
        kohya_gui.translate(translation)
    elif path.suffix.lower() == ".toml" and "version" not in tree:
        translation = _of_kohya(_flat(tree), path, tree if "datasets" in tree else None)
    else:
        fix = "a recipe of Velatura needs no import" if "version" in tree else f"known are {KNOWN}"
        raise RecipeError("this is not the file of a trainer that is known", where=path, fix=fix)
    recipe = translation.recipe()
    return Translated(
        translation.trainer, recipe, tuple(translation.carried), tuple(translation.left), tuple(translation.notes)
    )


def _command(path: Path) -> Translation:
    command = command_line.read(read_text(path), where=path)
    told = {**command.launcher, **command.told}
    return _of_kohya(told, path, None, script=command.script)


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    """Sections of a --config_file mean nothing; a dataset's tables are read apart."""
    told: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in ("general", "datasets") or "datasets" not in tree:
            told |= value if isinstance(value, dict) else {key: value}
    return told


def _of_kohya(told: dict[str, Any], path: Path, dataset: dict[str, Any] | None, *, script: str = "") -> Translation:
    """A training of sd-scripts or musubi-tuner, with the files that its options name."""
    beside = _named(told.pop("config_file", None), path)
    if beside is not None:
        told = {**_flat(beside), **told}
    named = told.get("dataset_config")
    dataset = dataset or _named(told.pop("dataset_config", None), path)
    if dataset is not None:
        told = kohya_captions.with_dataset(told, dataset, path)
    of_musubi = any(key in told for key in ("dit", "image_directory", "video_directory"))
    if not of_musubi and not any(key in told for key in SIGNS):
        raise RecipeError("this is not the file of a trainer that is known", where=path, fix=f"known are {KNOWN}")
    module = musubi if of_musubi else kohya
    translation = Translation(module.TRAINER, told, path)
    if named and dataset is None:
        translation.leave("dataset_config", named, "this file is not here; say under [dataset] where the pictures are")
    module.translate(translation, script=script)
    return translation


SIGNS = names(
    "pretrained_model_name_or_path network_module network_dim train_data_dir max_train_steps max_train_epochs"
    " train_batch_size learning_rate unet_lr output_name image_dir resolution"
)
"""Options of sd-scripts by which its files are known."""


def _named(told: Any, path: Path) -> dict[str, Any] | None:
    """The TOML file that an option names, its ending left out or not; None where it is not here."""
    if not isinstance(told, str):
        return None
    place = found(told, path) or found(f"{told}.toml", path)
    return tree_of(place) if place is not None and place.suffix.lower() in (".toml", ".json") else None
