"""Prompts with choices in them: what may come out, how often, and that it is the same again."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from velatura.errors import PromptError
from velatura.generation.prompt.styles import Style
from velatura.generation.prompt.template import Template, chosen, has_choices, without_comments
from velatura.generation.prompt.wildcards import Wildcards

NONE = Wildcards()
DRAWS = 400


def outcomes(text: str, wildcards: Wildcards = NONE) -> Counter[str]:
    return Counter(chosen(text, seed, "prompt", wildcards) for seed in range(DRAWS))


@pytest.fixture
def wildcards(tmp_path: Path) -> Wildcards:
    """Files of a project, and behind them those of the user."""
    told = {
        "own/colour.txt": "red\r\n\r\n# a comment\r\nblue # not so bright\r\nred\r\n",
        "own/animals/cat.txt": "a {black|white} cat\n",
        "own/animals/wild/fox.txt": "fox\n",
        "own/pair.txt": "__colour__ __animals/wild/*__\n",
        "own/itself.txt": "__itself__ __itself__\n",
        "own/empty.txt": "# nothing\n",
        "user/colour.txt": "never\n",
        "user/place.txt": "\ufeffat sea\n",
    }
    for name, text in told.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    (tmp_path / "user" / "latin.txt").write_bytes("café".encode("latin-1"))
    return Wildcards([tmp_path / "own", tmp_path / "missing", tmp_path / "user"])


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("a {red|green} cat", {"a red cat", "a green cat"}),
        ("{red |}cat", {"red cat", "cat"}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{a}", {"a"}),
        ("{2$$a|b|c}", {"a, b", "b, a", "a, c", "c, a", "b, c", "c, b"}),
        ("{2$$ and $$a|b}", {"a and b", "b and a"}),
        ("{1-2$$+$$a|b}", {"a", "b", "a+b", "b+a"}),
        ("{-1$$a|b}", {"a", "b"}),
        ("{2-$$a|b}", {"a, b", "b, a"}),
        ("{0-1$$a|b}", {"", "a", "b"}),
        ("{9$$a|b}", {"a, b", "b, a"}),
        ("{1::a|0::b}", {"a"}),
        ("{[a|b]|c}", {"[a|b]", "c"}),
        ("[{a|b}:c:0.5]", {"[a:c:0.5]", "[b:c:0.5]"}),
        ("(a:1.2) [a|b] a | b } $ {", {"(a:1.2) [a|b] a | b } $ {"}),
        ("{|", {"{|"}),
        (r"\{a|b\} \__x__", {r"\{a|b\} \__x__"}),
        ("o__o", {"o__o"}),
        (">__<, snake_case__, __ x __", {">__<, snake_case__, __ x __"}),
    ],
)
def test_one_of_the_options_is_chosen(text: str, possible: set[str]) -> None:
    assert set(outcomes(text)) == possible


def test_options_come_as_often_as_their_weights_have_it() -> None:
    even, odd = outcomes("{a|b}"), outcomes("{.5::a|1.5::b}")
    assert abs(even["a"] - DRAWS / 2) < 50
    assert abs(odd["a"] - DRAWS / 4) < 50


def test_what_is_chosen_hangs_on_the_seed_and_on_the_choices_before_it_alone() -> None:
    text = "{a|b|c|d} {e|f|g|h}"
    assert outcomes(text) == outcomes(text)
    assert len(outcomes(text)) == 16
    longer = [chosen(f"{text} {{x|y}} more", seed, "prompt", NONE) for seed in range(20)]
    assert [one[:3] for one in longer] == [chosen(text, seed, "prompt", NONE) for seed in range(20)]
    assert [chosen(text, seed, "negative prompt", NONE) for seed in range(20)] != [one[:3] for one in longer]


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ("__colour__", {"red", "blue"}),
        ("__COLOUR__ __place__", {"red at sea", "blue at sea"}),
        ("__animals/cat__", {"a black cat", "a white cat"}),
        ("__animals/*__", {"a black cat", "a white cat"}),
        ("__animals/**__", {"a black cat", "a white cat", "fox"}),
        ("__pair__", {"red fox", "blue fox"}),
        ("{2$$__colour__}", {"red, blue", "blue, red"}),
        ("<lora:my__colour__file:0.5>", {"<lora:myredfile:0.5>", "<lora:mybluefile:0.5>"}),
        ("<lora:some__other__file:0.5> a", {"<lora:some__other__file:0.5> a"}),
    ],
)
def test_a_wildcard_is_a_line_of_its_file(wildcards: Wildcards, text: str, possible: set[str]) -> None:
    assert set(outcomes(text, wildcards)) == possible


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("__color__", "did you mean __colour__"),
        ("__itself__", "more than 50 deep"),
        ("__empty__", "holds no lines"),
        ("__latin__", "not in UTF-8"),
        ("{0::a|0::b}", "weight 0"),
        ("{3-2$$a|b}", "chooses nothing"),
        ("${season=summer} ${season}", "variables"),
        ("{a|b}" * 10_001, "more than 10000 choices"),
        ("{" * 60 + "a" + "}" * 60, "more than 50 deep"),
    ],
)
def test_what_cannot_be_chosen_is_one_sentence(wildcards: Wildcards, text: str, words: str) -> None:
    with pytest.raises(PromptError, match=words):
        chosen(text, 1, "prompt", wildcards)


def test_comments_go_as_in_a1111() -> None:
    assert without_comments("a # b\nc") == "a \nc"
    assert without_comments("# a\nb\n#c\nd#") == "\nb\nd\n"
    assert without_comments("a\r\n") == "a\r\n"


def test_styles_come_first_and_comments_and_choices_in_them_count(wildcards: Wildcards) -> None:
    style = Style("ink", "ink of {prompt} # black\n, __place__", "{a|a}")
    told = Template("a cat", "noise", (style,)).resolve(1, wildcards)
    assert told == ("ink of a cat \n, at sea", "noise, a")
    told = Template("a cat # mine", "", (style, Style("night", "at night"))).resolve(1, wildcards)
    assert told[0] == "ink of a cat \n \n, at sea, at night", "a comment takes nothing of the styles with it"
    as_is = Template("a {cat|dog} # x", "", (style,), as_is=True).resolve(1, wildcards)
    assert as_is == ("ink of a {cat|dog} # x # black\n, __place__", "{a|a}")


def test_whether_something_is_left_open_is_known() -> None:
    assert has_choices("a {b|c}")
    assert has_choices("__x__")
    assert not has_choices("a (b:1.2) [c|d] } {")


@pytest.mark.parametrize(
    "text", ["{" * 100_000, "[" * 40_000 + "|" * 20_000 + "}" * 40_000, "{[|" * 33_000, "<a:" * 33_000, "_$" * 50_000]
)
def test_long_prompts_take_no_longer_than_they_are(text: str) -> None:
    begun = time.process_time()
    assert chosen(text, 1, "prompt", NONE) == text
    assert time.process_time() - begun < 3
