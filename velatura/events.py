"""What long work yields: progress, measurements, pictures, checkpoints, its end.

Loops yield these instead of calling back. A run writes them to `events.jsonl`, the terminal and
the web page read them; stopping the iteration is the cancel.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Progress:
    """Work done so far, in units of the stage."""

    stage: str
    done: int
    total: int
    seconds_left: float | None = None


@dataclass(frozen=True)
class Metric:
    """Numbers measured at an optimizer step."""

    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Preview:
    """A picture made on the way; the path is relative to the run folder."""

    step: int
    path: str


@dataclass(frozen=True)
class Glimpse:
    """A picture as it looks so far, which the next one replaces."""

    step: int
    path: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is whole on disk; the path is relative to the run folder."""

    step: int
    path: str


@dataclass(frozen=True)
class Started:
    """Work on a run begins or goes on; its folder's name in the project's `runs`."""

    run: str


@dataclass(frozen=True)
class Resumed:
    """The run goes on from this step; what was recorded after it is void."""

    step: int


@dataclass(frozen=True)
class Note:
    """A sentence that the user should read."""

    text: str


@dataclass(frozen=True)
class Done:
    """The work is finished."""

    step: int
    summary: dict[str, Any] = field(default_factory=dict)


Event = Progress | Metric | Preview | Glimpse | Checkpoint | Started | Resumed | Note | Done

KINDS: dict[str, type[Any]] = {
    kind.__name__.lower(): kind
    for kind in (Progress, Metric, Preview, Glimpse, Checkpoint, Started, Resumed, Note, Done)
}


def to_json(event: Event) -> str:
    """One line of `events.jsonl`, without the line end; strict JSON, so a number that is not finite becomes null."""
    return json.dumps({"event": type(event).__name__.lower(), **_finite(asdict(event))}, sort_keys=True)


def from_json(line: str) -> Event | None:
    """The event of one line; None for a torn line or a kind this version does not know."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    kind = KINDS.get(str(record.pop("event", ""))) if isinstance(record, dict) else None
    if kind is None or set(record) - {entry.name for entry in fields(kind)}:
        return None
    if kind is Metric and isinstance(record.get("values"), dict):
        record["values"] = {name: math.nan if value is None else value for name, value in record["values"].items()}
    try:
        event: Event = kind(**record)
    except TypeError:
        return None
    return event


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
