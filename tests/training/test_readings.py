"""What is measured at each step, and when training no longer works."""

from __future__ import annotations

import math

import pytest

from velatura.training.readings import Health, Reading


def reading(step: int, *errors: float, loss: float = 0.1) -> Reading:
    told = errors or (loss,)
    return Reading(step, 1.0, 2.0, 1.0, told, tuple(math.isfinite(one) for one in told), (2,) * len(told))


def test_a_step_s_loss_is_the_mean_over_the_pictures_that_gave_numbers() -> None:
    made = Reading(1, 1.0, 2.0, 1.0, (0.1, math.nan, 0.4), (True, False, True), (1, 2, 3))
    assert made.loss == pytest.approx((0.1 + 0.4) * 6 / 4)
    assert math.isnan(reading(1, math.nan).loss)


def test_broken_micro_batches_are_counted_in_a_row_across_steps() -> None:
    health = Health([])
    assert health.see(reading(1, 0.1, math.nan)) == [1]
    assert health.see(reading(2, math.nan, 0.1)) == [0]
    assert health.broken == 0
    health.see(reading(3, 0.1, math.nan))
    health.see(reading(4, math.nan, math.nan))
    assert (health.broken, health.since) == (3, 3)


def test_a_record_is_closed_with_the_mean_since_the_last() -> None:
    health = Health([])
    for step, loss in enumerate((0.1, math.nan, 0.3)):
        health.see(reading(step + 1, loss))
    assert health.close() == {"loss": pytest.approx(0.2), "gradient_norm": 1.0, "weight_norm": 2.0}
    assert health.close() == {}


def test_an_explosion_is_ten_steps_far_above_what_was_usual() -> None:
    for factor, exploded in ((11.0, True), (5.0, False)):
        health = Health([0.1] * 12)
        for step in range(9):
            health.see(reading(step + 1, loss=0.1 * factor))
            assert not health.exploded, "a few steps say nothing"
        health.see(reading(10, loss=0.1 * factor))
        assert health.exploded == exploded


def test_nothing_is_usual_at_the_start() -> None:
    health = Health([])
    for step in range(30):
        health.see(reading(step + 1, loss=0.001 if step < 5 else 5.0))
        assert not health.exploded
