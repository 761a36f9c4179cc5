"""How long work ended, told on the terminal: the `summary` of its `Done` event."""

from __future__ import annotations

from velatura.cli import output
from velatura.events import Done


def show(done: Done) -> None:
    """Print the summary: values as `name: value`, lists as their entries below their name."""
    for name, value in done.summary.items():
        label = name.replace("_", " ")
        if value in (None, "", [], {}):
            continue
        if name == "chosen":
            if not value:
                output.say("no checkpoint can be recommended; this is the last one")
        elif isinstance(value, bool):
            continue  # a note has said it in words
        elif isinstance(value, list):
            output.say(f"{label}:")
            for entry in value:
                output.say(f"  {entry}")
        else:
            output.say(f"{label}: {value}")
