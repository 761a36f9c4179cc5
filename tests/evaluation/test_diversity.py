"""Diversity and leak, beside the base model."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from velatura.evaluation.diversity import diversity, leak
from velatura.evaluation.metrics.pixels import Picture

Draw = Callable[..., Picture]


def rows(draw: Draw, *, different: int, strength: float = 0.0) -> list[list[Picture]]:
    return [[draw(prompt, seed=seed % different, strength=strength) for seed in range(4)] for prompt in range(3)]


def test_the_base_is_as_diverse_as_itself(draw: Draw) -> None:
    base = rows(draw, different=4)

    assert diversity(base, base).ratio == pytest.approx(1)


def test_the_ratio_falls_as_seeds_come_to_the_same(draw: Draw) -> None:
    base = rows(draw, different=4)
    layouts = [diversity(rows(draw, different=count, strength=1.0), base).layout for count in (4, 2, 1)]

    assert layouts[0] > 0.7 > layouts[1] > layouts[2]
    assert layouts[2] < 0.1


def test_a_muted_style_narrows_colour_more_than_layout(draw: Draw) -> None:
    found = diversity(rows(draw, different=4, strength=1.0), rows(draw, different=4))

    assert found.colour < found.layout
    assert found.interval is not None and found.interval[0] <= found.ratio <= found.interval[1]


def test_one_seed_is_too_few(draw: Draw) -> None:
    with pytest.raises(ValueError, match="two pictures"):
        diversity([[draw(1)]], [[draw(1)]])


def test_leak_is_none_when_the_trigger_gates_and_all_when_it_does_not(draw: Draw) -> None:
    base, half, whole = ([draw(index, strength=strength) for index in range(4)] for strength in (0, 0.5, 1))

    assert leak(base, base, whole) == pytest.approx(0, abs=1e-6)
    assert leak(base, whole, whole) == pytest.approx(1)
    assert 0.2 < leak(base, half, whole) < 0.8
