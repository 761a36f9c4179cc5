"""Painting finds in detail: what is told, and which prompt each find has (no torch). ADetailer's names and defaults.

A prompt may hold several, with [SEP] between them: one for each find in their order, the last for all that follow.
Where one is empty, and for [PROMPT] inside of it, the picture's own stands; a find whose prompt is [SKIP] stays as it
is.
Source: Bing-su/adetailer (scripts/!adetailer.py, args.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import get_args

from velatura.errors import SettingsError, nearest
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
    finds: tuple[Find, ...] | None = None
    """What was found before, in the order in which it is painted, where nothing is to be looked for."""

    def words(self, prompt: str, negative: str) -> dict[str, object]:
        """What ADetailer writes; nothing where there is no detector.

        Args:
            prompt: as it is to be told.
            negative: the same.
        """
        if not self.detector:
            return {}
        picking, top = self.picking, self.picking.count
        return {
            "ADetailer model": self.detector,
            "ADetailer model classes": ", ".join(picking.labels) or None,
            "ADetailer prompt": prompt or None,
            "ADetailer negative prompt": negative or None,
            "ADetailer confidence": f"{picking.confidence:g}",
            "ADetailer method to decide top k masks": picking.by.capitalize() if top else None,
            "ADetailer mask only top k": top or None,
            "ADetailer mask min ratio": f"{picking.least_area:g}" if picking.least_area else None,
            "ADetailer mask max ratio": f"{picking.most_area:g}" if picking.most_area != 1 else None,
            "ADetailer dilate erode": picking.grow,
            "ADetailer x offset": picking.right or None,
            "ADetailer y offset": picking.up or None,
            "ADetailer mask merge invert": None if picking.merge == "none" else MERGES[picking.merge],
            "ADetailer mask blur": f"{self.blur:g}",
            "ADetailer denoising strength": f"{self.denoising:g}",
            "ADetailer inpaint only masked": True if self.only_masked else None,
            "ADetailer inpaint padding": self.padding if self.only_masked else None,
        }


def check(told: Detail) -> None:
    """Refuse what cannot be.

    Raises:
        SettingsError: nothing to look for, an unknown order or way of merging, or a number out of its range.
    """
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
    if told.blur < 0 or told.padding < 0 or picking.count < 0:
        raise SettingsError("a mask's blur and padding, and the count of finds, are 0 or more")


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
