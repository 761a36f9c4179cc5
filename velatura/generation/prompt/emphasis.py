r"""Emphasis: how strongly each stretch of a text counts, and where it breaks.

    (word)  (word:1.3)  [word]     weight times 1.1, times 1.3, divided by 1.1; they nest and multiply
    \( \) \[ \] \\                 the character itself
    BREAK                          the text after it starts a new chunk of tokens

Fragments and weights are those of A1111 1.10, bit for bit, oddities included: an unclosed bracket
acts to the end, `[word:1.2]` keeps its colon as text. Where A1111 fails, this does not: a weight that
is no number is an error instead of a crash, and a BREAK inside brackets is a break instead of a word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

import numpy as np

from velatura.errors import PromptError

ROUND = 1.1
SQUARE = 1 / 1.1

_TOKEN = re.compile(r"(?P<escaped>\\[()\[\]\\]?)|:\s*(?P<weight>[+-]?[.\d]+)\s*\)|[()\[\]:]|[^\\()\[\]:]+")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_SHOWN = 60
_NOTHING = 1e-300


class Fragment(NamedTuple):
    """A stretch of text that has one weight."""

    text: str
    weight: float


def weigh(text: str) -> tuple[tuple[Fragment, ...], ...]:
    """Emphasis and breaks: the parts of a text, each as fragments with their weights.

    Raises:
        PromptError: a weight is not a number, or brackets multiply to more than a number holds.
    """
    pieces: list[str | None] = []  # None is a break
    rounds: list[int] = []
    squares: list[int] = []
    # Weights are multiplied afterwards, in this order: (first piece, one behind the last, factor).
    factors: list[tuple[int, int, float]] = []

    for match in _TOKEN.finditer(text):
        token = match[0]
        if match["escaped"]:
            # a backslash before anything else stands for itself, and A1111 drops it
            pieces.append(token[1:])
        elif token == "(":
            rounds.append(len(pieces))
        elif token == "[":
            squares.append(len(pieces))
        elif match["weight"] and rounds:
            factors.append((rounds.pop(), len(pieces), number(match["weight"], where=shown(text))))
        elif token == ")" and rounds:
            factors.append((rounds.pop(), len(pieces), ROUND))
        elif token == "]" and squares:
            factors.append((squares.pop(), len(pieces), SQUARE))
        else:
            first, *others = _BREAK.split(token)
            pieces.append(first)
            for piece in others:
                pieces += (None, piece)

    factors += ((start, len(pieces), ROUND) for start in rounds)
    factors += ((start, len(pieces), SQUARE) for start in squares)
    return _parts(zip(pieces, _weights(len(pieces), factors, text), strict=True))


def _weights(count: int, factors: Iterable[tuple[int, int, float]], text: str) -> list[float]:
    weights = np.ones(count)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for count, (start, end, factor) in enumerate(factors, 1):
            weights[start:end] *= factor
            if count % 512 == 0:  # processors are slow with numbers that are almost nothing
                weights[np.abs(weights) < _NOTHING] = 0
    if not np.isfinite(weights).all():
        raise PromptError("the brackets multiply to infinity", where=shown(text), fix="take brackets away")
    return [float(weight) for weight in weights]


def _parts(weighted: Iterable[tuple[str | None, float]]) -> tuple[tuple[Fragment, ...], ...]:
    """Split at the breaks, and join neighbours of equal weight."""
    parts: list[list[tuple[str, float]]] = [[]]
    for text, weight in weighted:
        if text is None:
            parts.append([])
        else:
            parts[-1].append((text, weight))
    joined = [
        tuple(
            Fragment("".join(text for text, _ in run), weight) for weight, run in groupby(part, key=lambda one: one[1])
        )
        for part in parts
    ]
    return tuple(joined) if parts != [[]] else ((Fragment("", 1.0),),)


def number(text: str, *, where: str) -> float:
    """A weight or a strength.

    Raises:
        PromptError: it is no finite number.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PromptError(f"{text!r} is not a number", where=where, fix="write it like 0.8 or 1.2")
    return value


def shown(text: str) -> str:
    """As much of a prompt as a message shows."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
