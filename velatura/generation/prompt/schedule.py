r"""Prompts that change while they are painted: A1111's prompt editing and alternating words.

    [from:to:when]  [to:when]  [from::when]     one text, then another; `when` as below
    [a|b|c]                                     another word in each step, over and over; options may be empty
    \[ \] \( \) \: \|                           the character itself

`when` with a point in it is a share of the steps (0.5: after half of them), without one a step. They nest, and brackets
of emphasis stay as they are, for `emphasis` to read. A second pass at high resolution goes on counting where the first
ended: 1.5 is the middle of the second pass, in shares; in steps, those of the first come before its own.

The texts and their steps are those of A1111 1.10. Its parser decides at random, anew with each start of the
program, whether `[a:b:5]` directly before a bracket or colon that has no partner is an edit or plain text; here it is
always an edit. A prompt in which a "|" stands outside of such brackets, or a backslash before the end of a line, has no
edits at all, as there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from velatura.errors import PromptError
from velatura.generation.prompt.emphasis import shown

_TOKEN = re.compile(r"[^\\()\[\]:|]+|\\.|[()\[\]:|]")
_WHEN = re.compile(r"\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")
_PARTNER = {")": "(", "]": "["}


class Until(NamedTuple):
    """A text, and how long it is painted with."""

    step: int
    """The last step of this text; steps count from 0 while painting, as in A1111, so the first text has one more."""
    text: str


def schedule(text: str, steps: int, *, first_pass: int | None = None) -> tuple[Until, ...]:
    """The texts of a prompt in order, each with its last step; what has no edits is one text.

    Args:
        steps: of this pass.
        first_pass: steps of the pass before, where this is the second.

    Raises:
        PromptError: a step is beyond all numbers.
    """
    read = _read(text)
    if read is None:
        return (Until(steps, text),)
    ends = {steps}
    for edit in read.edits:
        edit.step = min(steps, _step(edit.when, steps, first_pass, text))
        if edit.step >= 1:
            ends.add(edit.step)
    if read.alternates:
        ends.update(range(1, steps + 1))
    return tuple(Until(end, _at(read.content, end)) for end in sorted(ends))


def text_at(texts: Sequence[Until], step: int) -> str:
    """The text of a step, counted from 0; beyond the last one, the first, as in A1111."""
    return next((one.text for one in texts if step <= one.step), texts[0].text)


@dataclass(eq=False)
class _Edit:
    before: list[_Item]
    after: list[_Item]
    when: str
    step: int = 0

    def at(self, step: int) -> list[_Item]:
        return self.before if step <= self.step else self.after


@dataclass(eq=False)
class _Alternation:
    options: list[list[_Item]]

    def at(self, step: int) -> list[_Item]:
        return self.options[(step - 1) % len(self.options)]


_Item = str | _Edit | _Alternation


@dataclass
class _Read:
    """A prompt as plain pieces, edits and alternations."""

    content: list[_Item] = field(default_factory=list)
    edits: list[_Edit] = field(default_factory=list)
    alternates: bool = False


@dataclass
class _Open:
    """A bracket without its partner yet, and where in the content it and its separators stand."""

    bracket: str
    start: int
    colons: list[int] = field(default_factory=list)
    bars: list[int] = field(default_factory=list)


def _read(text: str) -> _Read | None:
    """A prompt taken apart, in one pass; None where A1111's grammar does not hold it.

    A bracket without a partner, or whose pair means nothing, may not stand inside another's: those open around it
    are plain characters too.
    """
    read, end = _Read(), 0
    opened: list[_Open] = []
    for match in _TOKEN.finditer(text):
        if match.start() != end:
            return None
        token, end = match[0], match.end()
        if token in _PARTNER and opened:
            if _closes(token, opened[-1], read):
                opened.pop()
                continue
            if any(one.bars for one in opened):
                return None
            opened.clear()
        elif token in _PARTNER.values():
            opened.append(_Open(token, len(read.content)))
        elif token == ":" and opened:
            opened[-1].colons.append(len(read.content))
        elif token == "|":
            if not opened:
                return None
            opened[-1].bars.append(len(read.content))
        read.content.append(token)
    return None if end != len(text) or any(one.bars for one in opened) else read


def _closes(token: str, at: _Open, read: _Read) -> bool:
    """Whether a bracket ends what the last open one began; the content is then changed accordingly."""
    content, colons, bars = read.content, at.colons, at.bars
    if at.bracket != _PARTNER[token]:
        return False
    if not bars and len(colons) <= (1 if token == ")" else 0):
        content.append(token)
        return True
    if token == ")" or (colons and bars):
        return False
    if bars:
        cuts = [at.start, *bars, len(content)]
        made: _Item = _Alternation([content[cut + 1 : following] for cut, following in pairwise(cuts)])
        read.alternates = True
    else:
        told = content[colons[-1] + 1 :]
        when = _WHEN.fullmatch(told[0]) if len(told) == 1 and isinstance(told[0], str) else None
        if when is None or len(colons) > 2:
            return False
        before = content[at.start + 1 : colons[0]] if len(colons) == 2 else []
        made = _Edit(before, content[colons[-2] + 1 if len(colons) == 2 else at.start + 1 : colons[-1]], when[1])
        read.edits.append(made)
    del content[at.start :]
    content.append(made)
    return True


def _step(when: str, steps: int, first_pass: int | None, text: str) -> int:
    """The step that `when` means; below 1 where the edit was made before this pass began."""
    value = float(when)
    if "." in when:
        value = (value - (0 if first_pass is None else 1)) * steps
    else:
        value -= first_pass or 0
    if not math.isfinite(value):
        raise PromptError(f"{when} is not a step", where=shown(text), fix="write [from:to:0.5] or [from:to:10]")
    return int(value)


def _at(content: Sequence[_Item], step: int) -> str:
    """The text of a step. Edits may be nested deeper than Python's calls, so those inside wait on a list."""
    pieces: list[str] = []
    waiting: list[Iterator[_Item]] = [iter(content)]
    while waiting:
        for item in waiting[-1]:
            if not isinstance(item, str):
                waiting.append(iter(item.at(step)))
                break
            pieces.append(item)
        else:
            waiting.pop()
    return "".join(pieces)
