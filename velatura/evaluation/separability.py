"""Separability: whether one can still tell from the picture which colour was asked for.

"A red boat", "a blue boat" and so on are painted with the same seeds; a nearest-centroid rule, taught on
the other seeds, guesses the colour from the palette, after what all pictures of a seed have in common (its
sky, its light) is taken away. A style that mutes every colour stays separable; a
collapsed one, which paints everything blue, does not. Absolute colour accuracy would confuse the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from velatura.evaluation.metrics import palette
from velatura.evaluation.metrics.pixels import Picture, lab, square
from velatura.randomness import generator

DRAWS = 1000


@dataclass(frozen=True)
class Separability:
    """How well requests can be told apart, beside the base model."""

    accuracy: float
    base_accuracy: float
    chance: float
    share: float | None
    """Of what the base model does above chance; None where the base itself cannot do it."""
    interval: tuple[float, float] | None
    """95 % interval of the share over seeds."""
    per_seed: tuple[float, ...] = ()
    """Accuracy on each seed."""
    base_per_seed: tuple[float, ...] = ()
    guesses: tuple[tuple[int, ...], ...] = ()
    """Row per request, column per guess, counts over seeds."""
    names: tuple[str, ...] = ()
    """What was asked, in the order of the rows."""


def separability(
    pictures: Sequence[Sequence[Picture]],
    base: Sequence[Sequence[Picture]],
    *,
    names: Sequence[str] = (),
    side: int = 128,
) -> Separability:
    """Measure a checkpoint.

    Args:
        pictures: row per request, column per seed; the same seeds in every row, at least two.
        base: the base model's, the same requests and seeds.
        names: what was asked, for the report.

    Raises:
        ValueError: fewer than two requests or seeds, rows of different length, or base unlike pictures.
    """
    shape = {len(row) for row in pictures}
    if len(pictures) < 2 or len(shape) != 1 or min(shape) < 2:
        raise ValueError("separability needs two requests or more, each with the same two seeds or more")
    if [len(row) for row in base] != [len(row) for row in pictures]:
        raise ValueError("the base model's pictures must be of the same requests and seeds")
    found, base_found = (_guess(_features(rows, side)) for rows in (pictures, base))
    requests = len(pictures)
    chance = 1 / requests
    truth = np.arange(requests)[:, None]
    per_seed, base_per_seed = (found == truth).mean(axis=0), (base_found == truth).mean(axis=0)
    counts = np.stack([np.bincount(row, minlength=requests) for row in found])
    share, interval = share_of_base(per_seed, base_per_seed, chance)
    return Separability(
        accuracy=float(per_seed.mean()),
        base_accuracy=float(base_per_seed.mean()),
        chance=chance,
        share=share,
        interval=interval,
        per_seed=tuple(float(value) for value in per_seed),
        base_per_seed=tuple(float(value) for value in base_per_seed),
        guesses=tuple(tuple(int(value) for value in row) for row in counts),
        names=tuple(names),
    )


def share_of_base(
    per_seed: NDArray[np.float64], base_per_seed: NDArray[np.float64], chance: float
) -> tuple[float | None, tuple[float, float] | None]:
    """Accuracy above chance as a share of the base's, in [0, 1.2], with its interval over seeds."""
    if base_per_seed.mean() < 2 * chance:
        return None, None
    drawn = generator(0, "separability").integers(len(per_seed), size=(DRAWS, len(per_seed)))
    above = per_seed[drawn].mean(axis=1) - chance
    base_above = np.maximum(base_per_seed[drawn].mean(axis=1) - chance, chance / 2)
    low, high = np.quantile(np.clip(above / base_above, 0, 1.2), [0.025, 0.975])
    share = (per_seed.mean() - chance) / (base_per_seed.mean() - chance)
    return float(np.clip(share, 0, 1.2)), (float(low), float(high))


def colour_spread(pictures: Sequence[Picture], base: Sequence[Picture], *, side: int = 64) -> float:
    """How far the colours of a set lie from one another, as a share of the base model's pictures.

    A set of one hue, such as cyanotypes, cannot be separable by colour; that is its nature, no fault.
    """

    def spread(images: Sequence[Picture]) -> float:
        hues = np.concatenate([lab(square(image, side))[..., 1:].reshape(-1, 2) for image in images])
        return float(np.sqrt(hues.var(axis=0).sum()))

    return spread(pictures) / max(spread(base), 1e-9)


def _features(rows: Sequence[Sequence[Picture]], side: int) -> NDArray[np.float64]:
    """Palettes, shape (requests, seeds, length)."""
    return np.stack([np.stack([palette.describe(image, side) for image in row]) for row in rows])


def _guess(features: NDArray[np.float64]) -> NDArray[np.int64]:
    """The request that each picture looks like, judged by the other seeds; shape (requests, seeds)."""
    features = features - features.mean(axis=0, keepdims=True)
    seeds = features.shape[1]
    guesses = np.empty(features.shape[:2], dtype=np.int64)
    for seed in range(seeds):
        centres = np.delete(features, seed, axis=1).mean(axis=1)
        apart = np.abs(features[:, seed, None, :] - centres[None]).mean(axis=-1)
        guesses[:, seed] = apart.argmin(axis=1)
    return guesses
