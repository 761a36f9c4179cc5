"""What may appear where: the objects, settings, times and colours that scenes are composed of.

One tenth of all (object, colour, setting) combinations is never drawn for training, so that
recombining known parts can be measured: `is_unseen` says which.
"""

from __future__ import annotations

import hashlib

from velatura.pocket import creatures, objects
from velatura.pocket.objects import Draw
from velatura.pocket.palette import COLOURS

COLOUR_WORDS: tuple[str, ...] = tuple(COLOURS)

SETTINGS: tuple[str, ...] = (
    "green hills",
    "desert",
    "snow",
    "sea",
    "mountains",
    "beach",
    "forest",
    "city",
)
TIMES: tuple[str, ...] = ("day", "sunset", "night")
PEOPLE: tuple[str, ...] = ("woman", "man", "child")

DRAWN: dict[str, Draw] = {
    "house": objects.house,
    "tree": objects.tree,
    "pine tree": objects.pine_tree,
    "car": objects.car,
    "boat": objects.boat,
    "cat": creatures.cat,
    "dog": creatures.dog,
    "bird": creatures.bird,
    "fish": creatures.fish,
    "flower": objects.flower,
    "hot air balloon": objects.hot_air_balloon,
    "lighthouse": objects.lighthouse,
    "mushroom": objects.mushroom,
    "cactus": objects.cactus,
    "snowman": creatures.snowman,
    "rocket": objects.rocket,
    "mug": objects.mug,
    "apple": objects.apple,
    "pear": objects.pear,
    "vase": objects.vase,
    "bottle": objects.bottle,
    "book": objects.book,
    "teapot": objects.teapot,
}

TABLE: tuple[str, ...] = ("mug", "apple", "pear", "vase", "bottle", "book", "teapot", "cat")
"""What stands on a table; the cat does so too."""

_WATER = ("boat", "fish")
# A boat is what most people would put on the sea.
_AFLOAT = ("boat", "boat", "fish", "lighthouse", "hot air balloon", "bird")
_LAND = tuple(kind for kind in DRAWN if kind not in _WATER and (kind == "cat" or kind not in TABLE))

NATURAL: dict[str, tuple[str, ...]] = {
    "tree": ("green",),
    "pine tree": ("green",),
    "cactus": ("green",),
    "apple": ("red", "green", "yellow"),
    "pear": ("green", "yellow"),
}
"""Kinds that are drawn in their natural colours more often than in others."""

PLURALS: dict[str, str] = {
    "house": "houses",
    "fish": "fish",
    "cactus": "cacti",
    "snowman": "snowmen",
    "mug": "mugs",
    "woman": "women",
    "man": "men",
    "child": "children",
}
"""Plurals, where they are not the word with an s."""


def plural(kind: str) -> str:
    """The word for several of a kind."""
    return PLURALS.get(kind, kind + "s")


def kinds_in(setting: str) -> tuple[str, ...]:
    """The objects that may appear in a setting: outdoors, "table" or "portrait".

    Raises:
        ValueError: no such setting.
    """
    if setting == "portrait":
        return PEOPLE
    if setting == "table":
        return TABLE
    if setting == "sea":
        return _AFLOAT
    if setting == "beach":
        return (*_LAND, "boat")
    if setting in SETTINGS:
        return _LAND
    raise ValueError(f"no setting {setting!r}; there are {', '.join(SETTINGS)}, table and portrait")


def is_unseen(kind: str, colour: str, setting: str) -> bool:
    """Whether a combination is held out of training.

    Args:
        kind: an object, or "woman", "man", "child".
        colour: its colour word; a person's is the shirt's.
        setting: an outdoor setting, or the colour word of the wall or background indoors.

    The answer is a hash of the three words: the same on every machine, for ever.
    """
    words = f"{kind}|{colour}|{setting}".encode()
    return int.from_bytes(hashlib.sha256(words).digest()[:4], "big") % 10 == 0
