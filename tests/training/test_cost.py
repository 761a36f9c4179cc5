"""The model of what a training costs: it gives back a cost of its own form, and says how far it is wrong on another."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from velatura.training.cost import AT_LEAST, Calibration, Case, Probe, fit

MB = 1_000_000


def probe(case: Case, *, slower: float = 1.0, pace: float = 0.01) -> Probe:
    """A machine that does just what the model says, at any pace."""
    area, rank = case.batch * case.pixels / 16384, case.weights / MB
    step = (0.5 + area + 0.2 * area * case.pixels / 16384 + 0.1 * rank + 0.05 * area * rank) * (
        1.4 if case.checkpointing else 1.0
    ) + (0.2 + 0.1 * case.batch if case.text_weights else 0.0)
    grown = (40 * area + 10 * area * rank) * (0.25 if case.checkpointing else 1.0) * MB
    rest = 500 * MB + 4 * (case.weights + case.text_weights)
    peak = round(rest + 12 * (case.weights + case.text_weights) + 20 * MB + grown)
    seconds = step * slower * pace / 0.01
    forward = 0.0 if case.checkpointing or case.text_weights else 0.3 * area
    return Probe(case, 2 * seconds, seconds, peak, rest, forward, 0.1, 0.2, pace)


CASES = [
    Case(16384, 1, MB),
    Case(4096, 1, MB),
    Case(16384, 3, MB),
    Case(4096, 1, 4 * MB),
    Case(16384, 1, 4 * MB),
    Case(16384, 1, MB, checkpointing=True),
    Case(16384, 3, MB, checkpointing=True),
    Case(4096, 1, MB, MB // 10),
    Case(4096, 3, MB, MB // 10),
    Case(65536, 1, MB),
]

OTHERS = [Case(36864, 2, 2 * MB), Case(16384, 2, MB // 2, checkpointing=True), Case(65536, 2, 8 * MB, MB // 5)]


def test_a_machine_that_does_what_the_model_says_is_foretold() -> None:
    made = fit([probe(case) for case in CASES], [probe(case) for case in OTHERS])

    for case in OTHERS:
        told, true = made.cost(case), probe(case)
        assert told.cpu == pytest.approx(true.cpu, rel=0.02)
        assert told.seconds == pytest.approx(true.wall, rel=0.02)
        assert told.bytes == pytest.approx(true.peak, rel=0.02)
    assert made.error == AT_LEAST == made.memory_error


def test_probes_at_a_slower_pace_tell_the_same() -> None:
    even = fit([probe(case) for case in CASES], [])
    uneven = fit([probe(case, pace=0.01 * (1 + place % 3)) for place, case in enumerate(CASES)], [])

    for case in OTHERS:
        assert uneven.cost(case).cpu == pytest.approx(even.cost(case).cpu, rel=1e-3)


def test_what_is_missed_where_it_is_checked_is_the_stated_error() -> None:
    made = fit([probe(case) for case in CASES], [probe(OTHERS[0], slower=1.25), probe(OTHERS[1])])

    assert made.error == pytest.approx(1 - 1 / 1.25, abs=0.02)


def test_far_beyond_the_probes_is_said() -> None:
    made = fit([probe(case) for case in CASES], [])

    assert not made.cost(Case(65536, 4, MB)).far
    assert made.cost(Case(65536 * 4, 5, MB)).far
    assert made.cost(Case(65536 * 3, 1, MB)).far  # a larger picture than any that was measured


def test_where_memory_cannot_be_measured_none_is_told() -> None:
    blind = [replace(probe(case), peak=None, rest=None) for case in CASES]

    made = fit(blind, blind)
    assert made.cost(OTHERS[0]).bytes is None and made.memory_error is None
    assert made.cost(OTHERS[0]).cpu > 0


def test_it_is_kept_as_json() -> None:
    made = fit([probe(case) for case in CASES], [probe(OTHERS[0])], on="2026-01-01")

    assert Calibration.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_optimizers_that_keep_less_take_less() -> None:
    made = fit([probe(case) for case in CASES], [])

    assert (made.cost(OTHERS[0]).bytes or 0) - (made.cost(replace(OTHERS[0], optimizer="adamw8bit")).bytes or 0) == (
        6 * 2 * MB
    )
