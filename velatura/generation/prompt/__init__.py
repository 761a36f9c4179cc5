r"""The prompt grammar of A1111, and what other programs around it taught people to type.

What a prompt says is read in this order, each part in a module of its own:

    template      styles, wildcards, variants, comments: a text with choices becomes one without
    networks      <lora:name:0.8>
    composition   a castle AND a forest :0.6
    schedule      [a castle:a ruin:0.5]  [cat|dog]
    emphasis      (word:1.3)  [word]  BREAK  \( \)

No torch here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from velatura.generation.prompt.composition import Composed as Composed
from velatura.generation.prompt.composition import compose
from velatura.generation.prompt.emphasis import Fragment as Fragment
from velatura.generation.prompt.emphasis import weigh as weigh
from velatura.generation.prompt.networks import LoraUse as LoraUse
from velatura.generation.prompt.networks import change_loras as change_loras
from velatura.generation.prompt.networks import extract_loras as extract_loras
from velatura.generation.prompt.networks import given_lora as given_lora
from velatura.generation.prompt.networks import rename_loras as rename_loras
from velatura.generation.prompt.networks import written as written
from velatura.generation.prompt.schedule import Until as Until
from velatura.generation.prompt.schedule import schedule

_WORDS = re.compile(r"\b(?:BREAK|AND)\b")
_MARK = re.compile(r"<(?=\w+:)")
_LAST_WEIGHT = re.compile(r":(?=\s*[-+.\d]+\s*\Z)")


@dataclass(frozen=True)
class Prompt:
    """What a text says at one step."""

    parts: tuple[tuple[Fragment, ...], ...]
    """The text between one BREAK and the next, as fragments; at least one part, at least one fragment."""
    loras: tuple[LoraUse, ...] = ()
    """In the order of the text; a LoRA that is named twice is here twice."""

    @property
    def plain(self) -> str:
        """The words without weights and breaks, for text encoders that know neither."""
        return " ".join("".join(fragment.text for fragment in part) for part in self.parts)


@dataclass(frozen=True)
class Scheduled:
    """One of the prompts that a picture is painted with, through its steps."""

    texts: tuple[Until, ...]
    weight: float = 1.0
    """How much of the guidance follows it."""


def parse(text: str) -> Prompt:
    """Read the LoRAs and the emphasis of a text.

    Raises:
        PromptError: a weight or strength is not a number, or `<...>` asks for what cannot be loaded.
    """
    words, loras = extract_loras(text)
    return Prompt(weigh(words), loras)


def scheduled(prompt: str, steps: int, *, first_pass: int | None = None) -> tuple[Scheduled, ...]:
    """The prompts that AND joins, each with its texts; LoRAs are left to the caller.

    Args:
        steps, first_pass: as `schedule` takes them.

    Raises:
        PromptError: a weight, a step or a strength is not a number.
    """
    words, _ = extract_loras(prompt)
    return tuple(Scheduled(schedule(one.text, steps, first_pass=first_pass), one.weight) for one in compose(words))


def scheduled_negative(prompt: str, steps: int, *, first_pass: int | None = None) -> Scheduled:
    """A negative prompt with its texts: as in A1111, AND is a word in it and its last number no weight.

    Raises:
        PromptError: see `scheduled`.
    """
    words, _ = extract_loras(prompt)
    return Scheduled(schedule(words, steps, first_pass=first_pass))


def literal(text: str) -> str:
    """Words as a prompt that means just them: a caption whose brackets, breaks and marks are no grammar.

    To a tokenizer it is the text itself, spaces and capitals aside.
    """
    escaped = re.sub(r"[\\()\[\]]", r"\\\g<0>", text)
    worded = _WORDS.sub(lambda word: word[0].lower(), _MARK.sub("< ", escaped))
    return _LAST_WEIGHT.sub(r":\\", worded)
