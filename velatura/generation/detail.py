"""Painting finds in detail: what is told, and which prompt each find has (no torch). ADetailer's names and defaults.

A prompt may hold several, with [SEP] between them: one for each find in their order, the last for all that follow.
Where one is empty, and for [PROMPT] inside of it, the picture's own stands; a find whose prompt is [SKIP] stays as it
is. Where several things are looked for, each has settings of its own, ADetailer's tabs:

    hand.onnx, denoising=0.3, "prompt=a hand, five fingers"

Source: Bing-su/adetailer (scripts/!adetailer.py, args.py, aaaaaa/helper.py and adetailer/opts.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from velatura.errors import SettingsError, nearest
from velatura.generation import clause
from velatura.generation.finds import Find, Order, Picking
from velatura.generation.parts import Box

SEPARATOR = "[SEP]"

_SEPARATOR = re.compile(r"\s*\[SEP\]\s*")
_SKIP = re.compile(r"\s*\[SKIP\]\s*")

MERGES = {"none": "None", "merge": "Merge", "merge and invert": "Merge and Invert"}
"""How masks are put together -> ADetailer's name."""


@dataclass(frozen=True)
class Detail:
    """What is found in a picture, and how each find is painted anew."""

    detector: str = ""
    """Name or file of what finds; empty: nothing but the boxes."""
    boxes: tuple[Box, ...] = ()
    """Finds besides."""
    picking: Picking = field(default_factory=Picking)
    """Which finds count, and how each becomes a mask."""
    prompt: str = ""
    """Empty: the picture's own."""
    negative: str = ""
    """Empty: the picture's own."""
    denoising: float = 0.4
    """How much of a find is painted anew, 0 to 1."""
    exact_steps: bool = False
    """Take as many steps as are asked for, and not that share of them."""
    blur: float = 4
    """Sigma of the masks' edges, in pixels."""
    only_masked: bool = True
    """Each find is cut out and painted at a size of its own; else all of the picture each time."""
    padding: int = 32
    """Pixels around a find that are in view then."""
    falloff: float = 0
    """How much less of larger finds is painted anew: denoising times (1 - share of the picture) to this power."""
    match: bool = False
    """Each find is painted in its own proportions, as long as the picture's longer side; else in the picture's."""
    width: int | None = None
    """Pixels that finds are painted in; none: what suits the base."""
    height: int | None = None
    """The same."""
    steps: int | None = None
    """Of the sampler; none: the picture's."""
    cfg: float | None = None
    """Classifier-free guidance; none: the picture's."""
    sampler: str | None = None
    """None: the picture's."""
    scheduler: str | None = None
    """None: the picture's."""
    then: tuple[Detail, ...] = ()
    """What is found after that, on the picture as it is by then."""
    finds: tuple[Find, ...] | None = None
    """What was found before, in the order in which it is painted, where nothing is to be looked for."""

    @property
    def passes(self) -> tuple[Detail, ...]:
        """This, and what is found after that."""
        return (replace(self, then=()), *self.then)

    def share(self, area: float) -> float:
        """How much of a find is painted anew whose box is such a share of the picture."""
        return float(self.denoising * (1 - area) ** self.falloff)

    def words(self, prompt: str, negative: str, place: int = 0) -> dict[str, object]:
        """What ADetailer writes; nothing where there is no detector.

        Args:
            prompt: as it is to be told.
            negative: the same.
            place: among all that is looked for, from 0.
        """
        if not self.detector:
            return {}
        picking, top = self.picking, self.picking.count
        sized, sampled = self.width is not None and self.height is not None, self.sampler is not None
        told = {
            "model": self.detector,
            "model classes": ", ".join(picking.labels) or None,
            "prompt": prompt or None,
            "negative prompt": negative or None,
            "confidence": f"{picking.confidence:g}",
            "method to decide top k masks": picking.by.capitalize() if top else None,
            "mask only top k": top or None,
            "mask min ratio": f"{picking.least_area:g}" if picking.least_area else None,
            "mask max ratio": f"{picking.most_area:g}" if picking.most_area != 1 else None,
            "x offset": picking.right or None,
            "y offset": picking.up or None,
            "dilate erode": picking.grow,
            "mask merge invert": None if picking.merge == "none" else MERGES[picking.merge],
            "mask blur": f"{self.blur:g}",
            "denoising strength": f"{self.denoising:g}",
            "inpaint only masked": True if self.only_masked else None,
            "inpaint padding": self.padding if self.only_masked else None,
            "use inpaint width height": True if sized else None,
            "inpaint width": self.width if sized else None,
            "inpaint height": self.height if sized else None,
            "use separate steps": None if self.steps is None else True,
            "steps": self.steps,
            "use separate CFG scale": None if self.cfg is None else True,
            "CFG scale": None if self.cfg is None else f"{self.cfg:g}",
            "use separate sampler": True if sampled else None,
            "sampler": self.sampler,
            "scheduler": self.scheduler if sampled else None,
        }
        return {f"ADetailer {name}{_ordinal(place)}": value for name, value in told.items()}


def _ordinal(place: int) -> str:
    """As ADetailer numbers its tabs; the first has no number."""
    endings = {1: "st", 2: "nd", 3: "rd"}
    number = place + 1
    return "" if not place else f" {number}{'th' if 10 < number < 20 else endings.get(number % 10, 'th')}"


PICKED: dict[str, tuple[str, type]] = {
    "confidence": ("confidence", float),
    "label": ("labels", tuple),
    "least_area": ("least_area", float),
    "most_area": ("most_area", float),
    "keep": ("count", int),
    "by": ("by", str),
    "order": ("order", str),
    "grow": ("grow", int),
    "right": ("right", int),
    "up": ("up", int),
    "merge": ("merge", str),
}
"""Word -> the field of `Picking`, and its kind."""

PAINTED: dict[str, type] = {
    "prompt": str,
    "negative": str,
    "denoising": float,
    "exact_steps": bool,
    "blur": float,
    "whole": bool,
    "padding": int,
    "falloff": float,
    "match": bool,
    "width": int,
    "height": int,
    "steps": int,
    "cfg": float,
    "sampler": str,
    "scheduler": str,
}
"""Word -> its kind; all but `whole`, which is not `only_masked`, are fields of `Detail`."""

OWNER = "a find"
"""In messages."""


def read(text: str, usual: Detail) -> Detail:
    """What is looked for and how it is painted, as the command line has it.

    Args:
        text: a detector, and behind it what is otherwise than usual.
        usual: what holds where nothing is told.

    Raises:
        SettingsError: there is no detector, an unknown word, or a value that is none.
    """
    detector, told = clause.split(text, (*PICKED, *PAINTED), short={"labels": "label"}, owner=OWNER)
    if not detector:
        raise SettingsError("it is not said what is to be found", where=text, fix="name a detector first")
    picking = {PICKED[word][0]: _value(word, told[word], PICKED[word][1]) for word in told if word in PICKED}
    painted = {word: _value(word, told[word], PAINTED[word]) for word in told if word in PAINTED}
    if "whole" in painted:
        painted["only_masked"] = not painted.pop("whole")
    return replace(usual, detector=detector, picking=replace(usual.picking, **picking), **painted)


def _value(word: str, text: str, kind: type) -> Any:
    if kind in (int, float):
        return clause.number(word, text, owner=OWNER, whole=kind is int)
    if kind is bool:
        if text not in ("yes", "no"):
            raise SettingsError(f"{word} of {OWNER} is yes or no, got {text!r}", fix=f"write {word}=yes")
        return text == "yes"
    return tuple(one.strip() for one in text.split(",")) if kind is tuple else text


def check(told: Detail, *, sized: bool = False) -> None:
    """Refuse what cannot be.

    Args:
        told: what is found, and how it is painted.
        sized: whether a size is told besides that finds are painted in.

    Raises:
        SettingsError: nothing to look for, an unknown order or way of merging, a number out of its range, or two
            things that exclude each other.
    """
    for one in told.then:
        check(one, sized=sized)
    if not told.detector and not told.boxes and told.finds is None:
        raise SettingsError("it is not said what is to be found", fix="name a detector, or draw a box")
    picking = told.picking
    for name, value, known in (
        ("order of finds", picking.order, get_args(Order)),
        ("way of merging masks", picking.merge, tuple(MERGES)),
        ("way of choosing finds", picking.by, ("area", "confidence")),
    ):
        if value not in known:
            close = nearest(value, list(known))
            fix = f"did you mean {close!r}?" if close else f"choose from {', '.join(known)}"
            raise SettingsError(f"there is no {name} {value!r}", fix=fix)
    shares = {
        "denoising": told.denoising,
        "confidence": picking.confidence,
        "least area": picking.least_area,
        "most area": picking.most_area,
    }
    if wrong := next((name for name, value in shares.items() if not 0 <= value <= 1), None):
        raise SettingsError(f"the {wrong} of finds is a share, from 0 to 1")
    if not all(number >= 0 for number in (told.blur, told.padding, picking.count, told.falloff)):
        raise SettingsError("a mask's blur and padding, the count of finds and falloff are 0 or more")
    if not all(number is None or number >= 1 for number in (told.width, told.height, told.steps, told.cfg)):
        raise SettingsError("size, steps and guidance of finds are 1 or more")
    if told.match and (sized or told.width or told.height or not told.only_masked):
        raise SettingsError(
            "a find cannot have its own proportions in a size that is told, or where all of the picture is painted",
            fix="leave --match out, or --width, --height and --whole",
        )


def prompts(text: str, own: str) -> list[str]:
    """The prompts of finds.

    Args:
        text: with [SEP] between several.
        own: the picture's.
    """
    return [one.replace("[PROMPT]", own) if one else own for one in _SEPARATOR.split(text)]


def prompt_at(told: list[str], place: int) -> str:
    """The prompt of a find by its place; the last holds for all that follow."""
    return told[min(place, len(told) - 1)]


def skipped(prompt: str) -> bool:
    """Whether a find stays as it is."""
    return _SKIP.fullmatch(prompt) is not None
