"""Captions: varied in wording, never wrong, never without the thing itself."""

from __future__ import annotations

import re

import numpy as np
import pytest

from velatura.pocket.captions import article, caption, plain_prompt, with_strange_words
from velatura.pocket.compose import compose
from velatura.pocket.scene import Facts, Scene, Thing
from velatura.pocket.styles import STYLES
from velatura.pocket.vocabulary import COLOUR_WORDS, DRAWN, NATURAL, PEOPLE, plural

BOATS = Facts((Thing("boat", "red", count=2),), "sea", "night", extras=("crescent moon", "two clouds"))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [compose(seed) for seed in range(600)]


def british(text: str) -> str:
    return text.replace("gray", "grey")


def wordings(facts: Facts, number: int = 300) -> list[str]:
    return [caption(facts, np.random.default_rng(seed)) for seed in range(number)]


def test_the_same_stream_gives_the_same_words() -> None:
    assert wordings(BOATS, 20) == wordings(BOATS, 20)


def test_every_thing_is_named_with_its_number(scenes: list[Scene]) -> None:
    numbers = {1: "", 2: "two ", 3: "three "}
    for scene in scenes:
        for thing in scene.facts.things:
            word = thing.kind if thing.count == 1 else plural(thing.kind)
            assert re.search(rf"\b{numbers[thing.count]}([a-z]+ )?{word}\b", scene.caption), scene.caption


def test_every_object_is_named_with_its_colour(scenes: list[Scene]) -> None:
    for scene in scenes:
        for thing in scene.facts.things:
            if thing.kind in PEOPLE or thing.kind == "snowman":
                continue
            word = thing.kind if thing.count == 1 else plural(thing.kind)
            leave_out = NATURAL.get(thing.kind) == (thing.colour,)
            assert leave_out or f"{thing.colour} {word}" in british(scene.caption), scene.caption


def test_a_caption_names_no_object_and_no_colour_that_is_not_there(scenes: list[Scene]) -> None:
    for scene in scenes:
        text, facts = british(scene.caption), scene.facts
        present = {word for thing in facts.things for word in (thing.kind, plural(thing.kind))}
        allowed = " ".join([facts.setting, *present, *facts.extras])
        for kind in (*DRAWN, *PEOPLE):
            named = re.search(rf"\b({kind}|{plural(kind)})\b", text)
            assert not named or named.group() in allowed, (text, kind)
        colours = {facts.background, "blue" if facts.time == "day" else "", *(thing.colour for thing in facts.things)}
        colours |= {word for extra in facts.extras for word in extra.split()}
        colours |= {"green"} if facts.setting == "green hills" else set()
        assert {word for word in COLOUR_WORDS if re.search(rf"\b{word}\b", text)} <= colours, text


def test_a_scene_is_described_in_many_ways_some_of_them_terse() -> None:
    texts = wordings(BOATS)

    assert len(set(texts)) > 60
    assert "two red boats, night" in texts
    assert any("at sea at night" in text and "crescent moon" in text for text in texts)
    assert 0.05 < np.mean([len(text.split()) <= 4 for text in texts]) < 0.35


def test_parts_are_left_out_at_times() -> None:
    texts = wordings(BOATS)

    for part in ("sea", "night", "moon", "clouds"):
        assert 0.4 < np.mean([part in text for text in texts]) < 0.97


def test_articles_fit_the_next_word() -> None:
    assert (article("orange cat"), article("red cat")) == ("an orange cat", "a red cat")


def test_a_snowman_wears_its_colour() -> None:
    facts = Facts((Thing("snowman", "red"),), "snow", "day")

    assert plain_prompt(facts) == "a snowman with a red hat in the snow, blue sky"
    assert not any("red snowman" in text for text in wordings(facts))


@pytest.mark.parametrize(
    ("facts", "prompt"),
    [
        (BOATS, "two red boats at sea at night, crescent moon, two clouds"),
        (
            Facts((Thing("car", "red", side="left"), Thing("owl", "orange", side="right")), "desert", "sunset"),
            "a red car on the left and an orange owl on the right in the desert at sunset",
        ),
        (
            Facts((Thing("woman", "blue"),), "portrait", background="red", extras=("blonde hair", "glasses")),
            "portrait of a woman with blonde hair and glasses, blue shirt, red background",
        ),
        (
            Facts((Thing("man", "blue"),), "portrait", background="red", extras=("grey hair", "glasses", "beard")),
            "portrait of a man with grey hair, a beard and glasses, blue shirt, red background",
        ),
        (Facts((Thing("mug", "green"),), "table", background="pink"), "a green mug on a table, pink wall"),
    ],
)
def test_the_plain_prompt_says_all_main_facts_in_one_way(facts: Facts, prompt: str) -> None:
    assert plain_prompt(facts) == prompt


def test_strange_words_leave_the_caption_whole_and_most_captions_alone() -> None:
    told = [with_strange_words("a red boat at sea", np.random.default_rng(seed)) for seed in range(400)]

    assert all("a red boat at sea" in text for text in told)
    assert 0.2 < np.mean([text != "a red boat at sea" for text in told]) < 0.4
    assert any(text.startswith("a red boat at sea, ") for text in told)
    assert any(text.endswith(", a red boat at sea") for text in told)


def test_strange_words_name_no_style_that_the_demo_teaches() -> None:
    told = " ".join(with_strange_words("", np.random.default_rng(seed)) for seed in range(2000))

    assert not [style.trigger for style in STYLES.values() if style.trigger in told]
