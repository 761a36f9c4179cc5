from __future__ import annotations

import json
import math

import pytest

from velatura.events import Checkpoint, Done, Event, Metric, Note, Preview, Progress, Resumed, from_json, to_json

EVENTS: list[Event] = [
    Progress("training", 3, 10),
    Progress("training", 3, 10, 12.5),
    Metric(3, {"loss": 0.25}),
    Preview(4, "samples/000004.png"),
    Checkpoint(4, "checkpoints/step-000004"),
    Resumed(4),
    Note("zwölf Bilder \N{RIGHTWARDS ARROW} \u2028 a \N{ARTIST PALETTE}"),
    Done(10, {"chosen": 4, "tied": [4, 6], "score": None}),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_from_its_line(event: Event) -> None:
    line = to_json(event)

    assert from_json(line) == event
    assert line.isascii() and len(line.splitlines()) == 1


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_a_line_torn_anywhere_is_no_event(event: Event) -> None:
    line = to_json(event)

    assert all(from_json(line[:end]) is None for end in range(len(line)))


def test_numbers_that_are_not_finite_stay_strict_json() -> None:
    line = to_json(Metric(1, {"loss": math.nan, "norm": math.inf, "rate": 0.5}))

    assert json.loads(line, parse_constant=pytest.fail)["values"] == {"loss": None, "norm": None, "rate": 0.5}
    read = from_json(line)
    assert isinstance(read, Metric) and math.isnan(read.values["loss"]) and read.values["rate"] == 0.5
    assert "NaN" not in to_json(Done(1, {"scores": [1.0, math.nan], "deep": {"x": -math.inf}}))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "null",
        "[]",
        '"note"',
        "17",
        '{"event": "sunrise", "step": 1}',
        '{"event": [], "step": 1}',
        '{"event": "note"}',
        '{"event": "note", "text": "a", "colour": "red"}',
        '{"step": 1}',
    ],
)
def test_what_this_version_does_not_know_is_passed_over(line: str) -> None:
    assert from_json(line) is None
