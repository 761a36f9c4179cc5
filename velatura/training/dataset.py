"""The pictures that a recipe names, scanned, split and fitted to the base's buckets. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from velatura.dataset import layout
from velatura.dataset.buckets import Bucket
from velatura.dataset.checks import of_split
from velatura.dataset.duplicates import near_duplicates
from velatura.dataset.fingerprint import fingerprint
from velatura.dataset.journal import unfinished
from velatura.dataset.prepared import Prepared, epoch, prepare, regularising
from velatura.dataset.scan import Dataset, scan
from velatura.dataset.split import Split, hold_out
from velatura.errors import DatasetError
from velatura.recipe import DatasetSettings, Recipe

SMALL = 15
"""With so few pictures each one held out is missed; the run says so and offers to train again on all."""


@dataclass(frozen=True)
class Pictures:
    """A dataset as one recipe trains it."""

    dataset: Dataset
    prepared: tuple[Prepared, ...]
    fingerprint: str
    regularisation: tuple[Prepared, ...] = ()
    """Pictures of the class, trained beside the set."""
    remarks: tuple[str, ...] = ()
    """What the recipe's settings come to with these pictures."""

    @property
    def train(self) -> tuple[Prepared, ...]:
        """What is trained on."""
        return tuple(one for one in self.prepared if not one.held_out)

    @property
    def held_out(self) -> tuple[Prepared, ...]:
        """What is only judged by."""
        return tuple(one for one in self.prepared if one.held_out)

    @property
    def epoch(self) -> list[Bucket]:
        """What one epoch holds, places counted through the training pictures and then those of the class."""
        return epoch((*self.train, *self.regularisation))

    @property
    def buckets(self) -> dict[tuple[int, int], int]:
        """Bucket -> number of training pictures."""
        return dict(Counter(one.bucket for one in self.train))

    @property
    def notes(self) -> list[str]:
        """What the user should know before training."""
        notes = [*(f"{problem.name}: {problem.what}" for problem in self.dataset.problems), *self.remarks]
        without = [one.picture.name for one in self.prepared if one.picture.captions is None]
        if without:
            shown = ", ".join(without[:3]) + (", ..." if len(without) > 3 else "")
            told = "; they are told by the trigger alone" if any(any(one.captions) for one in self.prepared) else ""
            notes.append(f"{len(without)} of {len(self.prepared)} pictures have no caption: {shown}{told}")
        names = ", ".join(one.picture.name for one in self.held_out)
        if not self.held_out:
            notes.append("no picture is held out, so likeness to unseen pictures is not measured")
        elif len(self.prepared) <= SMALL:
            notes.append(f"held out to judge by: {names}; --refit trains once more on all pictures after the choice")
        else:
            notes.append(f"held out to judge by: {names}")
        return notes


def read(recipe: Recipe, folder: Path, *, resolution: int, latent_factor: int = 8) -> Pictures:
    """Scan the recipe's dataset and decide how each picture is trained.

    Args:
        recipe: what the run is told.
        folder: the recipe's folder, against which its paths count.
        resolution: side of the square of the training area, in pixels.
        latent_factor: pixels per latent; buckets are multiples of 8 latents, or 4 for small bases.

    Raises:
        DatasetError: the folder is missing, holds no readable picture, or is in the middle of an edit.
    """
    path = folder / recipe.dataset.path
    if path.is_dir() and (edit := unfinished(path)) is not None:
        fix = "run that command again, or `velatura dataset undo`"
        raise DatasetError(f"the pictures are in the middle of an edit: {edit.told}", where=path, fix=fix)
    dataset = scan(path)
    groups = near_duplicates(dataset.pictures)
    split = hold_out(dataset, share=recipe.dataset.hold_out, seed=recipe.train.seed, groups=groups)
    refuse_leaks(dataset, split, groups)
    step = min(64, latent_factor * 4 if resolution < 256 else latent_factor * 8)
    fitted = partial(
        prepare, area=(resolution, resolution), step=step, minimum=max(step, resolution // 2), maximum=resolution * 2
    )
    prepared = fitted(dataset, trigger=recipe.dataset.trigger or None, split=split)
    class_folder = _class_folder(recipe, path)
    found = fitted(scan(class_folder)) if class_folder is not None else ()
    own = sum(one.repeats for one in prepared if not one.held_out)
    beside = regularising(found, own)
    remarks = [*_of_class(recipe, found, beside), *_of_masks(recipe, prepared)]
    marked = fingerprint(dataset, split, regularisation=[one.picture for one in beside])
    return Pictures(_without(dataset, class_folder), prepared, marked, beside, tuple(remarks))


def _class_folder(recipe: Recipe, dataset: Path) -> Path | None:
    """Where the pictures of the class are; None where there are none, or they count nothing."""
    told = recipe.dataset.regularisation
    if not told or not recipe.dataset.prior_weight:
        return None
    folder = dataset / told
    usual = DatasetSettings.model_fields["regularisation"].default
    return folder if told != usual or (folder.is_dir() and layout.find(folder).entries) else None


def _without(dataset: Dataset, class_folder: Path | None) -> Dataset:
    """The dataset, its problems without the one that a folder in it is not read that is read."""
    if class_folder is None:
        return dataset
    problems = tuple(one for one in dataset.problems if one.name != f"{class_folder.name}/")
    return replace(dataset, problems=problems)


def _of_class(recipe: Recipe, found: Sequence[Prepared], beside: Sequence[Prepared]) -> list[str]:
    if not beside:
        return []
    folder = recipe.dataset.regularisation
    told = f"{len(beside)} pictures of the class from {folder} are trained beside the set, in each epoch"
    told += f" {sum(one.repeats for one in beside)} times in all; their loss counts {recipe.dataset.prior_weight:g}"
    notes = [f"{told}; {len(found) - len(beside)} more are not needed" if len(found) > len(beside) else told]
    silent = [one.picture.name for one in beside if not any(one.captions)]
    if silent:
        notes.append(f"{len(silent)} pictures of the class have no caption: {', '.join(silent[:3])}")
    return notes


def _of_masks(recipe: Recipe, prepared: Sequence[Prepared]) -> list[str]:
    masked = sum(one.picture.mask is not None for one in prepared)
    if not masked:
        return []
    if recipe.objective.masked_loss == "off":
        return [f"{masked} pictures have masks, which objective.masked_loss = off leaves aside"]
    return [f"the parts of {masked} pictures count in the loss as their masks say"]


def refuse_leaks(dataset: Dataset, split: Split, groups: Sequence[Sequence[int]]) -> None:
    """Nothing that is held out may have a copy among what is trained on: its loss would praise memory.

    Raises:
        DatasetError: it has; the pictures are named.
    """
    names = [picture.name for picture in dataset.pictures]
    train, held_out = ([names[index] for index in part] for part in (split.train, split.held_out))
    leaks = of_split(train, held_out, [[names[index] for index in group] for group in groups])
    if leaks:
        told = "; ".join(", ".join(leak.names) for leak in leaks)
        what = f"pictures that are nearly the same are both trained on and held out: {told}"
        raise DatasetError(what, where=dataset.folder, fix="`velatura dataset reject` all but one of each")
