"""Captions as they are edited: which file each stands in, what it says, and what it is found by.

Only captions are read, no picture but for its size where a filter asks for it, so that ten thousand take a second.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from velatura.dataset import authors, choice, filters, images, layout
from velatura.dataset.captions import read_captions
from velatura.dataset.layout import Entry, Problem
from velatura.dataset.reframing import pick_named
from velatura.dataset.scan import nothing
from velatura.errors import DatasetError


@dataclass(frozen=True)
class Captioned:
    """One caption file, also one that is still to be written, and the picture that it belongs to.

    `captions` is None where nothing is said anywhere, and ("",) where an empty file says so.
    """

    name: str
    picture: Path
    file: str
    """The caption's path inside the dataset, with forward slashes."""
    captions: tuple[str, ...] | None


def read(folder: Path, names: Sequence[str] = ()) -> tuple[list[Captioned], list[Problem]]:
    """The captions of the chosen pictures, or of those that are named, in natural order; and files that are not text.

    Pictures that share a caption file are there once.

    Raises:
        DatasetError: no such folder or picture, or no picture at all.
    """
    found = layout.find(folder)
    made = choice.load(folder)
    if names:
        entries = pick_named(found.entries, names, folder)
    else:
        entries = [entry for entry in found.entries if made.chosen(entry.name)]
    if not entries:
        raise nothing(folder, found.problems, tuple(entry.name for entry in found.entries))
    captions_in = folder / "captions" if (folder / "captions").is_dir() and found.kind == "folders" else None
    captioned, problems, seen = list[Captioned](), list[Problem](), set[str]()
    start = len(str(folder)) + 1
    for entry in entries:
        path = entry.caption_files[0] if entry.caption_files else _new_file(entry, captions_in)
        file = str(path)[start:].replace(os.sep, "/")
        if file in seen:
            continue
        seen.add(file)
        try:
            said = read_captions(path).captions if entry.caption_files else entry.told
        except DatasetError as error:
            problems.append(Problem(file, f"is left as it is: {error.what}"))
            continue
        captioned.append(Captioned(entry.name, entry.path, file, said))
    return captioned, problems


def matching(
    captioned: Iterable[Captioned],
    text: str,
    *,
    count_tokens: Callable[[str], int] | None = None,
    written: authors.Authors | None = None,
) -> list[Captioned]:
    """Those for which a filter holds, by one of their captions at least; `filters` says how it is written.

    Args:
        captioned: to choose from.
        text: the filter.
        count_tokens: as the base counts them; without, `tokens` cannot be filtered by.
        written: who wrote the captions.

    Raises:
        DatasetError: the filter cannot be read, or asks for what is not known.
    """
    test = filters.parse(text)

    def value(one: Captioned, said: str, key: str) -> filters.Value:
        if key == "name":
            return one.name
        if key == "captions":
            return len(one.captions or ())
        if key in ("width", "height"):
            return images.picture_size(one.picture)[key == "height"]
        if key == "author":
            return (written or authors.Authors()).of(one.name, one.captions)
        if key == "tokens":
            if count_tokens is None:
                raise DatasetError("tokens are counted as a base counts them", fix="give the function that counts them")
            return count_tokens(said)
        return filters.of_caption(said, key)

    return [one for one in captioned if any(test(_lookup(value, one, said)) for said in one.captions or ("",))]


def _lookup(value: Callable[[Captioned, str, str], filters.Value], one: Captioned, said: str) -> filters.Lookup:
    return lambda key: value(one, said, key)


def _new_file(entry: Entry, captions_in: Path | None) -> Path:
    return captions_in / f"{entry.path.stem}.txt" if captions_in else entry.path.with_suffix(".txt")
