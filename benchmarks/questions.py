"""What a picture is asked, what a right answer is, and how answers add up to rates.

A scene's facts are the question: this is what the prompt said. An `Answer` is what the oracle read off
the picture. Every figure of the benchmarks is a share of right answers to one of `QUESTIONS`.
No torch here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from velatura.pocket.scene import Facts
from velatura.pocket.vocabulary import COLOUR_WORDS, DRAWN, PEOPLE, SETTINGS, TIMES

KINDS: tuple[str, ...] = (*DRAWN, *PEOPLE)
PLACES: tuple[str, ...] = (*SETTINGS, "table", "portrait")
COLOURS = COLOUR_WORDS
HOURS = TIMES

QUESTIONS: dict[str, str] = {
    "object": "one kind of thing asked for: that kind is seen, and no other",
    "colour": "one kind of thing asked for: its colour (of a person, the shirt's; of a snowman, the hat's)",
    "object and colour": "both of these at once",
    "count": "one, two or three of a kind; portraits are not asked",
    "two or three": "the same where more than one was asked for",
    "setting": "which of the outdoor settings",
    "time": "day, sunset or night; outdoors",
    "background": "colour of the wall; portraits and tables",
    "two objects": "two different things asked for: both are seen, and no other",
    "two colours": "two different things asked for: each has its own colour",
    "two objects, two colours": "both of these at once",
}
"""Name of a question -> who is asked, and what."""
OF_COLOUR = frozenset(question for question in QUESTIONS if "colour" in question) | {"background"}
"""The questions that make no sense where a picture has no colours."""


@dataclass(frozen=True)
class Answer:
    """What the oracle reads off one picture."""

    kinds: frozenset[str]
    """The kinds of thing that are seen; at least one."""
    colours: Mapping[str, str]
    """For every kind the colour that it has, if it is there at all."""
    count: int
    """Of the main kind, 1 to 3."""
    setting: str
    """One of `PLACES`."""
    time: str
    background: str


def verdict(facts: Facts, answer: Answer) -> dict[str, bool]:
    """Which questions were answered right; those that do not apply to the scene are left out."""
    right: dict[str, bool] = {}
    asked = frozenset(thing.kind for thing in facts.things)
    kinds = answer.kinds == asked
    colours = all(answer.colours[thing.kind] == thing.colour for thing in facts.things if thing.colour)
    if len(asked) == 1:
        right |= {"object": kinds, "colour": colours, "object and colour": kinds and colours}
        count = facts.things[0].count
        if facts.setting != "portrait":
            right["count"] = answer.count == count
        if count > 1:
            right["two or three"] = answer.count == count
    else:
        right |= {"two objects": kinds, "two colours": colours, "two objects, two colours": kinds and colours}
    if facts.setting in SETTINGS:
        right |= {"setting": answer.setting == facts.setting, "time": answer.time == facts.time}
    else:
        right["background"] = answer.background == facts.background
    return right


@dataclass(frozen=True)
class Rate:
    """A share of right answers."""

    right: int
    asked: int

    @property
    def share(self) -> float:
        """0 to 1; not a number where nothing was asked."""
        return self.right / self.asked if self.asked else math.nan

    @property
    def margin(self) -> float:
        """Half the width of the 95 % interval (Wilson 1927)."""
        if not self.asked:
            return math.nan
        z, n = 1.96, self.asked
        return z / (1 + z * z / n) * math.sqrt(self.share * (1 - self.share) / n + z * z / (4 * n * n))


def rates(scenes: Iterable[Facts], answers: Iterable[Answer]) -> dict[str, Rate]:
    """Every question's rate over pictures, in the order of `QUESTIONS`."""
    verdicts = [verdict(facts, answer) for facts, answer in zip(scenes, answers, strict=True)]
    found = {}
    for question in QUESTIONS:
        given = [one[question] for one in verdicts if question in one]
        found[question] = Rate(sum(given), len(given))
    return found


def kept(rate: Rate, base: Rate) -> float:
    """A rate as a share of the base's; not a number where the base has none right."""
    return rate.share / base.share if base.right and rate.asked else math.nan


def percent(share: float) -> str:
    """A share as text, "-" where there is none."""
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in columns; the first column is set to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
