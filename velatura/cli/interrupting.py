"""Ctrl-C while training: the first saves and leaves, a second leaves at once."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType

from velatura.cli import output
from velatura.events import Event, Progress, Started
from velatura.run import Run


class Interruptible:
    """A training's events; at the first Ctrl-C between its steps the run is asked to stop."""

    def __init__(self, events: Iterable[Event], project: Path) -> None:
        """The handler is in place while they are iterated."""
        self._events, self._project = events, project
        self.run: Run | None = None
        """The run, as soon as it is known."""
        self._training = self.asked = False

    def __iter__(self) -> Iterator[Event]:
        """The events."""
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            for event in self._events:
                if isinstance(event, Started):
                    self.run = Run(self._project / "runs" / event.run)
                if isinstance(event, Progress):
                    self._training = event.stage == "training" and event.done < event.total
                yield event
        finally:
            signal.signal(signal.SIGINT, before)

    def close(self) -> None:
        """End the work."""
        if close := getattr(self._events, "close", None):
            close()

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self.asked or self.run is None or not self._training:
            raise KeyboardInterrupt
        self.asked = True
        self.run.ask("stop")
        output.tell("saving after this step; Ctrl-C again leaves at once")
