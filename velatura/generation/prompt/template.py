r"""Prompts with choices in them, made into one without: what is painted, and what stands in the infotext.

    a cat # in the rain       from # to the end of the line a comment, as in A1111 1.10
    --style NAME              words around the prompt or behind it (`styles`)
    {red|green|2::blue}       one of them, blue twice as often
    {2$$red|green|blue}       two different ones, with a comma between; {1-2$$ and $$...}: one or two, with " and "
    __colour__                a line of a file (`wildcards`)
    \{ \} \| \__              the character itself

In this order; then the prompt grammar reads the result. Choices may hold choices and wildcards. A "|" in [] inside
of a choice belongs to the brackets. Braces without a partner are plain characters. What is chosen is a function of the
picture's seed and of how many choices stand before it, so each picture of a batch has its own, and the same again.
Syntax: A1111's extension dynamic prompts, in its random mode and without its variables.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby, pairwise

from velatura import randomness
from velatura.errors import PromptError
from velatura.generation.prompt.emphasis import shown
from velatura.generation.prompt.styles import Style, styled
from velatura.generation.prompt.wildcards import Wildcards

DEEPEST = 50
"""Choices in choices in wildcards in choices..."""

MOST = 10_000
"""Choices of one prompt."""

SEPARATOR = ", "
"""Between several that are chosen."""

_TOKEN = re.compile(r"\\.|\$\{|[{}|\[\]]|__(?!\s)(?P<wildcard>[\w./\\* -]+?)(?<!\s)__|[^\\{}|\[\]_$]+|.", re.DOTALL)
_WEIGHT = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)::")
_COUNT = re.compile(r"\s*([0-9]*)(-?)([0-9]*)\$\$(?:([^$|{}]*)\$\$)?")
_LINE_COMMENT = re.compile(r"(^|\n)#[^\n]*(\n|$)")
_COMMENT = re.compile(r"#[^\n]*(\n|$)")


@dataclass(frozen=True)
class Template:
    """A prompt and a negative prompt before anything is chosen."""

    prompt: str
    negative_prompt: str = ""
    styles: tuple[Style, ...] = ()
    as_is: bool = False
    """Styles alone are put in: no comments are taken out, nothing is chosen."""

    def resolve(self, seed: int, wildcards: Wildcards) -> tuple[str, str]:
        """Prompt and negative prompt of the picture with this seed.

        Raises:
            PromptError: a wildcard that there is not, one that leads to itself, or a choice that makes no sense.
        """
        prompt = self._styled(self.prompt, [style.prompt for style in self.styles])
        negative = self._styled(self.negative_prompt, [style.negative_prompt for style in self.styles])
        if self.as_is:
            return prompt, negative
        return (
            chosen(prompt, seed, "prompt", wildcards),
            chosen(negative, seed, "negative prompt", wildcards),
        )

    def _styled(self, text: str, styles: Sequence[str]) -> str:
        """Comments go first: one at the end of a prompt would swallow what a style puts behind it, as in A1111."""
        if self.as_is:
            return styled(text, styles)
        return styled(without_comments(text), map(without_comments, styles))


def has_choices(text: str) -> bool:
    """Whether a text has choices or wildcards in it.

    Raises:
        PromptError: see `Template.resolve`.
    """
    return any(not isinstance(item, str) for item in _read(text))


def without_comments(text: str) -> str:
    """A text without what stands behind # on each line; a line that is but a comment goes as a whole."""
    return _COMMENT.sub("\n", _LINE_COMMENT.sub("\n", text)) if "#" in text else text


def chosen(text: str, seed: int, purpose: str, wildcards: Wildcards) -> str:
    """A text with one choice made of all that it offers.

    Args:
        purpose: for which text; prompt and negative prompt choose apart.

    Raises:
        PromptError: see `Template.resolve`.
    """
    return _Choosing(seed, purpose, wildcards, text).text(_read(text), 0)


@dataclass
class _Choice:
    """Options with weights, and how many of them are chosen."""

    options: list[tuple[float, list[_Item]]]
    least: int = 1
    most: int = 1
    separator: str = SEPARATOR


@dataclass(frozen=True)
class _Wildcard:
    name: str
    written: str
    """As it stands in the text."""
    marked: bool
    """It is within <...>, where two pairs of __ may also be a part of a file's name."""


_Item = str | _Choice | _Wildcard


@dataclass
class _Open:
    """A bracket without its partner yet, and where in the content it and the bars in it stand."""

    bracket: str
    start: int
    bars: list[int] = field(default_factory=list)


def _read(text: str) -> list[_Item]:
    """A text taken apart, in one pass."""
    content: list[_Item] = []
    opened: list[_Open] = []
    braces, marked = 0, False
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == "${":
            fix = "write out what ${...} stands for"
            raise PromptError("variables of dynamic prompts are not known here", where=shown(text), fix=fix)
        if match["wildcard"]:
            content.append(_Wildcard(match["wildcard"], token, marked))
            continue
        if "<" in token or ">" in token:
            marked = token.rfind("<") > token.rfind(">")
        if token in ("{", "["):
            opened.append(_Open(token, len(content)))
            braces += token == "{"
        elif token == "]" and opened and opened[-1].bracket == "[":
            opened.pop()
        elif token == "|" and opened:
            opened[-1].bars.append(len(content))
        elif token == "}" and braces:
            braces -= 1
            start, bars = _closed(opened)
            cuts = [start, *bars, len(content)]
            content[start:] = [_choice([content[cut + 1 : following] for cut, following in pairwise(cuts)], text)]
            continue
        content.append(token)
    return content


def _closed(opened: list[_Open]) -> tuple[int, list[int]]:
    """Where the last brace was opened, and the bars in it: those in square brackets that are still open too."""
    inside = [opened.pop()]
    while inside[-1].bracket != "{":
        inside.append(opened.pop())
    return inside[-1].start, [bar for one in reversed(inside) for bar in one.bars]


def _choice(parts: Sequence[Sequence[_Item]], text: str) -> _Choice:
    options = [_joined(part) for part in parts]
    made = _Choice([])
    if told := _COUNT.match(_beginning(options[0])):
        least, dash, most, separator = told.groups()
        made.least = int(least or 1) if least or most else 1
        made.most = int(most) if most else (int(least) if least and not dash else MOST)
        made.separator = SEPARATOR if separator is None else separator
        options[0] = _without(options[0], told.end())
        if made.least > made.most or not (least or most):
            raise PromptError(f"{told[0]} chooses nothing", where=shown(text), fix="write {2$$a|b|c} or {1-2$$a|b|c}")
    for option in options:
        weight = _WEIGHT.match(_beginning(option))
        made.options.append((float(weight[1]), _without(option, weight.end())) if weight else (1.0, option))
    if not any(weight for weight, _ in made.options):
        raise PromptError("all options have the weight 0", where=shown(text), fix="give one of them more")
    return made


def _joined(items: Sequence[_Item]) -> list[_Item]:
    """Pieces of text that stand side by side as one."""
    runs = [[*run] for _, run in groupby(items, key=lambda item: isinstance(item, str))]
    return [item for run in runs for item in (["".join(map(str, run))] if isinstance(run[0], str) else run)]


def _beginning(option: Sequence[_Item]) -> str:
    return option[0] if option and isinstance(option[0], str) else ""


def _without(option: Sequence[_Item], count: int) -> list[_Item]:
    return [_beginning(option)[count:], *option[1:]]


class _Choosing:
    """The choices of one text, each drawn by its number."""

    def __init__(self, seed: int, purpose: str, wildcards: Wildcards, text: str) -> None:
        self._seed, self._purpose, self._wildcards, self._where = seed, purpose, wildcards, shown(text)
        self._count = 0

    def text(self, content: Sequence[_Item], depth: int) -> str:
        if depth > DEEPEST:
            raise PromptError(
                f"choices lie more than {DEEPEST} deep in each other",
                where=self._where,
                fix="look for a wildcard in itself",
            )
        return "".join(item if isinstance(item, str) else self._decided(item, depth + 1) for item in content)

    def _decided(self, item: _Choice | _Wildcard, depth: int) -> str:
        if isinstance(item, _Wildcard):
            if item.marked and not self._wildcards.known(item.name):
                return item.written
            lines = self._wildcards.lines(item.name)
            return self.text(_read(lines[self._drawn([1.0] * len(lines))]), depth)
        options = item.options
        if len(options) == 1 and item.most > 1 and (lines := self._only_wildcard(options[0][1])):
            options = [(1.0, _read(line)) for line in lines]
        left = [weight for weight, _ in options]
        possible = sum(weight > 0 for weight in left)
        least, most = min(item.least, possible), min(item.most, possible)
        many = least + self._drawn([1.0] * (most - least + 1))
        texts = []
        for _ in range(many):
            place = self._drawn(left)
            texts.append(self.text(options[place][1], depth))
            left[place] = 0.0
        return item.separator.join(texts)

    def _only_wildcard(self, option: Sequence[_Item]) -> tuple[str, ...]:
        told = [item for item in option if not isinstance(item, str) or item.strip()]
        if len(told) == 1 and isinstance(told[0], _Wildcard):
            return self._wildcards.lines(told[0].name)
        return ()

    def _drawn(self, weights: Sequence[float]) -> int:
        """A place, as often as its weight has it; nothing is drawn where there is no choice."""
        if len(weights) == 1:
            return 0
        self._count += 1
        if self._count > MOST:
            raise PromptError(
                f"this prompt makes more than {MOST} choices", where=self._where, fix="look for a wildcard in itself"
            )
        at = randomness.generator(self._seed, self._purpose, self._count).random() * math.fsum(weights)
        return min(bisect_right(list(accumulate(weights)), at), len(weights) - 1)
