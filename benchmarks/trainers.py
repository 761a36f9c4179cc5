"""Trainers as they are started from the command line, watched from outside: what they have done, taken and held.

Each is a process of its own. It can be stopped and let go on, so that two trainers take turns in short stretches on a
machine whose pace changes, both loaded. Linux only.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")

COUNT = re.compile(r"steps:.*?\s(\d+)/\d+ \[", re.IGNORECASE)
"""How the peers' progress bars say which step is done."""


@dataclass(frozen=True)
class Trainer:
    """How one is started."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Seen:
    """A moment in a process: a step had just been done."""

    step: int
    wall: float
    cpu: float


@dataclass
class Running:
    """A trainer at work."""

    trainer: Trainer
    said: list[str] = field(default_factory=list)
    steps: list[Seen] = field(default_factory=list)
    resident: int = 0
    """Bytes at most, mapped files that were read among them."""
    anonymous: int = 0
    """Bytes at most that no file stands behind."""

    def __post_init__(self) -> None:
        """It begins."""
        self._changed = threading.Condition()
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            self.trainer.command,
            cwd=self.trainer.folder,
            env=dict(self.trainer.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for work in (self._read, self._watch):
            threading.Thread(target=work, daemon=True).start()

    def first_step(self, *, limit: float = 1800.0) -> tuple[float, float]:
        """Wait for the first step to be done; seconds by the clock and of the processor until then."""
        self.until(1, limit=limit)
        return self.steps[0].wall - self.started, self.steps[0].cpu

    def until(self, step: int, *, limit: float = 1800.0) -> None:
        """Wait until a step is done.

        Raises:
            RuntimeError: the process ended before, or the time is over.
        """
        end = time.perf_counter() + limit
        with self._changed:
            while not self.steps or self.steps[-1].step < step:
                if self._process.poll() is not None or time.perf_counter() > end:
                    raise RuntimeError(f"{self.trainer.name} came to no step {step}:\n" + "\n".join(self.said[-30:]))
                self._changed.wait(1.0)

    def stretch(self, count: int) -> tuple[float, float]:
        """Go on for so many steps, and stop; seconds of one by the clock and of the processor.

        The step in which it was stopped before is finished first, and does not count.
        """
        done = self.steps[-1].step
        self._process.send_signal(signal.SIGCONT)
        self.until(done + 1 + count)
        self.pause()
        first, last = (next(one for one in self.steps if one.step == step) for step in (done + 1, done + 1 + count))
        return (last.wall - first.wall) / count, (last.cpu - first.cpu) / count

    def pause(self) -> None:
        """Stop where it is; its memory stays."""
        self._process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        """It is not needed any more."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        kept = b""
        while chunk := os.read(self._process.stdout.fileno(), 65536):
            *lines, kept = re.split(rb"[\r\n]", kept + chunk)
            for line in lines:
                self._heard(line.decode(errors="replace"))
        with self._changed:
            self._changed.notify_all()

    def _heard(self, line: str) -> None:
        self.said.append(line)
        step = _step(line)
        if step and (not self.steps or step > self.steps[-1].step):
            with self._changed:
                self.steps.append(Seen(step, time.perf_counter(), self._cpu()))
                self._changed.notify_all()

    def _cpu(self) -> float:
        told = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, told[11:13])) / TICKS

    def _watch(self) -> None:
        path = Path(f"/proc/{self._process.pid}/status")
        while self._process.poll() is None:
            try:
                lines = [line.split() for line in path.read_text().splitlines()]
            except OSError:
                return
            held = {words[0]: int(words[1]) * 1024 for words in lines if words[-1:] == ["kB"]}
            self.resident = max(self.resident, held.get("VmHWM:", 0))
            self.anonymous = max(self.anonymous, held.get("RssAnon:", 0) + held.get("RssShmem:", 0))
            time.sleep(0.02)


def _step(line: str) -> int:
    """The step that a line says is done; 0 where it says none."""
    if line.startswith("{"):
        told = json.loads(line)
        return int(told["done"]) if told.get("stage") == "training" else 0
    found = COUNT.findall(line)
    return int(found[-1]) if found else 0
