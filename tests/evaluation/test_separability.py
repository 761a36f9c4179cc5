"""Separability falls when requests are overridden, not when a style mutes every colour."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from velatura.evaluation.metrics.pixels import Picture
from velatura.evaluation.separability import Separability, colour_spread, separability

Draw = Callable[..., Picture]


def grid(draw: Draw, colours: list[str], *, override: float = 0.0, strength: float = 0.0) -> list[list[Picture]]:
    random = np.random.default_rng(3)
    return [
        [draw(5, strength=strength, seed=seed, colour="blue" if random.random() < override else colour)
         for seed in range(4)]
        for colour in colours
    ]  # fmt: skip


def measure(draw: Draw, colours: list[str], *, override: float, strength: float) -> Separability:
    pictures = grid(draw, colours, override=override, strength=strength)
    return separability(pictures, grid(draw, colours), names=colours, side=48)


def test_a_muted_style_stays_separable(draw: Draw, colours: list[str]) -> None:
    found = measure(draw, colours, override=0, strength=1)

    assert found.share is not None and found.share > 0.85


def test_the_share_falls_as_more_requests_are_overridden(draw: Draw, colours: list[str]) -> None:
    found = [measure(draw, colours, override=share, strength=1) for share in (0, 0.3, 0.6, 1)]
    shares = [one.share for one in found if one.share is not None]

    assert len(shares) == 4 and shares == sorted(shares, reverse=True)
    assert shares[1] < 0.8 and shares[3] < 0.2


def test_the_table_of_guesses_counts_every_picture(draw: Draw, colours: list[str]) -> None:
    found = measure(draw, colours, override=0.3, strength=1)

    assert [sum(row) for row in found.guesses] == [4] * 6
    assert sum(found.guesses[index][index] for index in range(6)) / 24 == pytest.approx(found.accuracy)
    assert np.mean(found.per_seed) == pytest.approx(found.accuracy)


def test_a_base_that_cannot_do_it_gives_no_share(draw: Draw, colours: list[str]) -> None:
    collapsed = grid(draw, colours, override=1)

    found = separability(collapsed, collapsed, side=48)

    assert found.share is None and found.interval is None


def test_a_set_of_one_hue_has_little_colour_spread(draw: Draw) -> None:
    base = [draw(index) for index in range(6)]
    grey = [np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8) for image in base]

    assert colour_spread(grey, base) < 0.05
    assert colour_spread(base, base) == pytest.approx(1)


def test_one_seed_is_too_few(draw: Draw) -> None:
    with pytest.raises(ValueError, match="two seeds"):
        separability([[draw(1)], [draw(2)]], [[draw(1)], [draw(2)]])
