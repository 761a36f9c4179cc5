r"""Several prompts for one picture: `a castle AND a forest :0.6`, each with the weight behind its last colon.

Cut and weighed as in A1111 1.10, where each prompt pulls the picture away from the negative prompt, with its weight
times the guidance. That holds for a prompt without AND too: "at 10:30" is "at 10" with thirty times the guidance;
written "at 10:\30" it is the time of day. Negative prompts are not cut.
Source: Liu et al. 2022, arXiv:2206.01714.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from velatura.generation.prompt.emphasis import number, shown

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r":\s*([-+]?(?:\d+\.?|\d*\.\d+))")


class Composed(NamedTuple):
    """One of the prompts of a picture."""

    text: str
    weight: float = 1.0


def compose(text: str) -> tuple[Composed, ...]:
    """The prompts of a picture in order, at least one.

    Raises:
        PromptError: a weight is beyond all numbers.
    """
    return tuple(_weighed(part) for part in _AND.split(text))


def _weighed(text: str) -> Composed:
    text = text.rstrip()
    colon = text.rfind(":")
    told = _WEIGHT.fullmatch(text, colon) if colon >= 0 else None
    if told is None:
        return Composed(text)
    return Composed(text[:colon].rstrip(), number(told[1], where=shown(text)))
