"""The pictures that a recipe names, scanned, split and fitted to the base's buckets. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from velatura import errors
from velatura import settings as user
from velatura.dataset import layout, telling
from velatura.dataset.buckets import Bucket, Step, plan_steps
from velatura.dataset.checks import of_split
from velatura.dataset.duplicates import Hashes, near_duplicates
from velatura.dataset.fingerprint import fingerprint
from velatura.dataset.journal import unfinished
from velatura.dataset.prepared import Prepared, epoch, prepare, regularising
from velatura.dataset.scan import Dataset, scan
from velatura.dataset.split import Split, hold_out
from velatura.errors import DatasetError
from velatura.recipe import DatasetSettings, FolderSettings, Recipe

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
        """What is trained on; a picture that is trained at several resolutions is there several times."""
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
        resolution: side of the square of the training area, in pixels, where a folder has none of its own.
        latent_factor: pixels per latent; buckets are multiples of 8 latents, or 4 for small bases.

    Raises:
        DatasetError: a folder is missing, holds no readable picture, or is in the middle of an edit; or a wildcard's
            file is.
    """
    seed = recipe.train.seed
    own = [one for one in recipe.dataset.folders if one.role == "set"]
    if not own:
        raise DatasetError("every block holds pictures of the class, and none the set", where="dataset.blocks")
    known = _remembered()
    before = len(known)
    scans = _named({path: _scanned(folder / path, known) for path in dict.fromkeys(one.path for one in own)})
    dataset = _together(scans, folder)
    groups = near_duplicates(dataset.pictures, known=known)
    if len(known) > before:
        user.keep(SEEN, {name: [f"{one:x}" for one in hashes] for name, hashes in known.items()})
    split = hold_out(dataset, share=recipe.dataset.hold_out, seed=seed, groups=groups)
    refuse_leaks(dataset, split, groups)
    beside = _class_folders(recipe, folder, known)
    lists = _wildcards(recipe, folder, [*scans.values(), *(found for _, found in beside)])
    fitted = partial(_fitted, lists=lists, seed=seed, usual=resolution, latent_factor=latent_factor)
    held_out = {dataset.pictures[index].path for index in split.held_out}
    prepared = tuple(one for block in own for one in fitted(scans[block.path], block, held_out=held_out))
    found = [one for block, of_class in beside for one in fitted(of_class, block)]
    sides = dict.fromkeys(one.side for one in prepared if not one.held_out)
    of_class = tuple(one for side in sides for one in _beside(found, prepared, side))
    remarks = [*_of_class(recipe, beside, found, of_class), *_of_masks(recipe, prepared)]
    marked = fingerprint(dataset, split, regularisation=[one.picture for one in of_class], wildcards=lists)
    read_too = {path for block, _ in beside if (path := folder / block.path)}
    return Pictures(_without(dataset, read_too), prepared, marked, of_class, tuple(remarks))


def counted(recipe: Recipe, pictures: Pictures) -> Recipe:
    """The recipe with the steps that its epochs come to, where it tells epochs."""
    if recipe.train.epochs is None:
        return recipe
    steps = recipe.train.epochs * len(steps_of(recipe, pictures.epoch, epoch=0))
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": steps})})


def steps_of(recipe: Recipe, buckets: Sequence[Bucket], *, epoch: int) -> list[Step]:
    """The steps of one epoch, each with its micro-batches, as `buckets.plan_steps`."""
    told = recipe.train
    return plan_steps(buckets, batch=told.batch, accumulation=told.accumulation, seed=told.seed, epoch=epoch)


SEEN = "pictures"
"""Where in the cache folder it is remembered how pictures look that have been decoded, by their content."""

MOST_SEEN = 50_000
"""Pictures that are remembered; with more, all are forgotten."""


def _remembered() -> dict[str, Hashes]:
    """Hashes of pictures that were decoded in an earlier start, so that they need not be again."""
    try:
        known = {name: (int(one, 16), int(other, 16)) for name, (one, other) in user.recall(SEEN).items()}
    except (ValueError, TypeError):
        return {}
    return known if len(known) < MOST_SEEN else {}


def _scanned(path: Path, known: Mapping[str, Hashes]) -> Dataset:
    if path.is_dir() and (edit := unfinished(path)) is not None:
        fix = "run that command again, or `velatura dataset undo`"
        raise DatasetError(f"the pictures are in the middle of an edit: {edit.told}", where=path, fix=fix)
    return scan(path, whole=known)


def _named(scans: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """The scans, each picture named with its folder where there are several."""
    if len(scans) == 1:
        return dict(scans)
    return {
        path: replace(
            found,
            pictures=tuple(replace(one, name=f"{path}/{one.name}") for one in found.pictures),
            problems=tuple(replace(one, name=f"{path}/{one.name}") for one in found.problems),
            left_aside=tuple(f"{path}/{name}" for name in found.left_aside),
        )
        for path, found in scans.items()
    }


def _together(scans: Mapping[str, Dataset], folder: Path) -> Dataset:
    """Several folders as one dataset."""
    if len(scans) == 1:
        return next(iter(scans.values()))
    return Dataset(
        folder,
        tuple(one for found in scans.values() for one in found.pictures),
        tuple(one for found in scans.values() for one in found.problems),
        tuple(name for found in scans.values() for name in found.left_aside),
    )


def _wildcards(recipe: Recipe, folder: Path, scans: Iterable[Dataset]) -> dict[str, tuple[str, ...]]:
    """The lists that the captions name, where any folder's captions have wildcards."""
    if not any(one.wildcards for one in recipe.dataset.folders):
        return {}
    captions = [caption for found in scans for one in found.pictures for caption in one.captions or ()]
    affixes = [text for one in recipe.dataset.folders for text in (one.prefix, one.suffix)]
    return telling.read_lists(folder / telling.FOLDER, [*captions, *affixes])


def _fitted(
    dataset: Dataset,
    rules: FolderSettings,
    *,
    lists: telling.Lists,
    seed: int,
    usual: int,
    latent_factor: int,
    held_out: Set[Path] = frozenset(),
) -> Iterator[Prepared]:
    """A folder's pictures at each of its resolutions; held out at the first alone."""
    for place, side in enumerate(dict.fromkeys((rules.resolution or usual, *rules.further_resolutions))):
        step = min(64, latent_factor * 4 if side < 256 else latent_factor * 8)
        places = tuple(index for index, one in enumerate(dataset.pictures) if one.path in held_out)
        found = prepare(
            dataset,
            area=(side, side),
            step=step,
            minimum=max(step, side // 2),
            maximum=side * 2,
            rules=rules,
            lists=lists,
            seed=seed,
            split=Split((), places),
        )
        yield from (one for one in found if place == 0 or not one.held_out)


def _beside(found: Sequence[Prepared], own: Sequence[Prepared], side: int) -> tuple[Prepared, ...]:
    """Pictures of the class at one resolution, as many as the set trains at it."""
    wanted = sum(one.repeats for one in own if one.side == side and not one.held_out)
    return regularising([one for one in found if one.side == side], wanted)


def _class_folders(recipe: Recipe, folder: Path, known: Mapping[str, Hashes]) -> list[tuple[FolderSettings, Dataset]]:
    """Where the pictures of the class are, and what is there; none where they count nothing."""
    told = recipe.dataset
    if not told.prior_weight:
        return []
    if told.blocks:
        return [(block, _scanned(folder / block.path, known)) for block in told.blocks if block.role == "class"]
    usual = DatasetSettings.model_fields["regularisation"].default
    there = folder / told.path / told.regularisation
    if not told.regularisation or (
        told.regularisation == usual and not (there.is_dir() and layout.find(there).entries)
    ):
        return []
    # the class is told without the trigger: it is what the trigger must not come to mean
    own = {"path": f"{told.path}/{told.regularisation}", "trigger": "", "repeats": 1}
    return [(told.folders[0].model_copy(update=own), scan(there, whole=known))]


def _without(dataset: Dataset, read_too: Set[Path]) -> Dataset:
    """The dataset, its problems without those that a folder in it is not read that is read."""
    names = {f"{path.name}/" for path in read_too}
    return replace(dataset, problems=tuple(one for one in dataset.problems if one.name not in names))


def _of_class(
    recipe: Recipe,
    folders: Sequence[tuple[FolderSettings, Dataset]],
    found: Sequence[Prepared],
    beside: Sequence[Prepared],
) -> list[str]:
    if not beside:
        return []
    names = ", ".join(recipe.dataset.regularisation if not recipe.dataset.blocks else one.path for one, _ in folders)
    told = f"{len(beside)} pictures of the class from {names} are trained beside the set, in each epoch"
    told += f" {sum(one.repeats for one in beside)} times in all; their loss counts {recipe.dataset.prior_weight:g}"
    notes = [f"{told}; {len(found) - len(beside)} more are not needed" if len(found) > len(beside) else told]
    silent = [one.picture.name for one in beside if not any(one.captions)]
    if silent:
        told = errors.counted(len(silent), "picture")
        notes.append(f"{told} of the class {'has' if len(silent) == 1 else 'have'} no caption: {', '.join(silent[:3])}")
    return notes


def _of_masks(recipe: Recipe, prepared: Sequence[Prepared]) -> list[str]:
    masked = len({one.picture.path for one in prepared if one.picture.mask is not None})
    if not masked:
        return []
    told = errors.counted(masked, "picture")
    if recipe.objective.masked_loss == "off":
        return [f"there are masks of {told}, which objective.masked_loss = off leaves aside"]
    return [f"the parts of {told} count in the loss as their masks say"]


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
