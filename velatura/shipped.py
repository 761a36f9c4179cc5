"""The recipes that come with the program, each traced to a practice that is known to work.

They are files in `velatura/recipes`: the first comment says what a recipe is for, the comments below it where its
figures come from. A recipe may name its base only by its kind; `velatura new --base` puts in the user's own.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velatura import recipe as recipes
from velatura.dataset.split import kept_back
from velatura.errors import SettingsError, nearest

FOLDER = Path(__file__).parent / "recipes"

FAMILIES = {"sd15-": "sd15", "sdxl-": "sdxl", "flux1-": "flux1", "z-image-": "z_image"}
"""How the names of recipes begin -> the family of bases that they are for."""


MOST_STEPS = 4000
"""Steps that a recipe with repeats comes to, at most."""

FEWEST = 25
"""Pictures that the practice is for, at least; fewer are not repeated more often than so many."""


def repeats(told: recipes.Recipe, pictures: int) -> int:
    """How often an epoch should hold each of so many pictures, for the epochs to come to `MOST_STEPS` at most.

    The practice of trainers for Pony and Illustrious; short batches may add a few steps.
    """
    epochs = told.train.epochs or 1
    together = told.train.batch * told.train.accumulation
    trained = pictures - kept_back(pictures, told.dataset.hold_out)
    return max(1, MOST_STEPS * together // (epochs * max(trained, FEWEST)))


@dataclass(frozen=True)
class Shipped:
    """One of them."""

    name: str
    text: str
    """The whole file."""

    @property
    def about(self) -> str:
        """What it is for, in a sentence."""
        return self.comments[0] if self.comments else ""

    @property
    def comments(self) -> tuple[str, ...]:
        """The paragraphs of comments in front of the settings."""
        lines = []
        for line in self.text.splitlines():
            if not line.startswith("#"):
                break
            lines.append(line.removeprefix("#").strip())
        return tuple(part.replace("\n", " ") for part in "\n".join(lines).split("\n\n") if part)

    @property
    def family(self) -> str:
        """The family of bases that it is for; empty where any will do."""
        return next((family for start, family in FAMILIES.items() if self.name.startswith(start)), "")

    def fitted(self, pictures: int) -> dict[str, Any]:
        """Its settings for so many pictures: where it repeats them, as often as makes no more than `MOST_STEPS`."""
        tree = self.tree
        if "repeats" in tree.get("dataset", {}) and pictures:
            tree["dataset"]["repeats"] = repeats(self.recipe, pictures)
        return tree

    @property
    def tree(self) -> dict[str, Any]:
        """Its settings as plain values."""
        return tomllib.loads(self.text)

    @property
    def recipe(self) -> recipes.Recipe:
        """Its settings."""
        return recipes.build(self.tree, where=self.name)


def every() -> list[Shipped]:
    """All of them, by name."""
    return [Shipped(path.stem, path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.toml"))]


def find(name: str) -> Shipped:
    """The one of this name.

    Raises:
        SettingsError: there is none; the nearest is named.
    """
    known = {one.name: one for one in every()}
    if name not in known:
        close = nearest(name, list(known))
        fix = f"did you mean {close}?" if close else "`velatura recipe list` names them"
        raise SettingsError(f"no recipe is called {name}", fix=fix)
    return known[name]
