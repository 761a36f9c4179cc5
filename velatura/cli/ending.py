"""How long work ended, told on the terminal: the `summary` of its `Done` event."""

from __future__ import annotations

from velatura.cli import output
from velatura.events import Done


def show(done: Done) -> None:
    """Print the summary: short values as `name: value`, lists as their entries below their name."""
    for name, value in done.summary.items():
        label = name.replace("_", " ")
        if value in (None, "", [], {}):
            continue
        if isinstance(value, bool):
            output.say(f"{label}: {'yes' if value else 'no'}")
        elif isinstance(value, list):
            output.say(f"{label}:")
            for entry in value:
                output.say(f"  {entry}")
        else:
            output.say(f"{label}: {value}")
