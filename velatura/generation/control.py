"""What a ControlNet is asked to do while a picture is painted (no torch).

    canny.safetensors, hint=pose.png, weight=0.8, end=0.6

Words and arithmetic are those of A1111's ControlNet extension; the steps that a ControlNet is at work in are counted as
diffusers counts them: with end 0.6, 12 of 20, where the extension has one more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from velatura.errors import SettingsError
from velatura.generation import clause, preprocess

Mode = Literal["balanced", "prompt", "control"]

MODES: Mapping[Mode, str] = {
    "balanced": "Balanced",
    "prompt": "My prompt is more important",
    "control": "ControlNet is more important",
}
"""What counts more -> what the extension calls it."""

Fit = Literal["crop", "stretch", "fill"]

FITS: Mapping[Fit, str] = {"crop": "Crop and Resize", "stretch": "Just Resize", "fill": "Resize and Fill"}
"""How a hint of other proportions is made to fit -> what the extension calls it."""

SHORT = {
    "fit": "resize_mode",
    "low": "threshold_a",
    "high": "threshold_b",
    "preprocess": "preprocessor",
    "module": "preprocessor",
}
"""Other words for what is asked."""

OWNER = "a ControlNet"
"""In messages."""


@dataclass(frozen=True)
class ControlUse:
    """A ControlNet, and what it is shown."""

    file: str
    """File, folder or name of the ControlNet."""
    hint: Path
    """The picture that it sees; or that `preprocessor` makes a hint of."""
    weight: float = 1.0
    """What all that it adds is multiplied by."""
    start: float = 0.0
    """Share of the steps after which it begins."""
    end: float = 1.0
    """Share of the steps after which it ends."""
    mode: Mode = "balanced"
    """What counts more: `prompt` lets the ControlNet say less of details, `control` also leaves it out on the negative
    side of guidance."""
    resize_mode: Fit = "crop"
    """How a hint of other proportions is made to fit."""
    preprocessor: str = "none"
    """What makes a hint of the picture: canny, tile, scribble, invert; none: it is one."""
    threshold_a: float | None = None
    """Of the preprocessor: canny's lower threshold, scribble's, by how much tile makes it coarser; none: its own."""
    threshold_b: float | None = None
    """Canny's upper threshold; none: its own."""
    kind: str = ""
    """What the hint is, for ControlNets that know several kinds and must be told."""

    def acts(self, step: int, steps: int) -> bool:
        """Whether it is at work at a step, counted from 0."""
        return self.weight != 0 and step / steps >= self.start and (step + 1) / steps <= self.end


def read(text: str, *, hint: Path | None = None) -> ControlUse:
    """What is asked of a ControlNet, as the command line has it.

    Args:
        text: its words.
        hint: the picture that it sees where none is told.

    Raises:
        SettingsError: there is no hint, an unknown word, or a value that is none.
    """
    known = [one.name for one in fields(ControlUse)][1:]
    name, words = clause.split(text, known, short=SHORT, owner=OWNER)
    told: dict[str, Any] = dict(words)
    told.setdefault("hint", hint or "")
    if not name or not told["hint"]:
        raise SettingsError(
            "a ControlNet needs a file and a hint", where=text, fix='write it as in "canny, hint=edges.png, weight=0.8"'
        )
    numbers = ("weight", "start", "end", "threshold_a", "threshold_b")
    told |= {one: clause.number(one, told[one], owner=OWNER) for one in numbers if one in told}
    use = ControlUse(**{**told, "file": name, "hint": Path(told["hint"])})
    check(use)
    return use


def check(use: ControlUse) -> None:
    """Refuse what cannot be.

    Raises:
        SettingsError: it is out of range, or unknown.
    """
    if not 0 <= use.weight < math.inf:
        raise SettingsError(f"a ControlNet's weight of {use.weight:g} is not possible", fix="use 0 or more, as 0.8")
    if not 0 <= use.start < use.end <= 1:
        raise SettingsError(
            f"a ControlNet cannot be at work from {use.start:g} to {use.end:g}",
            fix="start and end are shares of the steps, as in start=0, end=0.6",
        )
    for name, choices in (("mode", get_args(Mode)), ("resize_mode", get_args(Fit))):
        value = getattr(use, name)
        if value not in choices:
            raise SettingsError(f"a ControlNet's {name} cannot be {value!r}", fix=f"use {', '.join(choices)}")
    preprocess.check(use.preprocessor, use.threshold_a, use.threshold_b)


def infotext(use: ControlUse, name: str, digits: str) -> str:
    """As the extension writes it.

    Args:
        use: what is asked.
        name: of the ControlNet.
        digits: of its file's old hash.
    """
    low, high = preprocess.thresholds(use.preprocessor, use.threshold_a, use.threshold_b)
    told = {
        "Module": preprocess.MODULES.get(use.preprocessor, use.preprocessor),
        "Model": f"{name.replace(',', ' ').replace(':', ' ')} [{digits}]",
        "Weight": use.weight,
        "Resize Mode": FITS[use.resize_mode],
        "Threshold A": -1.0 if low is None else low,
        "Threshold B": -1.0 if high is None else high,
        "Guidance Start": use.start,
        "Guidance End": use.end,
        "Pixel Perfect": True,
        "Control Mode": MODES[use.mode],
    }
    return ", ".join(f"{key}: {value}" for key, value in told.items())


def changed(uses: tuple[ControlUse, ...], place: int, name: str, value: Any) -> tuple[ControlUse, ...]:
    """What is asked, with one thing of one ControlNet otherwise.

    Raises:
        SettingsError: it cannot be.
    """
    told: Any = Path(str(value)) if name == "hint" else value
    after = replace(uses[place], **{name: told})
    check(after)
    return (*uses[:place], after, *uses[place + 1 :])
