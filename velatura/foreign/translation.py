"""Settings of another trainer on their way into a recipe, with an account of each.

A trainer's module takes its settings one by one. What it takes it puts under our name, or leaves with a reason; what
it never asks for is left too, so nothing is lost without being named.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from velatura import recipe as recipes
from velatura.errors import RecipeError
from velatura.foreign.reasons import ABSENT

Kind = TypeVar("Kind")

NOTHING: tuple[object, ...] = (None, "", "none", "None", [], {})
"""What trainers write where nothing is told."""

OFF = (*NOTHING, False, 0, "0", "false", "False", "no")
"""What switches a setting off; `False` and `0` are also `0.0`."""


SECRETS = ("huggingface_token", "wandb_api_key", "secrets", "hf_token", "cloud")
"""What a file may hold and no list should show."""


@dataclass(frozen=True)
class Carried:
    """A setting that has arrived."""

    key: str
    """As the other trainer calls it."""
    value: Any
    setting: str
    """As it is called here: `train.steps`."""
    becomes: Any
    told: bool = True
    """Whether the file says so; else it is what that trainer does without being told."""


@dataclass(frozen=True)
class Left:
    """A setting that has not."""

    key: str
    value: Any
    why: str


@dataclass
class Translation:
    """Settings of one trainer, being carried over."""

    trainer: str
    """As it is known: "kohya-ss/sd-scripts"."""
    waiting: dict[str, Any]
    """What has not been taken yet."""
    where: Path
    names: Mapping[str, str] = field(default_factory=dict)
    """Key -> how the file calls it, where that differs."""
    tree: dict[str, Any] = field(default_factory=dict)
    """The recipe so far."""
    carried: list[Carried] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the user should know or do."""

    def told(self, key: str) -> bool:
        """Whether the file says anything of it that has not been taken yet."""
        return self.waiting.get(key) not in NOTHING

    def take(self, key: str, read: Callable[[Any], Kind], default: Kind) -> Kind:
        """The value of a setting, or what the trainer does without being told; it counts as seen.

        Raises:
            RecipeError: it is not of its kind.
        """
        value = self.waiting.pop(key, None)
        return default if value in NOTHING else self.value(key, value, read)

    def value(self, key: str, value: Any, read: Callable[[Any], Kind]) -> Kind:
        """A value that stands deeper in the file, as it should be.

        Raises:
            RecipeError: it is not of its kind.
        """
        try:
            return read(value)
        except (TypeError, ValueError, KeyError, OverflowError):
            what = f"{self.called(key)} is {short(value)}, which is not {KINDS.get(read, 'what it can be')}"
            raise RecipeError(what, where=self.where, fix="mend it in the file") from None

    def put(self, setting: str, value: Any, key: str, theirs: Any, *, told: bool = True) -> None:
        """Carry one setting over; where it does not fit here, it is left with the reason.

        What is switched off in both is not worth a word.

        Args:
            value: as it is said here.
            theirs: as it is said there.
            told: whether the file says so; else it is what that trainer does without being told.
        """
        if setting not in recipes.known_keys():
            if told and theirs not in OFF:
                self.leave(key, theirs, ABSENT)
            return
        grown = copy.deepcopy(self.tree)
        set_in(grown, setting, value)
        try:
            here = value_of(self._built(grown), setting)
        except RecipeError as error:
            self.leave(key, theirs, error.what)
            return
        usual = here == value_of(recipes.Recipe(), setting)
        if not usual or (told and theirs not in OFF):
            self.carried.append(Carried(self.called(key), theirs, setting, here, told))
            self.tree = grown

    def carry(self, key: str, setting: str, read: Callable[[Any], Any], default: Any = None) -> None:
        """Carry over a setting that means the same here.

        Args:
            default: what the trainer does without being told; None: what is done here.
        """
        told = self.told(key)
        value = self.take(key, read, default)
        if value is not None:
            self.put(setting, value, key, value, told=told)

    def leave(self, key: str, value: Any, why: str) -> None:
        """Name a setting that is not carried over, and why."""
        left = Left(self.called(key), "(not shown)" if key in SECRETS else value, why)
        if left not in self.left:
            self.left.append(left)

    def recipe(self) -> recipes.Recipe:
        """What has been carried over, as a recipe."""
        return self._built(self.tree)

    def _built(self, tree: dict[str, Any]) -> recipes.Recipe:
        newest = recipes.Recipe.model_fields["version"].default
        return recipes.build({"version": newest, **tree}, where=self.where)

    def leave_told(self, keys: Mapping[str, str], *, off: tuple[object, ...] = OFF) -> None:
        """Leave those of these settings that are told and switch something on.

        Args:
            keys: key -> why.
        """
        for key, why in keys.items():
            value = self.waiting.pop(key, None)
            if value not in off:
                self.leave(key, value, why)

    def leave_rest(self) -> None:
        """Leave everything that was never asked for."""
        for key, value in self.waiting.items():
            if value not in NOTHING:
                self.leave(key, value, f"not known as a setting of {self.trainer}")
        self.waiting = {}

    def called(self, key: str) -> str:
        """How the file calls a setting."""
        return self.names.get(key, key)


def value_of(recipe: recipes.Recipe, setting: str) -> Any:
    """A setting of a recipe, by its full name."""
    place: Any = recipe
    for name in setting.split("."):
        place = getattr(place, name)
    return place


def set_in(tree: dict[str, Any], setting: str, value: Any) -> None:
    """Set a value in a tree by its full name."""
    *groups, name = setting.split(".")
    for group in groups:
        tree = tree.setdefault(group, {})
    tree[name] = value


def short(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value) if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def number(value: Any) -> float:
    """A number; text that is one, too."""
    if isinstance(value, bool | list | dict):
        raise TypeError
    found = float(value)
    if not math.isfinite(found):
        raise ValueError
    return found


def whole(value: Any) -> int:
    """A number without a fraction."""
    found = number(value)
    if found != int(found):
        raise ValueError
    return int(found)


def flag(value: Any) -> bool:
    """True or false, in the ways that files write it."""
    if isinstance(value, str):
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[value.lower()]
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise TypeError


def text(value: Any) -> str:
    """Text; a number is taken for its digits."""
    if isinstance(value, list | dict | bool):
        raise TypeError
    return str(value)


def words(value: Any) -> list[str]:
    """Several words, in a list or with spaces between them."""
    if isinstance(value, str):
        return value.replace('"', "").split()
    if isinstance(value, list):
        return [text(one) for one in value]
    return [text(value)]


def numbers(value: Any) -> list[float]:
    """Several numbers, in a list or with spaces between them."""
    return [number(one) for one in words(value)]


KINDS: Mapping[Callable[[Any], Any], str] = {
    number: "a number",
    whole: "a whole number",
    flag: "true or false",
    text: "text",
    words: "a list of words",
    numbers: "a list of numbers",
}
"""How a message calls what a setting should be."""
