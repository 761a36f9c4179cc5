"""Emphasis, against fragments and weights worked out with A1111 1.10's own parser."""

from __future__ import annotations

import pytest

from velatura.errors import PromptError
from velatura.generation.prompt import Fragment, weigh


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("plain words", [("plain words", 1.0)]),
        ("", [("", 1.0)]),
        ("()", [("", 1.0)]),
        (":", [(":", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(a: 1.25 )", [("a", 1.25)]),
        ("(a:b:1.2)", [("a:b", 1.2)]),
        ("(a:-1)", [("a", -1.0)]),
        ("[[x]]", [("x", 0.8264462809917354)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.5730000000000004),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641000000000006),
                (".", 1.1),
            ],
        ),
    ],
)
def test_emphasis_multiplies_weights(text: str, fragments: list[tuple[str, float]]) -> None:
    assert weigh(text) == (tuple(fragments),)


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("(a:1.3", [("a:1.3", 1.1)]),
        ("[a:1.2]", [("a:1.2", 0.9090909090909091)]),
        ("((a) [b", [("a", 1.2100000000000002), (" ", 1.1), ("b", 1.0)]),
        ("a]b)c", [("a]b)c", 1.0)]),
        ("a :1.2) b", [("a :1.2) b", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
    ],
)
def test_brackets_without_a_partner_do_what_a1111_does(text: str, fragments: list[tuple[str, float]]) -> None:
    assert weigh(text) == (tuple(fragments),)


def test_a_backslash_makes_a_bracket_plain() -> None:
    assert weigh(r"\(literal\] \\ (x \) y)") == ((Fragment(r"(literal] \ ", 1.0), Fragment("x ) y", 1.1)),)
    assert weigh(r"a \d") == ((Fragment("a d", 1.0),),)


def test_break_starts_a_new_part() -> None:
    assert weigh("a BREAK (b) BREAK c") == (
        (Fragment("a", 1.0),),
        (Fragment("", 1.0), Fragment("b", 1.1), Fragment("", 1.0)),
        (Fragment("c", 1.0),),
    )
    assert weigh("aBREAKb, BREAKS") == ((Fragment("aBREAKb, BREAKS", 1.0),),)
    assert len(weigh("BREAK\nBREAK")) == 3


def test_a_break_inside_brackets_is_still_a_break() -> None:
    assert weigh("(a BREAK b:1.2)") == ((Fragment("a", 1.2),), (Fragment("b", 1.2),))


@pytest.mark.parametrize("weight", ["1.2.3", ".", "+.", "1-2"])
def test_a_weight_that_is_no_number_is_an_error_and_not_a_crash(weight: str) -> None:
    if weight == "1-2":
        assert weigh(f"(a:{weight})") == ((Fragment("a:1-2", 1.1),),)
    else:
        with pytest.raises(PromptError, match="not a number"):
            weigh(f"(a:{weight})")
