"""The grammar against A1111's own parser: vectors that it made, and itself over thousands of random prompts.

The vectors are in `tests/golden/a1111_prompts.jsonl`. For the rest, VELATURA_A1111 names a checkout of A1111 1.6 or
later; `lark` has to be installed (A1111 pins 1.1.2). Which way that parser reads an edit before a stray bracket depends
on Python's hash seed, so it runs with several, and one of them has to agree.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from velatura.errors import PromptError
from velatura.generation.prompt import weigh
from velatura.generation.prompt.composition import compose
from velatura.generation.prompt.schedule import schedule

VECTORS = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "golden" / "a1111_prompts.jsonl").read_text("utf-8").splitlines()
]
SECOND_PASS = 6
CHECKOUT = os.environ.get("VELATURA_A1111", "")
COUNT = int(os.environ.get("VELATURA_FUZZ", "2000"))


def emphasis(text: str) -> list[list[Any]]:
    """Fragments as A1111 lists them."""
    found: list[list[Any]] = []
    for place, part in enumerate(weigh(text)):
        found += [["BREAK", -1]] if place else []
        found += [list(fragment) for fragment in part]
    return found


def listed(found: Any) -> list[list[Any]]:
    return [list(one) for one in found]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["prompt"][:30])
def test_prompts_mean_what_a1111_makes_of_them(vector: dict[str, Any]) -> None:
    prompt, steps = vector["prompt"], vector["steps"]
    assert listed(schedule(prompt, steps)) == vector["schedule"]
    assert listed(schedule(prompt, SECOND_PASS, first_pass=steps)) == vector["second_pass_of_6"]
    assert listed(compose(prompt)) == vector["composition"]
    if vector["emphasis"] is not None:
        assert emphasis(prompt) == vector["emphasis"]


def test_the_vectors_hold_edits_alternations_and_weights_enough() -> None:
    assert sum(len(vector["schedule"]) > 1 for vector in VECTORS) > 100
    assert sum(len(vector["composition"]) > 1 for vector in VECTORS) > 5
    assert sum(len(vector["emphasis"] or ()) > 1 for vector in VECTORS) > 50


WORDS = [
    *("a", "cat", " ", "  ", ", ", "\n", "red house", "BREAK", " AND ", "AND", "x_y", "10", ".5", "é", "日本", "🦊"),
    *("ﺎ", "\t", "#", "<", ">", "{", "}", "!", "-", "+", "1e3", "\0", "\r\n"),
]
MARKS = [*"()[]()[]::|\\", "\\(", "\\]", "\\\\", "\\|", "\\:"]
NUMBERS = [
    *("0.5", "3", ".25", "5.", "1.0", "1", "0", "-1", "-0.5", "+2", "99", "0.3", "1.5", "2e0", "1.2.3", "", " 4 "),
    *("0.71", "1.4", "12", "1.75", "1e999"),
]
STEPS = (4, 10, 7, 20)


def nested(draw: random.Random, depth: int) -> str:
    """A prompt as the grammar has it."""

    def inner() -> str:
        return nested(draw, depth - 1)

    forms: list[tuple[int, Callable[[], str]]] = [
        (20, lambda: inner() + inner()),
        (10, lambda: f"({inner()})"),
        (8, lambda: f"({inner()}:{draw.choice(NUMBERS)})"),
        (4, lambda: f"[{inner()}]"),
        (12, lambda: f"[{inner()}:{inner()}:{draw.choice(NUMBERS)}]"),
        (5, lambda: f"[{inner()}:{draw.choice(NUMBERS)}]"),
        (4, lambda: f"[{inner()}::{draw.choice(NUMBERS)}]"),
        (10, lambda: f"[{'|'.join(inner() for _ in range(draw.randint(2, 4)))}]"),
        (4, lambda: f"{inner()} AND {inner()} :{draw.choice(NUMBERS)}"),
    ]
    if depth <= 0 or draw.random() < 0.3:
        return "".join(draw.choice(WORDS) for _ in range(draw.randint(0, 2)))
    weights, made = zip(*forms, strict=True)
    return str(draw.choices(made, weights)[0]())


def random_prompt(number: int) -> str:
    """One in four is noise, one as the grammar has it, two of them with a slip or two."""
    draw = random.Random(number)
    if number % 4 == 0:
        return "".join(draw.choice(draw.choice((WORDS, MARKS, NUMBERS))) for _ in range(draw.randint(0, 14)))
    text = nested(draw, draw.randint(1, 4))
    for _ in range(draw.randint(1, 2) if number % 4 > 1 else 0):
        at = draw.randint(0, len(text))
        text = text[:at] + draw.choice(MARKS) + text[at:] if draw.random() < 0.6 else text[:at] + text[at + 1 :]
    return text[:90]


THEIRS = """
import json, sys, types
sys.modules["torch"] = types.ModuleType("torch")
sys.path.insert(0, sys.argv[1])
from modules import prompt_parser as parser

def tried(work):
    try:
        return work()
    except Exception:
        return "crash"

def composed(prompt):
    indexes, texts, _ = parser.get_multicond_prompt_list([prompt])
    return [[texts[index], weight] for index, weight in indexes[0]]

print(json.dumps([
    [
        tried(lambda: parser.get_learned_conditioning_prompt_schedules([prompt], steps)[0]),
        tried(lambda: parser.get_learned_conditioning_prompt_schedules([prompt], steps, 6)[0]),
        tried(lambda: composed(prompt)),
        tried(lambda: parser.parse_prompt_attention(broken)),
    ]
    for prompt, steps, broken in json.load(sys.stdin)
]))
"""


def theirs(asked: list[tuple[str, int]], seed: int) -> list[list[Any]]:
    run = subprocess.run(
        [sys.executable, "-c", THEIRS, CHECKOUT],
        input=json.dumps([(prompt, steps, broken_apart(prompt)) for prompt, steps in asked]),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
    )
    found: list[list[Any]] = json.loads(run.stdout)
    return found


def ours(prompt: str, steps: int) -> list[Any]:
    def tried(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except PromptError:
            return "crash"

    return [
        tried(lambda: listed(schedule(prompt, steps))),
        tried(lambda: listed(schedule(prompt, SECOND_PASS, first_pass=steps))),
        tried(lambda: listed(compose(prompt))),
        tried(lambda: emphasis(broken_apart(prompt))),
    ]


def broken_apart(prompt: str) -> str:
    """In A1111 brackets change the mark of a BREAK inside them, which makes a word of it; here it stays a break."""
    return prompt.replace("BREAK", "break") if "(" in prompt or "[" in prompt else prompt


@pytest.mark.skipif(not CHECKOUT, reason="VELATURA_A1111 names no checkout of A1111")
def test_random_prompts_mean_what_a1111_makes_of_them() -> None:
    left = [(random_prompt(number), STEPS[number // 4 % 4]) for number in range(COUNT)]
    for seed in range(100):
        told = theirs(left, seed)
        agreed = [ours(prompt, steps) == found for (prompt, steps), found in zip(left, told, strict=True)]
        if seed == 0:
            assert sum(agreed) > 0.95 * COUNT
        left = [one for one, same in zip(left, agreed, strict=True) if not same]
        if not left:
            return
    pytest.fail(f"{len(left)} of {COUNT} prompts differ: {left[:5]}")
