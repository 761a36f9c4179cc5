"""What counts as a right answer, and how rates and tables come of it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from questions import KINDS, QUESTIONS, Answer, Rate, kept, rates, table, verdict

from velatura.pocket.scene import Facts, Thing

RED_BOATS = Facts((Thing("boat", "red", count=2),), "sea", "night")
PAIR = Facts((Thing("cat", "black", side="left"), Thing("mug", "blue", side="right")), "table", background="green")
WOMAN = Facts((Thing("woman", "yellow"),), "portrait", background="purple")


def answer(facts: Facts) -> Answer:
    """The right answer."""
    colours = dict.fromkeys(KINDS, "white") | {thing.kind: thing.colour for thing in facts.things}
    kinds = frozenset(thing.kind for thing in facts.things)
    return Answer(kinds, colours, facts.things[0].count, facts.setting, facts.time or "day", facts.background)


@pytest.mark.parametrize("facts", [RED_BOATS, PAIR, WOMAN])
def test_the_right_answer_is_right_in_everything_asked(facts: Facts) -> None:
    assert all(verdict(facts, answer(facts)).values())


def test_one_kind_is_asked_for_object_colour_count_setting_and_time() -> None:
    asked = {"object", "colour", "object and colour", "count", "two or three", "setting", "time"}

    assert set(verdict(RED_BOATS, answer(RED_BOATS))) == asked


def test_portraits_are_not_asked_for_a_count_and_pairs_not_for_single_objects() -> None:
    assert "count" not in verdict(WOMAN, answer(WOMAN))
    assert "object" not in verdict(PAIR, answer(PAIR))
    assert "two objects" not in verdict(WOMAN, answer(WOMAN))


def test_a_further_object_in_the_picture_is_wrong() -> None:
    seen = replace(answer(RED_BOATS), kinds=frozenset({"boat", "fish"}))

    right = verdict(RED_BOATS, seen)

    assert not right["object"] and right["colour"] and not right["object and colour"]


def test_two_objects_with_their_colours_exchanged_are_wrong_in_colour_only() -> None:
    seen = replace(answer(PAIR), colours={"cat": "blue", "mug": "black"})

    right = verdict(PAIR, seen)

    assert right["two objects"] and not right["two colours"] and not right["two objects, two colours"]


def test_a_wrong_hour_is_no_wrong_setting() -> None:
    right = verdict(RED_BOATS, replace(answer(RED_BOATS), time="sunset"))

    assert right["setting"] and not right["time"]


def test_rates_count_only_the_pictures_that_were_asked() -> None:
    scenes = [RED_BOATS, RED_BOATS, PAIR]
    answers = [answer(RED_BOATS), replace(answer(RED_BOATS), count=1), answer(PAIR)]

    found = rates(scenes, answers)

    assert list(found) == list(QUESTIONS)
    assert found["object"] == Rate(2, 2)
    assert found["two or three"] == Rate(1, 2)
    assert found["background"] == Rate(1, 1)
    assert math.isnan(rates([PAIR], [answer(PAIR)])["object"].share)


def test_the_margin_is_half_of_wilsons_interval() -> None:
    # Wilson's 95 % interval of 8 in 10 is 0.490 to 0.943.
    assert Rate(8, 10).margin == pytest.approx((0.9433 - 0.4902) / 2, abs=1e-3)


def test_what_is_kept_of_nothing_is_not_a_number() -> None:
    assert kept(Rate(6, 10), Rate(8, 10)) == pytest.approx(0.75)
    assert math.isnan(kept(Rate(6, 10), Rate(0, 10)))


def test_tables_line_up_to_the_right() -> None:
    assert table([["", "score"], ["pencil", "0.8"]]) == "        score\npencil    0.8"
