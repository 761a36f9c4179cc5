"""A set in numbers: how often each tag stands, which stand together, how long captions are, which buckets there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from velatura.dataset import buckets, images
from velatura.dataset.buckets import Size
from velatura.dataset.captioned import Captioned
from velatura.dataset.layout import Problem
from velatura.dataset.wording import words_of
from velatura.errors import DatasetError

LENGTHS = (25, 50, 75, 150, 225)
"""Tokens at which lengths are told apart; CLIP reads 75 at once."""

SMALL = 256
"""Sides below this are of small bases, whose buckets are finer."""

_PAIRED = 60
"""Of so many tags, the most common ones, pairs are counted."""


@dataclass(frozen=True)
class Together:
    """Two tags, and of the pictures that have the rarer one, the share that has both."""

    tags: tuple[str, str]
    count: int
    share: float


@dataclass(frozen=True)
class Statistics:
    """What the captions of a set come to."""

    pictures: int
    captioned: int
    captions: int
    frequencies: Counter[str]
    """Pictures that say each tag, or each word where captions are sentences."""
    together: tuple[Together, ...]
    """Tags that keep company, the most faithful first; they are learnt as one."""
    lengths: dict[str, int]
    """Captions of each length in tokens."""
    longest: int


def statistics(found: Sequence[Captioned], *, count: Callable[[str], int]) -> Statistics:
    """The numbers of captions.

    Args:
        found: the captions.
        count: tokens of a text, as the base cuts it.
    """
    texts = {one.name: " , ".join(one.captions) for one in found if one.captions and any(one.captions)}
    where = words_of(texts)
    counts = Counter({word: len(names) for word, names in where.items()})
    measured = [count(text) for one in found for text in one.captions or ()]
    return Statistics(
        pictures=len(found),
        captioned=sum(one.captions is not None for one in found),
        captions=len(measured),
        frequencies=counts,
        together=_together({word: set(where[word]) for word, _ in counts.most_common(_PAIRED)}, len(texts)),
        lengths=_lengths(measured),
        longest=max(measured, default=0),
    )


def bucket_table(found: Iterable[Captioned], *, side: int) -> tuple[list[tuple[Size, int]], list[Problem]]:
    """The sizes at which pictures are trained and how many at each, ascending; and pictures that cannot be read.

    Args:
        found: the captions, with their pictures.
        side: of the square of the training area, in pixels.
    """
    sizes, problems = list[Size](), list[Problem]()
    for one in found:
        try:
            sizes.append(images.picture_size(one.picture))
        except DatasetError as error:
            problems.append(Problem(one.name, f"is in no bucket: {error.what}"))
    step = 64 if side >= SMALL else 32
    groups = buckets.assign(sizes, area=(side, side), step=step, minimum=max(step, side // 2), maximum=side * 2)
    return [(one.size, len(one.pictures)) for one in groups], problems


def _together(where: dict[str, set[str]], pictures: int) -> tuple[Together, ...]:
    found = []
    for one, other in combinations(where, 2):
        both = len(where[one] & where[other])
        rarer = min(len(where[one]), len(where[other]))
        # Tags on every picture stand with everything, which says nothing.
        if both >= 2 and max(len(where[one]), len(where[other])) < pictures:
            found.append(Together((one, other), both, both / rarer))
    return tuple(sorted(found, key=lambda pair: (-pair.share, -pair.count, pair.tags)))


def _lengths(measured: Iterable[int]) -> dict[str, int]:
    counts = Counter(next((f"up to {most}" for most in LENGTHS if length <= most), "longer") for length in measured)
    return {name: counts[name] for name in (*(f"up to {most}" for most in LENGTHS), "longer") if counts[name]}
