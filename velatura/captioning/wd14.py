"""The WD14 family of taggers (v2, v3) through onnxruntime: a model and the CSV that names its outputs.

In goes a float picture of the model's own size, channels blue, green, red and last, values 0 to 255: padded to a
square with white, then resized. Out comes a probability for each line of the CSV, whose `category` is 9 for ratings,
0 for general tags and 4 for characters.
"""

from __future__ import annotations

import csv
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from velatura.captioning.captioner import Answer, Asked
from velatura.dataset.editing import tests_of
from velatura.dataset.wording import has_words, tag_key
from velatura.errors import DatasetError, MissingExtra, ModelError
from velatura.weights import fetching, hub

MODEL, TAGS = "model.onnx", "selected_tags.csv"
GENERAL, CHARACTER, RATING = "0", "4", "9"

PROVIDERS = ("CUDAExecutionProvider", "DmlExecutionProvider", "CPUExecutionProvider")
"""What computes, the first that is there. TensorRT is not among them: it would prepare itself for minutes."""

BALANCED = {
    "wd-v1-4-vit-tagger-v2": 0.3537,
    "wd-v1-4-convnext-tagger-v2": 0.3685,
    "wd-v1-4-convnextv2-tagger-v2": 0.3710,
    "wd-v1-4-moat-tagger-v2": 0.3771,
    "wd-v1-4-swinv2-tagger-v2": 0.3771,
    "wd-vit-tagger-v3": 0.2614,
    "wd-convnext-tagger-v3": 0.2682,
    "wd-swinv2-tagger-v3": 0.2653,
    "wd-vit-large-tagger-v3": 0.2606,
    "wd-eva02-large-tagger-v3": 0.5296,
}
"""Thresholds at which precision is recall, as the models' own pages give them."""
OTHERWISE = 0.35

Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Choice:
    """Which tags are taken, and how they are written."""

    general: float | None = None
    """Least probability of a general tag; None is the model's own balance of precision and recall, else 0.35."""
    character: float = 0.85
    most: int = 0
    """General tags at most, the most probable; 0 is no limit."""
    underscores: bool = False
    rating: bool = False
    """Put the most probable rating first."""
    undesired: tuple[str, ...] = ()
    """Tags that are never written; wildcards `*` and `?`."""
    by_confidence: bool = True
    """The most probable first, else in the CSV's order; characters stand before general tags."""


class WD14Tagger:
    """A tagger; several pictures at once where the model takes them."""

    def __init__(self, model: str | Path, choice: Choice | None = None, *, batch: int = 8) -> None:
        """Open a model.

        Args:
            model: the .onnx file or its folder, with selected_tags.csv beside it; or an id on Hugging Face.
            choice: which tags are taken.
            batch: pictures at once.

        Raises:
            ModelError: no such model, or not one of this kind.
            MissingExtra: onnxruntime is not installed.
        """
        path, self.model = _found(model)
        choice = choice or Choice()
        self.threshold = choice.general if choice.general is not None else BALANCED.get(self.model, OTHERWISE)
        self.choice = choice
        self.tags = _read_tags(path.with_name(TAGS))
        self._session = _session(path)
        given = self._session.get_inputs()[0]
        if len(given.shape) != 4 or given.shape[3] != 3 or not isinstance(given.shape[1], int):
            what = f"this model takes {given.shape}, not a picture with its channels last"
            raise ModelError(what, where=path, fix="give the ONNX file of a WD14 tagger")
        self._input, self.side = str(given.name), int(given.shape[1])
        self._fixed = given.shape[0] if isinstance(given.shape[0], int) else None
        self.batch = self._fixed or batch
        self._refuse_other_tags(self._session.get_outputs()[0].shape[-1])
        self.name = "wd14"
        self.settings: Mapping[str, object] = {"model": self.model, **asdict(choice), "general": self.threshold}

    def describe(self, asked: Sequence[Asked]) -> list[Answer]:
        """Tags of pictures, each as one caption."""
        answers: list[Answer] = [Answer()] * len(asked)
        places, pictures = [], []
        for place, one in enumerate(asked):
            try:
                pictures.append(prepared(one.image(), self.side))
                places.append(place)
            except DatasetError as error:
                answers[place] = Answer(why=error.what)
        for start in range(0, len(pictures), self.batch):
            for place, found in zip(
                places[start:], self.probabilities(pictures[start : start + self.batch]), strict=False
            ):
                tags = self.chosen(found)
                answers[place] = Answer((", ".join(tags),)) if tags else Answer(why="no tag is probable enough")
        return answers

    def probabilities(self, pictures: Sequence[Probabilities]) -> Probabilities:
        """Probabilities of all tags, pictures x tags; no more pictures than `batch`."""
        given = np.stack(pictures)
        if self._fixed is not None and len(pictures) < self._fixed:  # such a model takes no fewer
            given = np.concatenate([given, np.full((self._fixed - len(pictures), *given.shape[1:]), 255, np.float32)])
        try:
            found = self._session.run(None, {self._input: given})[0]
        except Exception as error:  # noqa: BLE001  # as in `_session`
            raise ModelError(f"the tagger failed ({_first_line(error)})", where=self.model) from None
        self._refuse_other_tags(found.shape[1])
        return np.asarray(found[: len(pictures)], dtype=np.float32)

    def _refuse_other_tags(self, count: object) -> None:
        """Names that are not the outputs' would be said of everything."""
        if isinstance(count, int) and count != len(self.tags):
            what = f"the model knows {count} tags, its {TAGS} names {len(self.tags)}"
            raise ModelError(what, where=self.model, fix="take both from the same release")

    def chosen(self, found: Probabilities) -> list[str]:
        """The tags that are probable enough, characters first, as they are written into a caption."""
        limits = {GENERAL: self.threshold, CHARACTER: self.choice.character}
        undesired = tests_of(self.choice.undesired)
        ranked = np.argsort(-found, kind="stable")
        listed = [int(index) for index in ranked]
        kept = {
            kind: [
                index
                for index in listed
                if self.tags[index][1] == kind and found[index] >= limit and not undesired(tag_key(self.tags[index][0]))
            ]
            for kind, limit in limits.items()
        }
        kept[GENERAL] = kept[GENERAL][: self.choice.most or None]
        ratings = [index for index in listed if self.tags[index][1] == RATING][: int(self.choice.rating)]
        order = (lambda indices: indices) if self.choice.by_confidence else sorted
        taken = [*ratings, *order(kept[CHARACTER]), *order(kept[GENERAL])]
        return [self.tags[index][0] if self.choice.underscores else spaced(self.tags[index][0]) for index in taken]


def prepared(picture: Image.Image, side: int) -> Probabilities:
    """The picture as the model takes it: side x side x (blue, green, red), 0 to 255."""
    longer = max(picture.size)
    square = Image.new("RGB", (longer, longer), (255, 255, 255))
    square.paste(picture, ((longer - picture.width) // 2, (longer - picture.height) // 2))
    if longer != side:
        square = square.resize((side, side), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(square, dtype=np.float32)[:, :, ::-1])


def spaced(tag: str) -> str:
    """The tag with spaces for underscores; faces such as `^_^` keep theirs."""
    return tag.replace("_", " ") if has_words(tag) else tag


def _read_tags(path: Path) -> list[tuple[str, str]]:
    """Name and category of each output."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [(row["name"], row["category"].strip()) for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, KeyError, AttributeError, csv.Error):
        fix = f"put the {TAGS} of the model's release beside it"
        raise ModelError("there is no list of the model's tags", where=path, fix=fix) from None


def _session(path: Path) -> Any:
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError:
        raise MissingExtra("taggers run with onnxruntime", fix="pip install 'velatura[caption]'") from None
    try:
        there = runtime.get_available_providers()
        return runtime.InferenceSession(str(path), providers=[one for one in PROVIDERS if one in there])
    except Exception as error:  # noqa: BLE001  # onnxruntime raises kinds of its own, without a common one
        raise ModelError(f"the model cannot be read ({_first_line(error)})", where=path, fix="fetch it again") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _found(model: str | Path) -> tuple[Path, str]:
    """The model's file, and its name."""
    path = Path(model)
    if path.is_dir():
        path = path / MODEL
    if path.is_file():
        return path, path.parent.name if path.name == MODEL else path.stem
    if isinstance(model, Path) or path.suffix == ".onnx" or not hub.is_id(model):
        fix = "give a folder with model.onnx and selected_tags.csv, or an id such as SmilingWolf/wd-vit-tagger-v3"
        raise ModelError("there is no such tagger", where=model, fix=fix)
    folder = fetching.files(model, (MODEL, TAGS), whole=lambda one: (one / MODEL).is_file() and (one / TAGS).is_file())
    return folder / MODEL, model.rpartition("/")[2]
