"""Long work as it is watched: a bar on a terminal, a line now and then in a pipe, JSON lines for machines.

All of it goes to stderr, JSON aside: stdout is for the answer.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from velatura.cli import output
from velatura.cli.output import Interrupted
from velatura.events import Checkpoint, Done, Event, Metric, Note, Preview, Progress, Resumed, to_json

if TYPE_CHECKING:
    from rich.progress import TaskID

QUIET_SECONDS = 15
"""Shortest time between two lines of progress in a pipe."""


def follow(events: Iterable[Event], *, as_json: bool, interrupted: str) -> Done | None:
    """Watch work to its end, and hand back how it ended.

    Args:
        events: the work; nothing happens before it is iterated.
        as_json: print every event as a JSON line on stdout.
        interrupted: what to say at Ctrl-C: how to go on.

    Raises:
        Interrupted: at Ctrl-C, after the work has been told to end.
    """
    show = _json_lines if as_json else _bars if sys.stderr.isatty() else _lines
    done = None
    try:
        for event in show(events):
            if isinstance(event, Done):
                done = event
    except KeyboardInterrupt:
        raise Interrupted(interrupted) from None
    finally:
        if close := getattr(events, "close", None):
            close()
    return done


def _json_lines(events: Iterable[Event]) -> Iterator[Event]:
    for event in events:
        print(to_json(event), flush=True)
        yield event


def _lines(events: Iterable[Event]) -> Iterator[Event]:
    """Sentences as they come, progress seldom."""
    remaining, last, measured = Remaining(), time.monotonic(), Measured()
    for event in events:
        if isinstance(event, Metric):
            measured.take(event)
        if isinstance(event, Progress):
            left = remaining(event)
            if time.monotonic() - last >= QUIET_SECONDS:
                last = time.monotonic()
                parts = [f"{event.stage} {event.done}/{event.total}", *filter(None, (left, str(measured)))]
                output.tell(", ".join(parts))
        elif sentence := _sentence(event):
            output.tell(sentence)
        yield event


def _bars(events: Iterable[Event]) -> Iterator[Event]:
    """One bar per stage, gone when the stage is over; sentences scroll by above."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    text = [
        TextColumn(f"{{task.{name}}}", markup=False) for name in ("description", "fields[left]", "fields[measured]")
    ]
    columns = (text[0], BarColumn(), MofNCompleteColumn(), text[1], text[2])
    remaining, tasks, measured = Remaining(), dict[str, "TaskID"](), Measured()
    with Bars(*columns, console=Console(stderr=True), refresh_per_second=4, transient=True) as bars:
        for event in events:
            if isinstance(event, Metric):
                measured.take(event)
            if isinstance(event, Progress):
                if event.stage not in tasks:
                    tasks[event.stage] = bars.add_task(output.printable(event.stage), left="", measured="")
                bars.update(
                    tasks[event.stage],
                    completed=event.done,
                    total=event.total,
                    left=remaining(event),
                    measured=str(measured) if event.stage == "training" else "",
                    visible=event.done < event.total,
                )
            elif sentence := _sentence(event):
                bars.console.print(output.printable(sentence), markup=False, highlight=False)
            yield event


class Remaining:
    """The time left of a stage in words: as the work says, else from the pace so far."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """No stage has begun yet."""
        self._clock = clock
        self._begun: dict[str, tuple[float, int]] = {}
        self._last: dict[str, int] = {}

    def __call__(self, event: Progress) -> str:
        """Words such as "4 min left"; none while nothing can be said."""
        now = self._clock()
        if event.done < self._last.get(event.stage, 0):  # the stage begins again
            del self._begun[event.stage]
        self._last[event.stage] = event.done
        begun, first = self._begun.setdefault(event.stage, (now, event.done))
        seconds = event.seconds_left
        if seconds is None and event.done > first:
            seconds = (now - begun) / (event.done - first) * (event.total - event.done)
        return "" if seconds is None or event.done >= event.total else f"{duration(seconds)} left"


def duration(seconds: float) -> str:
    """A time in words, no finer than it is known: "40 s", "4 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class Measured:
    """The last losses in words: of training, and on held-out pictures beside the base's."""

    def __init__(self) -> None:
        """Nothing has been measured yet."""
        self._values: dict[str, float] = {}

    def take(self, event: Metric) -> None:
        """Take newer numbers over."""
        self._values |= event.values

    def __str__(self) -> str:
        """Words such as "loss 0.1234, held out -1.2 %"."""
        told = [f"loss {self._values['loss']:.4f}"] if "loss" in self._values else []
        if "held_out" in self._values:
            told.append(f"held out {100 * math.expm1(self._values['held_out']):+.1f} %")
        return ", ".join(told)


def _sentence(event: Event) -> str:
    match event:
        case Note(text):
            return text
        case Resumed(step):
            return f"goes on from step {step}"
        case Checkpoint(step, path):
            return f"checkpoint at step {step}: {path}"
        case Preview(_, path):
            return f"picture: {path}"
        case _:
            return ""
