from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest

from velatura.cli import progress
from velatura.cli.progress import Remaining, duration, follow
from velatura.events import Checkpoint, Done, Event, Metric, Note, Preview, Progress, Resumed

WORK: list[Event] = [
    Note("held out: [bold]3.png"),
    Resumed(100),
    Progress("training", 101, 103, 2.0),
    Metric(102, {"loss": 0.125}),
    Progress("training", 102, 103, 1.0),
    Checkpoint(102, "checkpoints/step-000102"),
    Preview(102, "samples/step-000102.png"),
    Progress("painting", 0, 2),
    Progress("painting", 2, 2),
    Progress("training", 103, 103, 0.0),
    Done(103, {"lora": "loras/ink.safetensors"}),
]

SENTENCES = [
    "held out: [bold]3.png",
    "goes on from step 100",
    "checkpoint at step 102: checkpoints/step-000102",
    "picture: samples/step-000102.png",
]


class Terminal(io.StringIO):
    """A stream that says it is one."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_sentences_and_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(iter(WORK), as_json=False, interrupted="") == WORK[-1]

    out, err = capsys.readouterr()
    assert out == "" and err.splitlines() == SENTENCES


def test_a_pipe_gets_a_line_of_progress_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))

    follow(
        [Metric(1, {"loss": 0.5}), *(Progress("training", n, 9, 60.0) for n in range(9))], as_json=False, interrupted=""
    )

    lines = capsys.readouterr().err.splitlines()
    assert 1 < len(lines) < 9
    assert lines[0] == "training 1/9, 60 s left, loss 0.5000"


def test_machines_get_every_event_as_a_line_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(iter(WORK), as_json=True, interrupted="") == WORK[-1]

    out, err = capsys.readouterr()
    assert [json.loads(line)["event"] for line in out.splitlines()] == [type(one).__name__.lower() for one in WORK]
    assert err == ""


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_a_terminal_gets_a_bar_and_the_sentences(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    terminal = Terminal()
    monkeypatch.setattr(terminal.__class__, "encoding", encoding)
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")

    assert follow(iter(WORK), as_json=False, interrupted="") == WORK[-1]

    shown = terminal.getvalue()
    assert all(sentence in shown for sentence in SENTENCES)
    assert "training" in shown and "102/103" in shown and "loss 0.1250" in shown
    shown.encode(encoding)


def test_work_is_ended_when_watching_it_fails(capsys: pytest.CaptureFixture[str]) -> None:
    ended = []

    def work() -> Iterator[Event]:
        try:
            yield Done(1, {"not": object()})
        finally:
            ended.append(True)

    with pytest.raises(TypeError):
        follow(work(), as_json=True, interrupted="")

    assert ended == [True]


def test_the_time_left_is_what_the_work_says_else_from_the_pace() -> None:
    clock = iter([0.0, 10.0, 20.0, 30.0, 40.0])
    remaining = Remaining(lambda: next(clock))

    assert remaining(Progress("painting", 0, 10)) == ""
    assert remaining(Progress("painting", 1, 10)) == "2 min left"
    assert remaining(Progress("painting", 4, 10)) == "30 s left"
    assert remaining(Progress("painting", 5, 10, 7.0)) == "7 s left"
    assert remaining(Progress("painting", 10, 10)) == ""


def test_a_stage_that_begins_again_has_a_pace_of_its_own() -> None:
    clock = iter([0.0, 100.0, 200.0, 201.0])
    remaining = Remaining(lambda: next(clock))
    remaining(Progress("painting", 0, 4))
    remaining(Progress("painting", 4, 4))

    assert remaining(Progress("painting", 0, 4)) == ""
    assert remaining(Progress("painting", 1, 4)) == "3 s left"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (3600, "60 min"), (7800, "2 h 10 min"), (360_000, "100 h 00 min")],
)
def test_durations_are_told_no_finer_than_they_are_known(seconds: float, words: str) -> None:
    assert duration(seconds) == words
