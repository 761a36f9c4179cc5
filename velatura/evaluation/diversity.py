"""Diversity: whether other seeds still give other pictures, beside the base model.

The mean distance between the pictures of one prompt over its seeds, in colour and in layout, as a share of
the base model's for the same prompts and seeds. A style may well narrow the colours; a checkpoint that
paints one layout whatever the seed has memorised it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from velatura.evaluation.metrics import palette
from velatura.evaluation.metrics.pixels import Picture, lightness, square
from velatura.randomness import generator

DRAWS = 1000
_LAYOUT_SIDE = 16


@dataclass(frozen=True)
class Diversity:
    """Spread over seeds as a share of the base model's."""

    ratio: float
    """Mean of the two below."""
    colour: float
    layout: float
    interval: tuple[float, float] | None
    """95 % interval of the ratio over prompts; None with fewer than three prompts."""


def diversity(pictures: Sequence[Sequence[Picture]], base: Sequence[Sequence[Picture]]) -> Diversity:
    """Measure a checkpoint.

    Args:
        pictures: row per prompt, column per seed, at least two seeds.
        base: the base model's, the same prompts and seeds.

    Raises:
        ValueError: no prompt, a prompt with one seed, or base unlike pictures.
    """
    if not pictures or min(len(row) for row in pictures) < 2:
        raise ValueError("diversity needs two pictures or more of each prompt")
    if [len(row) for row in base] != [len(row) for row in pictures]:
        raise ValueError("the base model's pictures must be of the same prompts and seeds")
    ours = np.array([_spread(row) for row in pictures])
    theirs = np.maximum(np.array([_spread(row) for row in base]), 1e-9)
    colour, layout = ours.mean(axis=0) / theirs.mean(axis=0)
    interval = None
    if len(ours) >= 3:
        drawn = generator(0, "diversity").integers(len(ours), size=(DRAWS, len(ours)))
        ratios = (ours[drawn].mean(axis=1) / theirs[drawn].mean(axis=1)).mean(axis=1)
        low, high = np.quantile(ratios, [0.025, 0.975])
        interval = (float(low), float(high))
    return Diversity(float(colour + layout) / 2, float(colour), float(layout), interval)


def leak(base: Sequence[Picture], without_trigger: Sequence[Picture], with_trigger: Sequence[Picture]) -> float:
    """How much of the LoRA's effect stays when the trigger word is left out: 0 none, 1 all of it.

    All three are of the same prompts and seeds; `base` is the base model's without the trigger.

    Raises:
        ValueError: the three differ in number, or are empty.
    """
    if not base or not len(base) == len(without_trigger) == len(with_trigger):
        raise ValueError("the pictures with and without the trigger must pair up with the base's")
    start, bare, called = (_features(images) for images in (base, without_trigger, with_trigger))
    effect = np.array([_distances(*pair) for pair in zip(called, start, strict=True)]).mean(axis=0)
    stays = np.array([_distances(*pair) for pair in zip(bare, start, strict=True)]).mean(axis=0)
    return float(np.mean(stays / np.maximum(effect, 1e-9)))


Pair = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Palette and layout of one picture."""


def _features(images: Sequence[Picture]) -> list[Pair]:
    features = []
    for image in images:
        light = lightness(square(image, 8 * _LAYOUT_SIDE))
        layout = light.reshape(_LAYOUT_SIDE, 8, _LAYOUT_SIDE, 8).mean(axis=(1, 3)).ravel()
        layout = layout - layout.mean()
        features.append((palette.describe(image), layout / max(float(np.linalg.norm(layout)), 1e-6)))
    return features


def _distances(one: Pair, other: Pair) -> tuple[float, float]:
    """Distance in colour (Lab units) and in layout (1 - correlation)."""
    return float(np.abs(one[0] - other[0]).mean()), float(1 - one[1] @ other[1])


def _spread(images: Sequence[Picture]) -> NDArray[np.float64]:
    """Mean pairwise distances of a prompt's pictures, shape (2,): colour, layout."""
    features = _features(images)
    pairs = [_distances(features[one], features[other]) for one in range(len(features)) for other in range(one)]
    return np.asarray(np.mean(pairs, axis=0))
