"""Noise of a Brownian path: what samplers of the stochastic equation draw in A1111.

The path of a picture is a function of its seed alone. Wherever a sampler steps, it gets the increments of that path
between its noise levels, so more steps see the same path more finely. The path is a binary tree: the increment over an
interval is split at its middle with a normal number of the node's own seed, down to the noise level asked for, rounded
to a millionth. Tree, seeds and the order of computation are those of torchsde's `BrownianTree`, as k-diffusion uses it.
Its nodes take their seeds from numpy's `SeedSequence`; of what that mixes, only the one word that counts is computed.
Source: Levy's construction; Kidger et al. 2021, arXiv:2105.13493 (the seeds of a tree); O'Neill 2015, "Developing a
seed_seq alternative" (the mixing).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

DIGITS = 6
"""Decimals that noise levels are rounded to."""
POOL = 24
"""Words of entropy that a node's seed is made from."""
WORD = 2**32
INTO_POOL = 0x43B0D7E5, 0x931E8875
"""What words are hashed with on their way into the pool: the first factor, and what the next one is times it."""
OUT_OF_POOL = 0x8B51F9DD, 0x58F38DED
MIXED = 0xCA01F9DD, 0x4973F715
FACTOR = INTO_POOL[0] * pow(INTO_POOL[1], POOL * POOL, WORD) % WORD
"""With which the first word of a place is mixed into the pool's first: the seed has used up the ones before."""
FACTOR_STEP = pow(INTO_POOL[1], POOL, WORD)
"""From there to that of the next word, which goes into every word of the pool."""
KEPT = 96
"""Increments that are kept: a step's ends lie some 24 nodes deep each, and the next step begins at one of them."""

Normals = Callable[[Sequence[int]], Tensor]
"""Unit noise of pictures from a seed of each, (N, *), that holds until the next is drawn."""


class Path:
    """The Brownian paths of some pictures over the noise levels from low to high; N pictures, * a picture's shape.

    A node has the same place in the tree of every picture, so what is not drawn is worked out for all at once.
    """

    def __init__(self, seeds: Sequence[int], low: float, high: float, normals: Normals) -> None:
        """Only the increments over all of it are drawn yet."""
        low, high = as_float32(low), as_float32(high)
        self._roots, self._normals = [root_of(seed) for seed in seeds], normals
        self._ends = round(low, DIGITS), round(high, DIGITS)
        self._whole = self._drawn(()) * math.sqrt(high - low)
        self._left: OrderedDict[tuple[int, int], Tensor] = OrderedDict()

    def increment(self, low: float, high: float) -> Tensor:
        """The increments between two noise levels, low < high, (N, *)."""
        ends = max(round(low, DIGITS), self._ends[0]), min(round(high, DIGITS), self._ends[1])
        first, *others = self._pieces(ends, self._ends, (0, 0), self._whole, [])
        total = first.clone()
        for piece in others:
            total += piece
        return total

    def _pieces(
        self,
        asked: tuple[float, float],
        node: tuple[float, float],
        place: tuple[int, int],
        whole: Tensor,
        found: list[Tensor],
    ) -> list[Tensor]:
        """The increments of the nodes that make up an interval, from low to high, behind those that are found.

        Args:
            asked: the interval, inside the node's.
            node: the node's interval.
            place: which node of its level it is, and the level.
            whole: its increments.
            found: what comes before.
        """
        while asked != node:
            middle = round(0.5 * (node[1] + node[0]), DIGITS)
            left = self._left_part(node, middle, place, whole)
            number, level = place
            lower, upper = (2 * number, level + 1), (2 * number + 1, level + 1)
            if asked[1] <= middle:
                node, place, whole = (node[0], middle), lower, left
                continue
            if asked[0] < middle:
                self._pieces((asked[0], middle), (node[0], middle), lower, left, found)
            asked = max(asked[0], middle), asked[1]
            node, place, whole = (middle, node[1]), upper, whole - left
        found.append(whole)
        return found

    def _left_part(self, node: tuple[float, float], middle: float, place: tuple[int, int], whole: Tensor) -> Tensor:
        """The increments over the lower part of a node: their share, and noise that both parts have, once added."""
        if place in self._left:
            self._left.move_to_end(place)
            return self._left[place]
        share = 1 / (node[1] - node[0])
        below, above = middle - node[0], node[1] - middle
        noise = self._drawn(place).mul_(math.sqrt(below * above * share))
        found = self._left[place] = (whole * below).mul_(share).add_(noise)  # in this order, as torchsde rounds it
        if len(self._left) > KEPT:
            self._left.popitem(last=False)
        return found

    def _drawn(self, place: tuple[int, ...]) -> Tensor:
        """Unit noise of a node, (N, *)."""
        return self._normals(node_seeds(self._roots, place))


def root_of(seed: int) -> int:
    """What a picture's seed brings to the seeds of all its nodes: the first word of the pool, before any place."""
    return int(np.random.SeedSequence(seed, pool_size=POOL).pool[0])


def node_seeds(roots: Sequence[int], place: Sequence[int]) -> list[int]:
    """The first word that numpy's `SeedSequence` gives for each picture's seed with a place in the tree as spawn key.

    Args:
        roots: of the pictures.
        place: which node of its level it is, and the level; nothing for the whole path.
    """
    factor, mixed_in = FACTOR, []
    for number in place:
        while True:
            mixed_in.append(MIXED[1] * _hashed(number % WORD, factor, INTO_POOL[1]))
            factor = factor * FACTOR_STEP % WORD
            number //= WORD
            if not number:
                break
    found = []
    for pool in roots:
        for word in mixed_in:
            pool = (MIXED[0] * pool - word) % WORD
            pool ^= pool >> 16
        found.append(_hashed(pool, *OUT_OF_POOL))
    return found


def _hashed(word: int, factor: int, step: int) -> int:
    word = (word ^ factor) * (factor * step % WORD) % WORD
    return word ^ word >> 16


def unit_noise(path: Path, sigma: float, following: float) -> Tensor:
    """The paths' noise for a step down, of unit variance, (N, *)."""
    high, low = as_float32(sigma), as_float32(following)
    return path.increment(low, high) * -1 / float(np.sqrt(np.float32(high) - np.float32(low)))


def as_float32(sigma: float) -> float:
    """The noise level as A1111 counts it."""
    return float(np.float32(sigma))
