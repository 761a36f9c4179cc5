"""Prompts that nobody types: very long, unbalanced, full of what is no text. Time grows with their length alone."""

from __future__ import annotations

import time

import pytest

from velatura.errors import PromptError
from velatura.generation.prompt import literal, parse, scheduled, weigh
from velatura.generation.prompt.schedule import schedule, text_at

LENGTH = 100_000


def as_long(piece: str) -> str:
    return piece * (LENGTH // len(piece))


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "word ",
            "a, ",
            "(",
            ")",
            "[",
            "]",
            "([",
            "(a:1.01)",
            "[a:b:3]",
            "[a|b]",
            "[a:",
            "|",
            "a\\",
            "\\(",
            ": ",
            "BREAK ",
        ),
        *("a AND ", "<lora:", "<", "<a:<", "\0", "🦊", "שלום ", "\r\n", "# x\n", " ", ":", ":1", "[a:b", "[(", "{a|b}"),
    ],
)
def test_a_hundred_thousand_characters_are_read_in_a_moment(piece: str) -> None:
    begun = time.process_time()
    for one in scheduled(as_long(piece), 20):
        for until in {until.text for until in one.texts[:2]}:
            try:
                parse(until)
            except PromptError as error:
                assert "infinity" in error.what
    assert time.process_time() - begun < 6


def test_edits_nested_thousands_deep_are_read() -> None:
    depth = 5000
    texts = schedule("[" * depth + "a" + "".join(f":{number % 20}]" for number in range(depth)), 20)
    assert [until.step for until in texts] == list(range(1, 21))
    assert {until.text for until in texts} == {"", "a"} or {until.text for until in texts} == {""}
    assert schedule("[a:" * depth, 20) == ((20, "[a:" * depth),)
    assert schedule("(" * depth + "[a:b:5]" + ")" * depth, 20)[0].text == "(" * depth + "a" + ")" * depth


def test_weights_beyond_all_numbers_are_refused_and_not_painted() -> None:
    with pytest.raises(PromptError, match="infinity"):
        weigh("(" * 8000 + "a")
    ((fragment,),) = weigh("[" * 8000 + "a")
    assert 0 <= fragment.weight < 1e-300


@pytest.mark.parametrize("when", ["1e999", "-1e999", "1.5e308"])
def test_a_step_beyond_all_numbers_is_refused_where_a1111_crashes(when: str) -> None:
    with pytest.raises(PromptError, match="not a step"):
        schedule(f"[a:b:{when}]", 20)


def test_an_end_of_line_in_a_prompt_is_a_space_of_any_kind() -> None:
    assert schedule("[a\r\n:b\n: 3\r\n]", 10) == ((3, "a\r\n"), (10, "b\n"))


def test_beyond_the_last_step_the_first_text_comes_again_as_in_a1111() -> None:
    texts = schedule("[a:b:2]", 4)
    assert [text_at(texts, step) for step in range(7)] == ["a", "a", "a", "b", "b", "a", "a"]


@pytest.mark.parametrize(
    "text", ["at 10:30", "1 : .5 ", "x:-3", "a AND b :2", "5 :1.:2", "(10:30)", "a\\", "[a|b]", "[a:b:3]"]
)
def test_a_caption_made_literal_has_no_weight_and_no_edits(text: str) -> None:
    (one,) = scheduled(literal(text), 10)
    assert one.weight == 1
    assert len(one.texts) == 1
    assert parse(one.texts[0].text).plain.lower() == text.rstrip().lower()
