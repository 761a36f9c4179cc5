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
from velatura.errors import SettingsError, nearest

FOLDER = Path(__file__).parent / "recipes"

FAMILIES = {"sd15-": "sd15", "sdxl-": "sdxl", "flux1-": "flux1", "z-image-": "z_image"}
"""How the names of recipes begin -> the family of bases that they are for."""


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
