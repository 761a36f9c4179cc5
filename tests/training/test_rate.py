"""The learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Any

import pytest

from velatura.errors import RecipeError
from velatura.recipe import TrainSettings, build
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


def test_text_encoders_have_the_same_course_at_their_own_rates_or_at_the_same() -> None:
    settings = TrainSettings(steps=100, learning_rate=0.5, text_learning_rate=[0.125, 0.25], warmup=10)
    for step in (0, 4, 9, 10, 60, 99):
        for encoder, share in ((0, 0.25), (1, 0.5)):
            text = learning_rate(settings, step, encoder=encoder)
            assert text == pytest.approx(learning_rate(settings, step) * share)
        one = settings.model_copy(update={"text_learning_rate": 0.125})
        assert learning_rate(one, step, encoder=1) == learning_rate(settings, step, encoder=0)
        same = settings.model_copy(update={"text_learning_rate": None})
        assert learning_rate(same, step, encoder=0) == learning_rate(same, step) == learning_rate(settings, step)


@pytest.mark.parametrize(
    ("told", "golden"),
    [
        ({"schedule": "constant"}, [1, 1, 1, 1]),
        ({"schedule": "cosine"}, [1, 0.8535533906, 0.5, 0.1464466094]),
        ({"schedule": "cosine_restarts", "cycles": 2}, [1, 0.5, 1, 0.5]),
        ({"schedule": "cosine_restarts", "cycles": 1}, [1, 0.8535533906, 0.5, 0.1464466094]),
        ({"schedule": "linear"}, [1, 0.75, 0.5, 0.25]),
        ({"schedule": "polynomial", "power": 2.0}, [1, 0.5625, 0.25, 0.0625]),
        ({"schedule": "rex"}, [1, 0.8571428571, 0.6666666667, 0.4]),
        ({"schedule": "linear", "floor": 0.2}, [1, 0.8, 0.6, 0.4]),
    ],
)
def test_the_courses_are_those_of_their_papers(told: dict[str, Any], golden: list[float]) -> None:
    falling = rates(steps=100, learning_rate=1.0, **told)
    assert [falling[step] for step in (0, 25, 50, 75)] == pytest.approx(golden)


def test_a_warm_up_below_one_is_a_share_of_the_steps() -> None:
    assert rates(warmup=0.1) == rates(warmup=10)
    assert rates(warmup=0.1) != rates(warmup=0)


def test_each_part_of_a_lengthened_run_has_its_own_course_without_another_warm_up() -> None:
    longer = rates(steps=150, warmup=10, lengthened=[100])
    assert longer[:100] == rates(steps=100, warmup=10)
    assert longer[100:] == rates(steps=50)
    assert rates(steps=150, schedule="constant", lengthened=[100]) == rates(steps=150, schedule="constant")


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"cycles": 2}, "train.cycles is for the schedule cosine_restarts"),
        ({"power": 2.0}, "train.power is for the schedule polynomial"),
        ({"schedule": "constant", "floor": 0.1}, "train.floor is for schedules that fall"),
        ({"warmup": 2.5}, "neither whole steps nor a share"),
        ({"warmup": 100}, "must be less than train.steps"),
        ({"lengthened": [120]}, "below train.steps"),
    ],
)
def test_what_a_schedule_cannot_honour_is_refused(told: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        build({"train": {"steps": 100, **told}})


def test_warm_up_and_fall_do_not_stretch_each_other() -> None:
    assert rates(schedule="cosine", warmup=0)[0] == 0.5
    assert rates(schedule="constant", warmup=5)[5:] == [0.5] * 95
