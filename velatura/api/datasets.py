"""A project's dataset, held against its recipe, its brief and its base's own tokenizer. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from velatura import bases, brief, settings
from velatura import recipe as recipes
from velatura.api.inputs import base_of, readers_of
from velatura.bases import BaseFiles
from velatura.dataset.checks import Wanted, check
from velatura.dataset.findings import Finding, place
from velatura.dataset.survey import Survey, Surveying
from velatura.dataset.wording import Told
from velatura.errors import SettingsError, VelaturaError
from velatura.events import Event

if TYPE_CHECKING:
    from PIL.Image import Image

    from velatura.recipe import Recipe
    from velatura.training.dataset import Pictures

CLIP_FAMILIES = ("sd15", "sdxl")
"""Families that read captions through CLIP, 75 tokens at once."""
CLIP_LIMIT = 75


class CheckingDataset:
    """A check as an iterator of events; `result` is there when it has ended."""

    def __init__(self, folder: Path, wanted: Callable[[], Wanted], *, workers: int | None) -> None:
        """Nothing is read before this is iterated."""
        self.folder, self._wanted, self.workers = folder, wanted, workers
        self.result: tuple[Survey, list[Finding]] | None = None

    def __iter__(self) -> Iterator[Event]:
        """Read every picture, then hold it against what is wanted."""
        wanted = self._wanted()
        work = Surveying(self.folder, cache=settings.cache_folder(), workers=self.workers)
        yield from work
        assert work.result is not None
        self.result = work.result, check(work.result, wanted)


def check_dataset(
    folder: Path,
    *,
    shown: str | None = None,
    side: int | None = None,
    trigger: str | None = None,
    kind: str | None = None,
    faces: bool = False,
    face_model: Path | None = None,
    person_model: Path | None = None,
    workers: int | None = 1,
) -> CheckingDataset:
    """Check a dataset, or the dataset of a project; what is not given is taken from the project around it.

    Args:
        folder: a dataset or a project.
        shown: the folder as the commands of findings name it.
        side: of the square of the training area, in pixels.
        trigger: the trigger word.
        kind: `style`, `character` or `concept`.
        faces: look for faces, with OpenCV.
        face_model: YuNet's ONNX file.
        person_model: SFace's ONNX file.
        workers: processes; None takes all cores.
    """
    project = project_of(folder)
    inside = folder / "dataset" if project == folder and (folder / "dataset").is_dir() else folder

    def wanted() -> Wanted:
        told = _told(project)
        words = trigger if trigger is not None else told.told.trigger
        return Wanted(
            side=side or told.side,
            kind=kind if kind is not None else told.kind,
            told=Told(words, told.told.count_tokens, told.told.token_limit),
            face_model=face_model,
            person_model=person_model,
            look_for_faces=faces,
            folder=place(shown or str(folder)),
        )

    return CheckingDataset(inside, wanted, workers=workers)


def project_of(folder: Path) -> Path | None:
    """The project that a folder is, or lies in; None where there is none."""
    return next((one for one in (folder, folder.parent) if (one / "recipe.toml").is_file()), None)


def recipe_of(folder: Path) -> tuple[Recipe, Path] | None:
    """The recipe that trains a folder, and its project: the folder itself, or the one whose dataset it is; or None.

    Raises:
        RecipeError: the recipe cannot be read.
    """
    folder = folder.absolute()
    project = project_of(folder)
    if project is None:
        return None
    recipe = recipes.load(project)
    own = {(project / one.path).resolve() for one in recipe.dataset.folders}
    return (recipe, project) if project == folder or folder.resolve() in own else None


def as_trained(folder: Path) -> tuple[Recipe, Pictures] | None:
    """The recipe that trains a folder, and each picture as it will train it; None where there is no project.

    Raises:
        VelaturaError: the recipe, the pictures or the base cannot be read.
    """
    from velatura.training.dataset import read

    told = recipe_of(folder)
    if told is None:
        return None
    recipe, project = told
    resolution = recipe.dataset.resolution or bases.resolution(base_of(recipe, project, fetch=False))
    return recipe, read(recipe, project, resolution=resolution)


def _told(project: Path | None) -> Wanted:
    """What the project says of its set; a recipe that cannot be read says nothing here, and is told by `plan`."""
    if project is None:
        return Wanted(told=Told("", clip_tokens(), CLIP_LIMIT))
    try:
        recipe = recipes.load(project)
        kind = brief.load(project).kind if (project / brief.FILE).is_file() else ""
    except VelaturaError:
        return Wanted()
    side, count, limit = recipe.dataset.resolution, None, None
    try:
        told = recipe.base
        files = bases.find(told.model, vae=told.vae, text_encoders=told.text_encoders, beside=project, fetch=False)
        side = side or bases.resolution(files)
        count, limit = token_counter(files)
    except VelaturaError:
        pass  # the base is not here; what needs it is not checked
    return Wanted(side=side, kind=kind, told=Told(recipe.dataset.trigger, count, limit))


def token_counter(files: BaseFiles) -> tuple[Callable[[str], int] | None, int | None]:
    """How the base cuts a caption, and how many tokens it reads at once; None where it reads any length alike.

    Raises:
        ModelError: no family knows the base, or a tokenizer is nowhere to be had.
    """
    readers = readers_of(files)
    if readers:
        shortest = min(readers, key=lambda one: one.longest)
        return shortest.count, shortest.longest
    if bases.locate(files).variant.family in CLIP_FAMILIES and files.model not in settings.BUILT_IN_BASES.values():
        return clip_tokens(), CLIP_LIMIT
    return None, None


def counting(folder: Path) -> Callable[[str], int]:
    """Tokens as the base of a dataset's project counts them, or as CLIP does where there is no project or base."""
    project = project_of(folder)
    return _told(project).told.count_tokens or clip_tokens()


def training_side(folder: Path) -> int | None:
    """The side in pixels that a dataset's project is trained at, or None where there is no project or base."""
    project = project_of(folder)
    return _told(project).side


def enlarger(name: str) -> Callable[[Image], Image]:
    """An upscale model that makes small pictures larger, by its file or its name.

    Raises:
        SettingsError: nothing has that name.
        MissingExtra: spandrel is not installed.
        ModelError: it is no such model.
    """
    from velatura.doctor.devices import devices
    from velatura.generation import upscalers

    if name in ("Lanczos", "Nearest", "None"):
        raise SettingsError(f"{name} is no model", fix="leave it out: without a model it is Lanczos")
    path = settings.find_upscaler(name)
    kinds = {one.kind for one in devices()}
    return upscalers.load(path, next(kind for kind in ("cuda", "mps", "cpu") if kind in kinds))


def clip_tokens() -> Callable[[str], int]:
    """CLIP's own count of tokens."""
    from velatura.text import clip_tokens as clip
    from velatura.text.clip_vocabulary import vocabulary

    return clip.build(vocabulary(), Path("clip")).count
