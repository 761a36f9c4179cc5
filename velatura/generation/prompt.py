r"""The prompt grammar of A1111: emphasis, breaks, and LoRAs named in the text.

    (word)  (word:1.3)  [word]     weight times 1.1, times 1.3, divided by 1.1; they nest and multiply
    \( \) \[ \] \\                 the character itself
    BREAK                          the text after it starts a new chunk of tokens
    <lora:name>  <lora:name:0.8>   strength 1, 0.8
    <lora:name:0.5:0.8>            0.5 on the text encoders, 0.8 on the denoiser (also te=0.5 unet=0.8)
    <lora:name:1:lbw=OUTS>         1, but only on some blocks: a preset, or a weight for each (`adapters.blocks`)
    <lora:name:1:start=5:stop=20>  1, in the sampling steps 5 to 20 (also step=5-20); of the denoiser alone

Fragments and weights are those of A1111 1.10, bit for bit, oddities included: an unclosed bracket
acts to the end, `[word:1.2]` keeps its colon as text. Where A1111 fails, this does not: a weight that
is no number is an error instead of a crash, and a BREAK inside brackets is a break instead of a word.
Not part of it yet: `[from:to:when]`, `[a|b]` and `AND`; they are read as plain text and brackets.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from velatura.errors import PromptError

ROUND = 1.1
SQUARE = 1 / 1.1

_NETWORK = re.compile(r"<(\w+):([^>]+)>")
_TOKEN = re.compile(r"(?P<escaped>\\[()\[\]\\]?)|:\s*(?P<weight>[+-]?[.\d]+)\s*\)|[()\[\]:]|[^\\()\[\]:]+")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_BREAK_WORD = re.compile(r"\bBREAK\b")
_MARK = re.compile(r"<(?=\w+:)")
_LORA_TYPES = ("lora", "lyco")
_LORA_PLACES = ("name", "te", "unet")
_LORA_SETTINGS = (*_LORA_PLACES, "lbw", "start", "stop", "step")
_LORA_FIX = "write <lora:name:strength>, or <lora:name:text strength:denoiser strength>"


class Fragment(NamedTuple):
    """A stretch of text that has one weight."""

    text: str
    weight: float


@dataclass(frozen=True)
class LoraUse:
    """A LoRA that a prompt asks for, by the name the prompt gives it."""

    name: str
    denoiser_strength: float = 1.0
    text_strength: float = 1.0
    blocks: str = ""
    """Weights of blocks, as `adapters.blocks.factors` takes them; empty: all the same."""
    start: int | None = None
    """The first sampling step in which it acts, from 1."""
    stop: int | None = None
    """The last one."""


@dataclass(frozen=True)
class Prompt:
    """What a prompt says."""

    parts: tuple[tuple[Fragment, ...], ...]
    """The text between one BREAK and the next, as fragments; at least one part, at least one fragment."""
    loras: tuple[LoraUse, ...] = ()
    """In the order of the text; a LoRA that is named twice is here twice."""

    @property
    def plain(self) -> str:
        """The words without weights and breaks, for text encoders that know neither."""
        return " ".join("".join(fragment.text for fragment in part) for part in self.parts)


def parse(prompt: str) -> Prompt:
    """Read a prompt.

    Raises:
        PromptError: a weight or strength is not a number, or `<...>` asks for what cannot be loaded.
    """
    text, loras = extract_loras(prompt)
    return Prompt(weigh(text), loras)


def literal(text: str) -> str:
    """Words as a prompt that means just them: a caption whose brackets, breaks and marks are no grammar.

    To a tokenizer it is the text itself, spaces and capitals aside.
    """
    escaped = re.sub(r"[\\()\[\]]", r"\\\g<0>", text)
    return _BREAK_WORD.sub("break", _MARK.sub("< ", escaped))


def extract_loras(prompt: str) -> tuple[str, tuple[LoraUse, ...]]:
    """The prompt without its `<lora:...>` marks, and what they ask for.

    Raises:
        PromptError: see `parse`.
    """
    loras = tuple(_lora(match) for match in _NETWORK.finditer(prompt))
    return _NETWORK.sub("", prompt), loras


def rename_loras(prompt: str, names: Mapping[str, str]) -> str:
    """The prompt with its LoRAs called otherwise: a path of this disk becomes a name that travels.

    Raises:
        PromptError: see `parse`.
    """

    def renamed(match: re.Match[str]) -> str:
        name = _lora(match).name
        return f"<{match[1]}:{match[2].replace(name, names.get(name, name), 1)}>"

    return _NETWORK.sub(renamed, prompt)


def weigh(text: str) -> tuple[tuple[Fragment, ...], ...]:
    """Emphasis and breaks: the parts of a text, each as fragments with their weights.

    Raises:
        PromptError: a weight is not a number.
    """
    # None as text is a break. Brackets remember where in the list they were opened.
    found: list[tuple[str | None, float]] = []
    rounds: list[int] = []
    squares: list[int] = []

    def multiply(start: int, factor: float) -> None:
        found[start:] = [(piece, weight * factor) for piece, weight in found[start:]]

    for match in _TOKEN.finditer(text):
        token = match[0]
        if match["escaped"]:
            # a backslash before anything else stands for itself, and A1111 drops it
            found.append((token[1:], 1.0))
        elif token == "(":
            rounds.append(len(found))
        elif token == "[":
            squares.append(len(found))
        elif match["weight"] and rounds:
            multiply(rounds.pop(), _number(match["weight"], where=text))
        elif token == ")" and rounds:
            multiply(rounds.pop(), ROUND)
        elif token == "]" and squares:
            multiply(squares.pop(), SQUARE)
        else:
            first, *others = _BREAK.split(token)
            found.append((first, 1.0))
            for piece in others:
                found += [(None, 1.0), (piece, 1.0)]

    for start in rounds:
        multiply(start, ROUND)
    for start in squares:
        multiply(start, SQUARE)
    return _merged(found or [("", 1.0)])


def _merged(found: list[tuple[str | None, float]]) -> tuple[tuple[Fragment, ...], ...]:
    """Split at the breaks, and join neighbours of equal weight."""
    parts: list[list[Fragment]] = [[]]
    for text, weight in found:
        part = parts[-1]
        if text is None:
            parts.append([])
        elif part and part[-1].weight == weight:
            part[-1] = Fragment(part[-1].text + text, weight)
        else:
            part.append(Fragment(text, weight))
    return tuple(tuple(part) for part in parts)


def _lora(match: re.Match[str]) -> LoraUse:
    mark, network = match[0], match[1]
    if network not in _LORA_TYPES:
        raise PromptError(f"a prompt can load <lora:...>, not <{network}:...>", where=mark, fix=_LORA_FIX)
    given: dict[str, str] = {}
    places = iter(_LORA_PLACES)
    for item in match[2].split(":"):
        key, equals, value = item.partition("=")
        place = key.strip() if equals else next(places, "dyn")
        if place not in _LORA_SETTINGS or (equals and place == "name"):
            raise PromptError(f"a LoRA in a prompt has no setting {place!r}", where=mark, fix=_LORA_FIX)
        given[place] = (value if equals else item).strip()
    if not given.get("name"):
        raise PromptError("a LoRA in a prompt needs a name", where=mark, fix=_LORA_FIX)
    text_strength = _number(given.get("te", "1"), where=mark)
    start, stop = _steps(given, mark)
    strength = _number(given.get("unet", str(text_strength)), where=mark)
    return LoraUse(given["name"], strength, text_strength, given.get("lbw", ""), start, stop)


def _steps(given: Mapping[str, str], mark: str) -> tuple[int | None, int | None]:
    told = [given.get("start"), given.get("stop")]
    if "step" in given:
        first, dash, last = given["step"].partition("-")
        told = [first, last if dash else first]
    if not all(one is None or one.isdecimal() for one in told):
        raise PromptError("a sampling step is a whole number", where=mark, fix="write start=5:stop=20, or step=5-20")
    start, stop = (None if one is None else int(one) for one in told)
    if start is not None and stop is not None and start > stop:
        raise PromptError(f"step {start} is not before step {stop}", where=mark, fix="write the smaller one first")
    return start, stop


def _number(text: str, *, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PromptError(f"{text!r} is not a number", where=where, fix="write it like 0.8 or 1.2")
    return value
