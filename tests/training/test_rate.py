"""The learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Any

import pytest

from velatura.recipe import TrainSettings
from velatura.training.rate import learning_rate


def rates(**told: Any) -> list[float]:
    settings = TrainSettings(**{"steps": 100, "learning_rate": 0.5, **told})
    return [learning_rate(settings, step) for step in range(settings.steps)]


def test_a_constant_rate_is_constant() -> None:
    assert set(rates(schedule="constant")) == {0.5}


def test_warm_up_rises_in_equal_parts_and_is_full_at_its_last_step() -> None:
    for schedule in ("constant", "cosine"):
        rising = rates(schedule=schedule, warmup=10)[:11]
        assert rising[:10] == pytest.approx([0.05 * part for part in range(1, 11)])
        assert rising[10] == pytest.approx(0.5)


def test_no_step_is_trained_at_a_rate_of_zero() -> None:
    for told in ({"schedule": "cosine"}, {"warmup": 99}, {"warmup": 1, "steps": 2}, {"steps": 1}):
        assert min(rates(**told)) > 0


def test_cosine_falls_by_half_a_wave_and_would_reach_zero_one_step_behind_the_last() -> None:
    falling = rates(schedule="cosine", warmup=20)[20:]
    assert falling == pytest.approx([0.5 * (0.5 + 0.5 * math.cos(math.pi * step / 80)) for step in range(80)])
    assert falling == sorted(falling, reverse=True)
    assert falling[40] == pytest.approx(0.25)
    assert falling[-1] < 0.5 * 0.001


def test_text_encoders_have_the_same_course_at_their_own_rate_or_at_the_same() -> None:
    settings = TrainSettings(steps=100, learning_rate=0.5, text_learning_rate=0.125, warmup=10)
    for step in (0, 4, 9, 10, 60, 99):
        assert learning_rate(settings, step, text=True) == pytest.approx(learning_rate(settings, step) / 4)
        same = settings.model_copy(update={"text_learning_rate": None})
        assert learning_rate(same, step, text=True) == learning_rate(same, step) == learning_rate(settings, step)


def test_warm_up_and_fall_do_not_stretch_each_other() -> None:
    assert rates(schedule="cosine", warmup=0)[0] == 0.5
    assert rates(schedule="constant", warmup=5)[5:] == [0.5] * 95
