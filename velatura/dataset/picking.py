"""Choosing thirty of three thousand: filters over what is measured, and picks that are varied or balanced.

A pick is a proposal in an order of its own: the first ten of forty are themselves a varied ten.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from velatura.dataset import alike, checks, choice, filters
from velatura.dataset.survey import Surveyed
from velatura.errors import DatasetError, counted

KEYS = (
    "width", "height", "pixels", "shape", "bytes", "sharpness", "noise", "brightness", "contrast", "saturation",
    "detail", "captions", "status", "framing", "origin", "name",
)  # fmt: skip
"""What pictures are filtered and sorted by."""

FRAMINGS = ("close", "half", "whole")
"""How much of the picture has detail, and so roughly how near the subject is: it fills it, half of it, less."""


@dataclass(frozen=True)
class Pick:
    """A proposal, and what it lacks."""

    names: tuple[str, ...]
    missing: tuple[str, ...]


def value(one: Surveyed, key: str, status: str = "undecided") -> float | str | None:
    """What a picture is filtered by under a name of `KEYS`."""
    picture, measures = one.picture, one.measures
    values: dict[str, float | str | None] = {
        "width": picture.width,
        "height": picture.height,
        "pixels": picture.width * picture.height / 1e6,
        "shape": picture.width / picture.height,
        "bytes": one.file.bytes,
        "captions": len(picture.captions or ()),
        "status": status,
        "framing": framing(one),
        "origin": one.file.origin or "unknown",
        "name": picture.name,
    }
    if key in values:
        return values[key]
    found: float | None = getattr(measures, key)
    return found


def framing(one: Surveyed) -> str:
    """`close`, `half` or `whole`, from how much of the picture has detail."""
    detail = one.measures.detail
    return FRAMINGS[0] if detail > 0.55 else FRAMINGS[1] if detail > 0.22 else FRAMINGS[2]


def matching(pictures: Sequence[Surveyed], terms: Sequence[str], made: choice.Choice) -> list[Surveyed]:
    """The pictures for which every filter holds: `width>=1024`, `status=undecided and not tag:hat`.

    A value that is not measured holds for no term but `!=`.

    Raises:
        DatasetError: a filter that cannot be read, naming the nearest key.
    """
    tests = [filters.parse(text, (*KEYS, "tag", "caption", "tags", "letters")) for text in terms]

    def holds(one: Surveyed) -> bool:
        status = made.status(one.picture.name)
        sayings = one.picture.captions or ("",)
        return all(
            any(test(lambda key, said=said: _looked_up(one, key, status, said)) for said in sayings)  # type: ignore[misc]
            for test in tests
        )

    return [one for one in pictures if holds(one)]


def _looked_up(one: Surveyed, key: str, status: str, said: str) -> filters.Value:
    return value(one, key, status) if key in KEYS else filters.of_caption(said, key)


def diverse(pictures: Sequence[Surveyed], count: int, *, kept: Sequence[str] = ()) -> Pick:
    """As unlike one another as can be, and each of good quality: the farthest from all taken so far, one by one.

    Args:
        pictures: to choose from.
        count: how many, those kept included.
        kept: names that are taken in any case.
    """
    if not pictures:
        return Pick((), (counted(count, "picture"),))
    vectors = alike.features([one.measures for one in pictures])
    worth = np.array([_quality(one) for one in pictures], dtype=np.float32)
    names = [one.picture.name for one in pictures]
    taken = [names.index(name) for name in kept if name in names]
    nearest_taken = np.full(len(pictures), np.inf, dtype=np.float32)
    for index in taken:
        nearest_taken = np.minimum(nearest_taken, np.linalg.norm(vectors - vectors[index], axis=1))
    if not taken:
        centre = np.linalg.norm(vectors - vectors.mean(0), axis=1)
        taken.append(int((worth / (1 + centre)).argmax()))  # a good and typical one first
        nearest_taken = np.linalg.norm(vectors - vectors[taken[0]], axis=1)
    while len(taken) < min(count, len(pictures)):
        scores = nearest_taken * (0.05 + 0.95 * worth)
        scores[taken] = -1
        best = int(scores.argmax())
        taken.append(best)
        nearest_taken = np.minimum(nearest_taken, np.linalg.norm(vectors - vectors[best], axis=1))
    return Pick(tuple(names[index] for index in taken), _lacking(len(taken), count))


def balanced(pictures: Sequence[Surveyed], count: int, *, by: str = "framing", kept: Sequence[str] = ()) -> Pick:
    """As many of each kind as there can be, each kind's own as varied as can be; what is short is named.

    Args:
        pictures: to choose from.
        count: how many.
        by: `framing` or `origin`.
        kept: names that are taken in any case.
    """
    if by not in ("framing", "origin"):
        raise DatasetError(f"a pick cannot be balanced by {by}", fix="use framing or origin")
    groups: dict[str, list[Surveyed]] = defaultdict(list)
    for one in pictures:
        groups[str(value(one, by))].append(one)
    wanted_kinds = list(FRAMINGS) if by == "framing" else sorted(groups)
    kind_of = {one.picture.name: str(value(one, by)) for one in pictures}
    names = [name for name in kept if name in kind_of]
    had = Counter(kind_of[name] for name in names)
    orders = {
        kind: [name for name in diverse(groups[kind], count + len(names), kept=kept).names if name not in names]
        for kind in wanted_kinds
        if groups[kind]
    }
    while len(names) < count and (left := [kind for kind in orders if orders[kind]]):
        scarcest = min(left, key=had.__getitem__)
        names.append(orders[scarcest].pop(0))
        had[scarcest] += 1
    share = count // max(1, len(wanted_kinds))
    missing = []
    for kind in wanted_kinds:
        having = sum(str(value(one, by)) == kind for one in pictures if one.picture.name in names)
        if having < share:
            missing.append(f"{share - having} of {by} {kind}: there are {len(groups[kind])}, {share} would be even")
    return Pick(tuple(names), (*missing, *_lacking(len(names), count)))


def _quality(one: Surveyed) -> float:
    """How sound a picture is, 0 to 1: a fault that a check finds counts, beauty does not."""
    if one.measures.contrast < checks.FLAT:
        return 0.0
    sharp = 0.6 if one.measures.sharpness is None else min(1.0, max(0.0, (one.measures.sharpness - 0.2) / 0.5))
    return float(sharp * 0.5 ** checks.faults(one))


def _lacking(found: int, count: int) -> tuple[str, ...]:
    return () if found >= count else (f"{counted(count - found, 'picture')}: there are no more than {found}",)
