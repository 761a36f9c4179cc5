"""How far two adapters change the same things in the same way: from their weights alone.

    cosine    of the two changes, over all their elements: 1 the same, 0 unrelated, -1 opposite
    input     how far the two read the same directions of a layer's input: 1 where one's lie within the other's
    output    the same of what they write
    chance    what input and output come to for two random changes of these ranks

Directions count by their energy. Near-orthogonal weights do not prove that two adapters leave each other alone, since
orthogonal parameters are not orthogonal functions; what the layers' outputs do on real inputs is measured with a base
(`interference`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from velatura.adapters.algebra import blocks
from velatura.adapters.algebra.factors import Factors
from velatura.adapters.algebra.sides import Side
from velatura.adapters.algebra.small_svd import Matrix, decompose
from velatura.errors import AdapterError

REDUNDANT, CONFLICTING = 0.3, -0.1
"""Cosines beyond which two changes are called so. Two trained on unlike things stay within 0.05 of 0."""


@dataclass(frozen=True)
class LayerOverlap:
    """One layer that both change."""

    name: str
    inner: float
    """Sum of the products of the changes' elements."""
    norms: tuple[float, float]
    input: float
    output: float
    chance: tuple[float, float]
    """Of input and of output."""


@dataclass(frozen=True)
class Overlap:
    """Of a block, or of everything."""

    block: str
    layers: int
    """That both change."""
    cosine: float
    input: float
    output: float
    chance: float
    """Mean of input's and output's."""
    ratio: float
    """The second's norm divided by the first's."""

    @property
    def verdict(self) -> str:
        """ "additive", "redundant" or "conflicting"."""
        return "redundant" if self.cosine > REDUNDANT else "conflicting" if self.cosine < CONFLICTING else "additive"


@dataclass(frozen=True)
class Overlaps:
    """What two adapters have in common."""

    whole: Overlap
    blocks: tuple[Overlap, ...]
    alone: tuple[int, int]
    """Layers that only the first, and only the second, changes."""

    @property
    def suggested(self) -> tuple[float, float]:
        """Strengths at which both together are as strong as an orthogonal pair would be."""
        factor = 1 / math.sqrt(1 + max(self.whole.cosine, 0.0))
        return factor, factor

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        named = {one.block: {**asdict(one), "verdict": one.verdict} for one in (self.whole, *self.blocks)}
        return {"whole": named.pop("all"), "blocks": named, "alone": self.alone, "suggested": self.suggested}


def overlap(first: Side, second: Side) -> Overlaps:
    """Compare two adapters, layer by layer.

    Raises:
        AdapterError: they have no layer in common, or one is damaged.
    """
    shared = [name for name in first.names if name in second.names]
    if not shared:
        raise AdapterError(
            f"{first.path.name} and {second.path.name} have no layer in common",
            fix="compare adapters of one family of bases",
        )
    measured = []
    for name in shared:
        one, other = first.factors(name), second.factors(name)
        if (len(one.up), one.down.shape[1]) != (len(other.up), other.down.shape[1]):
            raise AdapterError(
                f"{name} is {len(one.up)} x {one.down.shape[1]} in {first.path.name}, "
                f"{len(other.up)} x {other.down.shape[1]} in {second.path.name}",
                fix="compare adapters of one family of bases",
            )
        measured.append(compared(name, one, other))
    named: dict[str, list[LayerOverlap]] = {}
    for layer in measured:
        named.setdefault(blocks.block_of(layer.name), []).append(layer)
    return Overlaps(
        _together("all", measured),
        tuple(_together(block, named[block]) for block in blocks.in_order(named)),
        (len(first.names) - len(shared), len(second.names) - len(shared)),
    )


def compared(name: str, one: Factors, other: Factors) -> LayerOverlap:
    """One layer of both; never in full, only by products of their factors."""
    # <B1 A1, B2 A2> is the trace of (B1^T B2)(A2 A1^T)
    across = one.up.T.astype(np.float64) @ other.up
    inner = one.scale * other.scale * float(np.sum(across * (one.down.astype(np.float64) @ other.down.T)))
    (out_1, in_1, s_1), (out_2, in_2, s_2) = _directions(one), _directions(other)
    norms = float(np.linalg.norm(s_1)), float(np.linalg.norm(s_2))
    return LayerOverlap(
        name,
        inner,
        norms,
        _shared(in_1, in_2, s_1, s_2),
        _shared(out_1.T, out_2.T, s_1, s_2),
        (max(one.rank, other.rank) / one.down.shape[1], max(one.rank, other.rank) / len(one.up)),
    )


def _directions(change: Factors) -> tuple[Matrix, Matrix, Matrix]:
    """Left singular vectors as columns, right ones as rows, and the singular values; all zero where there are none."""
    found = decompose(change.up, change.down, scale=change.scale)
    halves = np.sqrt(found.values)
    inverse = np.divide(1.0, halves, out=np.zeros_like(halves), where=halves > 0).astype(np.float32)
    values: Matrix = found.values.astype(np.float32)
    return (change.up @ found.left) * inverse, inverse[:, None] * (found.right @ change.down), values


def _shared(one: Matrix, other: Matrix, s_one: Matrix, s_other: Matrix) -> float:
    """How much of each lies in the other's span, by energy, the mean of both ways; rows are directions."""
    squares = np.square(one.astype(np.float64) @ other.T)
    energies = np.square(s_one.astype(np.float64)), np.square(s_other.astype(np.float64))
    if not energies[0].sum() or not energies[1].sum():
        return 0.0
    forth = float(energies[0] @ squares.sum(axis=1) / energies[0].sum())
    back = float(energies[1] @ squares.sum(axis=0) / energies[1].sum())
    return (forth + back) / 2


def _together(block: str, layers: list[LayerOverlap]) -> Overlap:
    first, second = (math.sqrt(sum(layer.norms[side] ** 2 for layer in layers)) for side in (0, 1))
    weights = [layer.norms[0] * layer.norms[1] for layer in layers]
    whole = sum(weights) or 1.0

    def mean(values: Iterator[float]) -> float:
        return sum(weight * value for weight, value in zip(weights, values, strict=True)) / whole

    return Overlap(
        block,
        len(layers),
        sum(layer.inner for layer in layers) / (first * second) if first * second else 0.0,
        mean(layer.input for layer in layers),
        mean(layer.output for layer in layers),
        mean(sum(layer.chance) / 2 for layer in layers),
        second / first if first else math.inf if second else 1.0,
    )


def interference(four: Mapping[str, Matrix]) -> dict[str, float]:
    """How two adapters act together on what the model predicts, for one prompt and noise level.

    Args:
        four: predictions of the base ("none"), with the first ("first"), with the second ("second"), with both
            ("both"); any shape.

    Returns:
        "interference": |both - first - second + none| / (|first - none| + |second - none|), 0 where they add up;
        "cosine" between what each does; "dominance": the second's effect divided by the first's.

    Source: the measure is our own; compare OSRM, arXiv:2505.22934, on why weights alone do not tell.
    """
    none, first, second, both = (
        np.asarray(four[key], np.float64).ravel() for key in ("none", "first", "second", "both")
    )
    one, other = first - none, second - none
    lengths = float(np.linalg.norm(one)), float(np.linalg.norm(other))
    crossed = float(np.linalg.norm(both - first - second + none))
    return {
        "interference": crossed / sum(lengths) if sum(lengths) else 0.0,
        "cosine": float(one @ other) / (lengths[0] * lengths[1]) if all(lengths) else 0.0,
        "dominance": lengths[1] / lengths[0] if lengths[0] else math.inf,
    }
