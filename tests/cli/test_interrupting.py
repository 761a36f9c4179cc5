"""Ctrl-C while training: the first saves and leaves, a second leaves at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from velatura import run as runs
from velatura.cli.interrupting import Interruptible
from velatura.events import Event, Note, Progress, Started
from velatura.recipe import Recipe
from velatura.run import Run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return runs.create(tmp_path, Recipe(), provenance={}, dataset_lines=[])


def work(run: Run, *, at: tuple[int, ...], stage: str = "training") -> Iterator[Event]:
    """Five steps, with Ctrl-C in some of them."""
    yield Started(run.path.name)
    for step in range(1, 6):
        yield Progress(stage, step, 9)
        if step in at:
            os.kill(os.getpid(), signal.SIGINT)
        asked, _ = run.requests(0)
        if "stop" in asked and step == 4:
            yield Note("saved")
            return


def test_the_first_asks_the_run_to_stop(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = Interruptible(work(run, at=(2,)), tmp_path)
    assert list(events)[-1] == Note("saved")
    assert events.asked and events.run == run
    assert "Ctrl-C again leaves at once" in capsys.readouterr().err


def test_a_second_leaves_at_once(run: Run, tmp_path: Path) -> None:
    seen = []
    with pytest.raises(KeyboardInterrupt):
        for event in Interruptible(work(run, at=(2, 3)), tmp_path):
            seen.append(event)
    assert seen[-1] == Progress("training", 3, 9)


def test_where_nothing_is_trained_the_first_leaves_at_once(run: Run, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(Interruptible(work(run, at=(2,), stage="judging"), tmp_path))
    assert run.requests(0)[0] == []


def test_afterwards_ctrl_c_is_what_it_was(run: Run, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    list(Interruptible(work(run, at=()), tmp_path))
    assert signal.getsignal(signal.SIGINT) == before
