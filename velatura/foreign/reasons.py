"""Why settings of other trainers are not carried over: the sentences that several of them share."""

from __future__ import annotations

MACHINE = "speed and memory are chosen here for the base and this machine; `velatura plan` says how"
LOGS = "each run keeps its own record in its folder"
FILES = "each run has a folder of its own, and files are written in one way"
HUB = "nothing is sent anywhere"
CARD = "this is said when a LoRA is handed on, not when it is trained"
ABSENT = "there is nothing like it here"
RESUME = "a run is gone on with by `velatura train` and the run's folder"
ELSEWHERE = "bases of this kind are not known here"


def names(text: str) -> tuple[str, ...]:
    """The names in a text with spaces between."""
    return tuple(text.split())


def each(why: str, keys: str) -> dict[str, str]:
    """The same reason for several keys, with spaces between."""
    return dict.fromkeys(names(keys), why)
