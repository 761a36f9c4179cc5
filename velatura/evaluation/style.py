"""Style likeness: how far a checkpoint has moved from the base model towards real pictures of the style.

What a picture shows moves its colours, edges and spectrum as much as how it is painted does, so like is
compared with like. Some of the real pictures are set aside, and the checkpoint's and the base's paintings of
their captions stand in for them in turn; in each family of features each of the three sets is as far from the
style as its mean is from the mean of the pictures that were not set aside. The score counts the checkpoint's
distance between two marks: 0 is the base model, 1 the real pictures of the same captions. It is a mean over
random choices of what is set aside, so true pictures of the style score 1 whatever they show.

A family in which the base is already about as near as real pictures says nothing about this style: it is
dropped, and shown as not distinctive. The others count the more, the farther the base is from the style.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from velatura.evaluation.metrics import edges, lbp, palette, spectrum
from velatura.evaluation.metrics.pixels import Picture, Vector, lab, square
from velatura.randomness import generator

Describe = Callable[[Picture, int], Vector]
FAMILIES: Mapping[str, Describe] = MappingProxyType(
    {"palette": palette.describe, "edges": edges.describe, "spectrum": spectrum.describe}
)
"""What enters the score."""
EXTRA_FAMILIES: Mapping[str, Describe] = MappingProxyType({"texture": lbp.describe})
"""Measured by name only; kept out of the score so that something independent can confirm it."""
DISTINCTIVE = 1.2
"""The base must be this many times as far from the style as real pictures are, or the family is dropped."""
SUBSETS = 48
DRAWS = 1000

Matrix = NDArray[np.float64]
Features = Mapping[str, Matrix]
"""Family -> one row per picture."""


@dataclass(frozen=True)
class StyleScore:
    """0 is the base model, 1 is real pictures of the style."""

    families: dict[str, float | None]
    """Score of each family; None where the family is not distinctive."""
    score: float | None
    """Mean of the families kept, weighted by how distinctive they are; None when none is."""
    interval: tuple[float, float] | None = None
    """95 % interval over pictures."""
    per_image: tuple[float, ...] = ()
    """What each generated picture says of the score: their mean is the score. For paired comparison."""
    held_out: int = 0
    """How many of the real pictures were kept out of training."""

    @property
    def uncertain(self) -> bool:
        """Whether it says nothing: the interval holds the base, and is longer than the way to real pictures."""
        return self.interval is not None and self.interval[0] <= 0 and self.interval[1] - self.interval[0] > 1


def describe(images: Sequence[Picture], *, side: int = 128, families: Mapping[str, Describe] = FAMILIES) -> Features:
    """Features of a set of pictures; worth keeping where the same set is compared many times."""
    return {
        name: np.stack([feature(image, side) for image in images]) if len(images) else np.empty((0, 0))
        for name, feature in families.items()
    }


def score_features(
    real: Features, sources: Sequence[int], base: Features, generated: Features, *, held_out: int = 0
) -> StyleScore:
    """Score a checkpoint from features.

    Args:
        real: pictures of the style, at least 2.
        sources: for each painting, the real picture whose caption it was painted from.
        base: the base model's paintings of the same prompts and seeds, in the same order.
        generated: the checkpoint's paintings.
        held_out: how many of the real pictures were kept out of training, for the record.

    Raises:
        ValueError: fewer than two real pictures, no painting, or paintings, sources and base differ in number.
    """
    first = next(iter(generated))
    count, real_count = len(generated[first]), len(real[first])
    if real_count < 2:
        raise ValueError("style needs at least two real pictures to compare with")
    if count == 0 or len(base[first]) != count or len(sources) != count:
        raise ValueError(
            f"paintings pair up: {count} generated, {len(base[first])} of the base, {len(sources)} captions"
        )
    aside, painted = _choices(sources, real_count)

    scores: dict[str, float | None] = {}
    weights: list[float] = []
    by_image: list[Vector] = []
    by_real: list[Vector] = []
    for name in generated:
        family = _Family(name, real[name], aside, painted)
        floor, start, reached = family.floor(), family.distance(base[name]), family.distance(generated[name])
        if start <= DISTINCTIVE * floor:
            scores[name] = None
            continue
        scores[name] = (start - reached) / (start - floor)
        weights.append(start / floor - 1)
        starts, ends = (family.without_each_painting(rows) for rows in (base[name], generated[name]))
        by_image.append((starts - ends) / (starts - floor))
        starts, ends = (family.without_each_real(rows) for rows in (base[name], generated[name]))
        by_real.append((starts - ends) / (starts - family.floor_without_each_real()))
    kept = [value for value in scores.values() if value is not None]
    if not kept:
        return StyleScore(scores, None, held_out=held_out)
    score = float(np.average(kept, weights=weights))
    per_image = score + _influence(np.average(by_image, axis=0, weights=weights))
    per_real = _influence(np.average(by_real, axis=0, weights=weights))
    interval = _interval(per_image, per_real) if count > 1 else None
    return StyleScore(scores, score, interval, tuple(float(value) for value in per_image), held_out)


def _choices(sources: Sequence[int], real_count: int) -> tuple[Matrix, Matrix]:
    """Which real pictures are set aside, (subsets, real), and which paintings stand in for them, (subsets, paintings).

    One painting for each picture set aside, for the mean of many is nearer to any other than the mean of few. The
    draws are fixed, so that checkpoints pair up.
    """
    captions = sorted(set(sources))
    size = min(len(captions), max(1, real_count // 3))
    stream = generator(0, "style subsets", *sources, real_count)
    aside, painted = np.zeros((SUBSETS, real_count)), np.zeros((SUBSETS, len(sources)))
    for row in range(SUBSETS):
        for source in stream.permutation(captions)[:size]:
            aside[row, source] = 1
            painted[row, stream.choice(np.flatnonzero(np.asarray(sources) == source))] = 1
    return aside, painted


class _Family:
    """Distances in one family of features, each a mean over the choices of what is set aside."""

    def __init__(self, name: str, real: Matrix, aside: Matrix, painted: Matrix) -> None:
        self.name, self.aside, self.painted = name, aside, painted
        spread = real.std(axis=0) + 0.1 * np.abs(real.mean(axis=0))
        # A dimension that never varies and is zero on average would otherwise outweigh all others.
        self.scale = np.maximum(spread, 0.1 * spread.mean() + 1e-9)
        self.real = real / self.scale

    def floor(self) -> float:
        """How far the real pictures that were set aside are from the others."""
        return self._between(self.real, self.aside, 1 - self.aside)

    def distance(self, paintings: Matrix) -> float:
        """How far the paintings that stand in for them are."""
        return self._between(paintings / self.scale, self.painted, 1 - self.aside)

    def without_each_painting(self, paintings: Matrix) -> Vector:
        """The distance with each painting left out in turn, shape (paintings,)."""
        if len(paintings) < 2:
            return np.full(len(paintings), self.distance(paintings))
        scaled = paintings / self.scale
        left = 1 - np.eye(len(paintings))
        return np.array([self._between(scaled, self.painted * row, 1 - self.aside) for row in left])

    def without_each_real(self, paintings: Matrix) -> Vector:
        """The distance with each real picture left out in turn, shape (real,)."""
        if len(self.real) < 3:
            return np.full(len(self.real), self.distance(paintings))
        scaled = paintings / self.scale
        left = 1 - np.eye(len(self.real))
        return np.array([self._between(scaled, self.painted, (1 - self.aside) * row) for row in left])

    def floor_without_each_real(self) -> Vector:
        """The floor with each real picture left out in turn, shape (real,)."""
        if len(self.real) < 3:
            return np.full(len(self.real), self.floor())
        left = 1 - np.eye(len(self.real))
        return np.array([self._between(self.real, self.aside * row, (1 - self.aside) * row) for row in left])

    def _between(self, pictures: Matrix, chosen: Matrix, others: Matrix) -> float:
        """The mean distance between the means of chosen pictures and of the other real ones."""
        usable = (chosen.sum(axis=1) > 0) & (others.sum(axis=1) > 0)
        inside, outside = (part[usable] / part[usable].sum(axis=1, keepdims=True) for part in (chosen, others))
        difference = inside @ pictures - outside @ self.real
        if self.name == "palette":
            return float(np.abs(difference).mean(axis=-1).mean())
        return float(np.linalg.norm(difference, axis=-1).mean())


def _influence(without_each: Vector) -> Vector:
    """How much each picture pulls the score, from leave-one-out scores (infinitesimal jackknife)."""
    return np.asarray((len(without_each) - 1) * (without_each.mean() - without_each))


def _interval(per_image: Vector, per_real: Vector) -> tuple[float, float]:
    """95 % bootstrap interval of the score over generated and over real pictures."""
    stream = generator(0, "style interval")
    draws = np.zeros(DRAWS)
    for values in (per_image, per_real):
        draws += values[stream.integers(len(values), size=(DRAWS, len(values)))].mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def overbake(
    references: Sequence[Picture], base: Sequence[Picture], generated: Sequence[Picture], *, side: int = 128
) -> float:
    """How far the generated pictures are too saturated, too hard or too sharp, whichever is most.

    Counted in standard deviations of the references, above the references and above the base model,
    whichever is higher. Over 3 is the look of a burnt LoRA; 0 or less is none.
    """

    def signs(images: Sequence[Picture]) -> NDArray[np.float64]:
        rows = []
        for image in images:
            colours = lab(square(image, side))
            chroma = np.hypot(colours[..., 1], colours[..., 2]).mean()
            fine = np.diff(colours[..., 0], axis=0).std() + np.diff(colours[..., 0], axis=1).std()
            rows.append([chroma, colours[..., 0].std(), fine])
        return np.array(rows)

    real = signs(references)
    spread = real.std(axis=0) + 0.05 * real.mean(axis=0) + 0.5
    usual = np.maximum(real.mean(axis=0), signs(base).mean(axis=0))
    return float(((signs(generated).mean(axis=0) - usual) / spread).max())
