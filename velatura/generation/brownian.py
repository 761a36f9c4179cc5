"""Noise of a Brownian path: what samplers of the stochastic equation draw in A1111.

The path of a picture is a function of its seed alone. Wherever a sampler steps, it gets the increments of that path
between its noise levels, so more steps see the same path more finely. The path is a binary tree: the increment over an
interval is split at its middle with a normal number of the node's own seed, down to the noise level asked for, rounded
to a millionth. Tree, seeds and the order of computation are those of torchsde's `BrownianTree`, as k-diffusion uses it.
Source: Levy's construction; Kidger et al. 2021, arXiv:2105.13493 (the seeds of a tree).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np
from torch import Tensor

DIGITS = 6
"""Decimals that noise levels are rounded to."""
POOL = 24
"""Words of entropy that a node's seed is made from."""
KEPT = 45
"""Increments that are kept, as the next step's are mostly below the same nodes."""

Normals = Callable[[int], Tensor]
"""Unit noise of a picture's shape from a seed."""


class Path:
    """The Brownian path of one picture over the noise levels from low to high."""

    def __init__(self, seed: int, low: float, high: float, normals: Normals) -> None:
        """Only the increment over all of it is drawn yet."""
        low, high = as_float32(low), as_float32(high)
        self._seed, self._normals = seed, normals
        self._ends = round(low, DIGITS), round(high, DIGITS)
        first = np.random.SeedSequence(seed, pool_size=POOL).generate_state(3)[0]
        self._whole = normals(int(first)) * math.sqrt(high - low)
        self._left: OrderedDict[tuple[int, int], Tensor] = OrderedDict()

    def increment(self, low: float, high: float) -> Tensor:
        """The increment between two noise levels, low < high."""
        ends = max(round(low, DIGITS), self._ends[0]), min(round(high, DIGITS), self._ends[1])
        pieces = self._pieces(ends, self._ends, (0, 0), self._whole)
        total = next(pieces)
        for piece in pieces:
            total = total + piece
        return total

    def _pieces(
        self, asked: tuple[float, float], node: tuple[float, float], place: tuple[int, int], whole: Tensor
    ) -> Iterator[Tensor]:
        """The increments of the nodes that make up an interval, from low to high.

        Args:
            asked: the interval, inside the node's.
            node: the node's interval.
            place: which node of its level it is, and the level.
            whole: its increment.
        """
        if asked == node:
            yield whole
            return
        middle = round(0.5 * (node[1] + node[0]), DIGITS)
        left = self._left_part(node, middle, place, whole)
        number, level = place
        if asked[0] < middle:
            part = asked[0], min(asked[1], middle)
            yield from self._pieces(part, (node[0], middle), (2 * number, level + 1), left)
        if asked[1] > middle:
            part = max(asked[0], middle), asked[1]
            yield from self._pieces(part, (middle, node[1]), (2 * number + 1, level + 1), whole - left)

    def _left_part(self, node: tuple[float, float], middle: float, place: tuple[int, int], whole: Tensor) -> Tensor:
        """The increment over the lower part of a node: its share, and noise that both parts have, once added."""
        if place in self._left:
            self._left.move_to_end(place)
            return self._left[place]
        share = 1 / (node[1] - node[0])
        below, above = middle - node[0], node[1] - middle
        sequence = np.random.SeedSequence(self._seed, spawn_key=place, pool_size=POOL)
        drawn = self._normals(int(sequence.generate_state(4)[0]))
        found = whole * below * share + drawn * math.sqrt(below * above * share)
        self._left[place] = found
        if len(self._left) > KEPT:
            self._left.popitem(last=False)
        return found


def unit_noise(path: Path, sigma: float, following: float) -> Tensor:
    """The path's noise for a step down, of unit variance."""
    high, low = as_float32(sigma), as_float32(following)
    return path.increment(low, high) * -1 / float(np.sqrt(np.float32(high) - np.float32(low)))


def as_float32(sigma: float) -> float:
    """The noise level as A1111 counts it."""
    return float(np.float32(sigma))
