"""Scenes: reproducible, composable as told, balanced, and a tenth of the combinations kept back."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from velatura.pocket.compose import compose, held_out, is_unseen
from velatura.pocket.scene import Scene, Thing
from velatura.pocket.vocabulary import COLOUR_WORDS, DRAWN, PEOPLE, SETTINGS, TABLE, kinds_in


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [compose(seed) for seed in range(1500)]


def same(first: Scene, second: Scene) -> bool:
    return (
        (first.facts, first.caption, first.sky) == (second.facts, second.caption, second.sky)
        and len(first.shapes) == len(second.shapes)
        and all(
            np.array_equal(a.points, b.points) and a.colour == b.colour
            for a, b in zip(first.shapes, second.shapes, strict=True)
        )
    )


def test_the_same_seed_gives_the_same_scene_and_another_seed_another() -> None:
    assert same(compose(7), compose(7))
    assert not same(compose(7), compose(8))


def test_what_is_given_stays_as_given() -> None:
    boats = Thing("boat", "red", count=2)
    facts = compose(3, things=[boats], setting="sea", time="night", unseen=None).facts

    assert (facts.things, facts.setting, facts.time) == ((boats,), "sea", "night")
    assert compose(3, kind="portrait", background="yellow").facts.background == "yellow"


def test_two_given_things_stand_on_different_sides() -> None:
    facts = compose(5, things=[Thing("mug", "red"), Thing("cat", "black")], unseen=None).facts

    assert {thing.side for thing in facts.things} == {"left", "right"}


def test_training_scenes_hold_no_combination_that_is_kept_back(scenes: list[Scene]) -> None:
    assert not any(held_out(scene.facts, thing) for scene in scenes for thing in scene.facts.things)
    # The rule is not vacuous: without it, such combinations are drawn.
    assert any(held_out(scene.facts, scene.facts.things[0]) for scene in (compose(n, unseen=None) for n in range(100)))


def test_unseen_scenes_are_of_a_combination_that_is_kept_back() -> None:
    for seed in range(60):
        facts = compose(seed, unseen=True).facts
        assert held_out(facts, facts.things[0])


def test_a_tenth_of_the_combinations_is_kept_back_and_never_changes() -> None:
    outdoors = [
        is_unseen(kind, colour, setting)
        for setting in SETTINGS
        for kind in set(kinds_in(setting))
        for colour in COLOUR_WORDS
    ]

    assert 0.08 < np.mean(outdoors) < 0.12
    kept_back = [colour for colour in COLOUR_WORDS if is_unseen("car", colour, "mountains")]
    assert kept_back == ["red"]


def test_every_object_setting_and_colour_appears(scenes: list[Scene]) -> None:
    things = [thing for scene in scenes for thing in scene.facts.things]

    assert {thing.kind for thing in things} == {*DRAWN, *PEOPLE}
    assert {thing.colour for thing in things} == set(COLOUR_WORDS)
    assert {scene.facts.setting for scene in scenes} == {*SETTINGS, "table", "portrait"}


def test_colours_are_drawn_about_equally_often(scenes: list[Scene]) -> None:
    natural = ("tree", "pine tree", "cactus", "apple", "pear")
    colours = Counter(t.colour for s in scenes for t in s.facts.things if t.kind not in natural)
    walls = Counter(scene.facts.background for scene in scenes if scene.facts.background)

    assert max(colours.values()) < 1.5 * min(colours.values())
    assert max(walls.values()) < 2 * min(walls.values())


def test_about_a_third_of_the_scenes_hold_two_things_of_two_colours(scenes: list[Scene]) -> None:
    pairs = [len(scene.facts.things) == 2 for scene in scenes if scene.facts.setting != "portrait"]

    assert 0.25 < np.mean(pairs) < 0.38
    for scene in scenes:
        if len(scene.facts.things) == 2:
            first, second = scene.facts.things
            assert first.kind != second.kind
            assert first.colour != second.colour


def test_nothing_has_the_colour_of_the_wall_behind_it(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.facts.background not in [thing.colour for thing in scene.facts.things]


def test_as_many_of_a_thing_are_drawn_as_the_facts_say() -> None:
    def shapes(count: int) -> int:
        scene = compose(1, things=[Thing("cat", "black", count=count)], setting="desert", time="day", unseen=None)
        return sum(not shape.background for shape in scene.shapes)

    assert (shapes(2), shapes(3)) == (2 * shapes(1), 3 * shapes(1))


@pytest.mark.parametrize("kind", sorted(set(DRAWN) - set(TABLE) | {"cat"}))
def test_every_outdoor_object_lies_within_the_picture(kind: str) -> None:
    setting = "sea" if kind in ("boat", "fish") else "desert"
    for seed in range(12):
        scene = compose(seed, things=[Thing(kind, "red")], setting=setting, unseen=None)
        points = np.concatenate([shape.points for shape in scene.shapes if not shape.background])
        inside = ((points > -0.02) & (points < 1.02)).all(axis=1)
        assert inside.mean() > 0.97


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"setting": "moon"}, "no setting 'moon'"),
        ({"time": "noon"}, "no time 'noon'"),
        ({"background": "teal"}, "no colour 'teal'"),
        ({"things": [Thing("dragon", "red")]}, "no thing 'dragon'"),
        ({"things": [Thing("house", "red")], "setting": "sea"}, "no thing for 'sea' 'house'"),
        ({"things": [Thing("car", "")]}, "no colour 'none'"),
        ({"things": [Thing("car", "red", count=4)]}, "one to three"),
        ({"kind": "table", "time": "night"}, "not both"),
        (
            {"things": [Thing("boat", "red"), Thing("cactus", "green")], "setting": None, "background": "red"},
            "no scene",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compose(0, **given)  # type: ignore[arg-type]


def test_asking_for_a_seen_combination_that_is_kept_back_is_refused() -> None:
    assert is_unseen("car", "red", "mountains")
    with pytest.raises(ValueError, match="unseen=False"):
        compose(0, things=[Thing("car", "red")], setting="mountains")
