"""How a caption is told: trigger, prefix and suffix added, wildcards filled in, tags shuffled and some left out.

    "inkwash, a {red|blue} boat, sea, clouds"  ->  "inkwash, clouds, a blue boat"

What depends on chance is drawn ahead, as a number of wordings of each caption: they are encoded once, and a step takes
one of them. Order of the rules and their meaning are those of kohya-ss/sd-scripts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from velatura import randomness
from velatura.dataset.captions import read_captions, with_trigger
from velatura.errors import DatasetError
from velatura.recipe import FolderSettings

FOLDER = "wildcards"
"""Folder beside the recipe with the files of wildcards."""

Lists = Mapping[str, Sequence[str]]
"""Name of a wildcard -> what it may stand for."""

_OPEN, _CLOSED = "\ue000", "\ue001"
"""Stand for doubled braces while choices are made; no caption holds them (Unicode's private use)."""

_CHOICE = re.compile(r"\{([^{}]+)\}")
_LISTED = re.compile(r"__([\w/-]+?)__")

DEEPEST = 50
"""Choices within choices, and wildcards whose lines name wildcards: more are taken for a circle."""


def varies(caption: str, rules: FolderSettings) -> bool:
    """Whether the caption is not always told in the same words."""
    chosen = rules.wildcards and (_CHOICE.search(_escaped(caption)) or _LISTED.search(caption))
    tags = len(_split(caption, rules)[1])
    return bool(chosen or (rules.shuffle and tags > 1) or (rules.tag_dropout and tags))


def told(caption: str, rules: FolderSettings, lists: Lists, *, seed: int) -> str:
    """The caption as it is told where nothing is shuffled or left out: the words a picture is judged by."""
    return _wording(caption, rules, lists, seed=seed, number=0, moved=False)


def wordings(caption: str, rules: FolderSettings, lists: Lists, *, seed: int) -> tuple[str, ...]:
    """All wordings of a caption that a run may tell; one where nothing about it is left to chance."""
    if not varies(_worded(caption, rules), rules):
        return (told(caption, rules, lists, seed=seed),)
    numbers = range(rules.variants)
    return tuple(_wording(caption, rules, lists, seed=seed, number=number, moved=True) for number in numbers)


def read_lists(folder: Path, captions: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The files of the wildcards that the captions name, those that their lines name included.

    Raises:
        DatasetError: one is missing or empty.
    """
    lists: dict[str, tuple[str, ...]] = {}
    waiting = list(captions)
    while waiting:
        for name in dict.fromkeys(_LISTED.findall(waiting.pop())):
            if name in lists:
                continue
            path = folder / f"{name}.txt"
            if name.startswith("/") or not path.is_file():  # captions may come from elsewhere, lists may not
                fix = f"write what it may stand for into {FOLDER}/{name}.txt, one to a line"
                raise DatasetError(f"a caption names the wildcard __{name}__, and there is no such file", fix=fix)
            lists[name] = tuple(line for line in read_captions(path).captions if line and not line.startswith("#"))
            if not lists[name]:
                raise DatasetError("this wildcard stands for nothing", where=path, fix="write one thing to a line")
            waiting += lists[name]
    return lists


def _wording(caption: str, rules: FolderSettings, lists: Lists, *, seed: int, number: int, moved: bool) -> str:
    """One wording, its tags shuffled and left out where `moved`."""
    draw = randomness.generator(seed, "wording", caption, number)
    text = _filled(_worded(caption, rules), rules, lists, draw)
    if rules.shuffle or rules.tag_dropout or rules.keep_separator:
        fixed, free, last = _split(text, rules)
        if moved and rules.shuffle:
            free = [free[int(place)] for place in draw.permutation(len(free))]
        if moved and rules.tag_dropout:
            kept = draw.random(len(free)) >= rules.tag_dropout
            free = [tag for tag, stays in zip(free, kept, strict=True) if stays]
        text = ", ".join([*fixed, *free, *last])
    return with_trigger(text, rules.trigger)  # what tag dropout or a choice took away is there again


def _worded(caption: str, rules: FolderSettings) -> str:
    """With trigger, prefix and suffix."""
    return " ".join(filter(None, (rules.prefix, with_trigger(caption, rules.trigger), rules.suffix)))


def _split(caption: str, rules: FolderSettings) -> tuple[list[str], list[str], list[str]]:
    """The tags that stay at the beginning, those that are free, and those that stay at the end."""

    def tags(part: str) -> list[str]:
        return [tag.strip() for tag in part.split(rules.separator) if tag.strip()]

    if rules.keep_separator and rules.keep_separator in caption:
        first, _, rest = caption.partition(rules.keep_separator)
        free, _, last = rest.partition(rules.keep_separator)
        return tags(first), tags(free), tags(last)
    every = tags(caption)
    return every[: rules.keep_tokens], every[rules.keep_tokens :], []


def _filled(caption: str, rules: FolderSettings, lists: Lists, draw: np.random.Generator) -> str:
    """With every choice made, the innermost first.

    Raises:
        DatasetError: wildcards name one another in a circle.
    """
    if not rules.wildcards:
        return caption
    text = _escaped(caption)
    for _ in range(DEEPEST):
        chosen = _LISTED.sub(lambda found: _one_of(_list_of(found[1], lists), draw), text)
        chosen = _CHOICE.sub(lambda found: _one_of(found[1].split("|"), draw), chosen)
        if chosen == text:
            return text.replace(_OPEN, "{").replace(_CLOSED, "}")
        text = _escaped(chosen)
    raise DatasetError(f"the wildcards of a caption name one another in a circle: {caption}", fix="leave one out")


def _escaped(text: str) -> str:
    return text.replace("{{", _OPEN).replace("}}", _CLOSED)


def _list_of(name: str, lists: Lists) -> Sequence[str]:
    if name not in lists:
        what = f"a choice in a caption comes to the wildcard __{name}__, which is not named as such in it"
        raise DatasetError(what, fix="name wildcards whole: {__cats__|__dogs__} instead of __{cats|dogs}__")
    return lists[name]


def _one_of(choices: Sequence[str], draw: np.random.Generator) -> str:
    return choices[int(draw.integers(len(choices)))]
