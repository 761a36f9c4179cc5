"""What is trained on and what is held out to judge by.

Which pictures are held out is a function of their content and the seed: neither names nor the order
of files matter, and one more picture changes the choice by about one. Near-duplicates stay together,
or a held-out picture would have been trained on after all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from velatura.dataset.duplicates import near_duplicates
from velatura.dataset.scan import Dataset
from velatura.randomness import key

FEWEST, MOST = 2, 8
"""Bounds on the number held out: one picture measures nothing, and eight say what more would."""

TOO_FEW = 4
"""With so few pictures every one is needed for training."""


@dataclass(frozen=True)
class Split:
    """Indices into the dataset's pictures, each in ascending order."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]


def kept_back(count: int, share: float) -> int:
    """How many of so many pictures are held out, where no two are nearly the same."""
    return 0 if count <= TOO_FEW or share == 0 else min(MOST, max(FEWEST, int(share * count + 0.5)))


def hold_out(
    dataset: Dataset,
    *,
    share: float = 0.2,
    seed: int = 0,
    groups: Sequence[Sequence[int]] | None = None,
) -> Split:
    """Hold out a share of the pictures, between 2 and 8; none of four or fewer, or at a share of 0.

    Args:
        dataset: the pictures.
        share: of all pictures, from 0 to below 1.
        seed: another seed chooses others.
        groups: indices that stay together; near-duplicates are looked for where None.

    Raises:
        ValueError: the share is not in [0, 1).
        DatasetError: a picture can no longer be read.
    """
    if not 0 <= share < 1:
        raise ValueError(f"the share held out lies from 0 to below 1, not {share}")
    count = len(dataset.pictures)
    wanted = kept_back(count, share)
    if not wanted:
        return Split(tuple(range(count)), ())
    together = near_duplicates(dataset.pictures) if groups is None else groups
    chosen: set[int] = set()
    for group in _shuffled(dataset, together, seed):
        if len(chosen) + len(group) <= wanted:
            chosen.update(group)
    if not chosen:
        chosen = _smallest_that_leaves_half(_shuffled(dataset, together, seed), count)
    train = tuple(index for index in range(count) if index not in chosen)
    return Split(train, tuple(sorted(chosen)))


def _shuffled(dataset: Dataset, together: Sequence[Sequence[int]], seed: int) -> list[tuple[int, ...]]:
    """All groups, lone pictures included, in an order drawn from their content."""
    grouped = {index for group in together for index in group}
    alone = [(index,) for index in range(len(dataset.pictures)) if index not in grouped]

    def drawn(group: Sequence[int]) -> int:
        return min(key(seed, "hold out", dataset.pictures[index].sha256) for index in group)

    return sorted([*alone, *(tuple(group) for group in together)], key=drawn)


def _smallest_that_leaves_half(shuffled: list[tuple[int, ...]], count: int) -> set[int]:
    """Where every group is larger than what is wanted: the smallest, if half of the pictures stay."""
    smallest = min(shuffled, key=len)
    return set(smallest) if 2 * len(smallest) <= count else set()
