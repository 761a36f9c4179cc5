"""The public functions: what the command line and the web page call, and what a script may import.

Long work is a generator of events. The names below are loaded when they are first used, and torch is imported inside
the functions that need it, so that importing this package costs nothing. What works on LoRA files is in `api.loras`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from velatura.api.borrowing import foreign, record_of
    from velatura.api.calibrating import calibrate
    from velatura.api.comparing import CompareRequest, compare
    from velatura.api.hinting import write_hint
    from velatura.api.judging import evaluate, keep_lora, report
    from velatura.api.looking import look
    from velatura.api.painting import free_name, generate, png
    from velatura.api.planning import Plan, plan
    from velatura.api.refining import RefineRequest, refine, refine_again
    from velatura.api.repeating import Changes, again
    from velatura.api.request import FromPicture, GenerateRequest
    from velatura.api.sheets import paint_list
    from velatura.api.training import refit_steps, train

_PLACES = {
    "Changes": "repeating",
    "CompareRequest": "comparing",
    "FromPicture": "request",
    "GenerateRequest": "request",
    "Plan": "planning",
    "RefineRequest": "refining",
    "again": "repeating",
    "calibrate": "calibrating",
    "compare": "comparing",
    "evaluate": "judging",
    "foreign": "borrowing",
    "free_name": "painting",
    "generate": "painting",
    "keep_lora": "judging",
    "look": "looking",
    "paint_list": "sheets",
    "plan": "planning",
    "png": "painting",
    "record_of": "borrowing",
    "refine": "refining",
    "refine_again": "refining",
    "refit_steps": "training",
    "report": "judging",
    "train": "training",
    "write_hint": "hinting",
}
"""Public name -> the module that holds it."""

__all__ = [
    "Changes",
    "CompareRequest",
    "FromPicture",
    "GenerateRequest",
    "Plan",
    "RefineRequest",
    "again",
    "calibrate",
    "compare",
    "evaluate",
    "foreign",
    "free_name",
    "generate",
    "keep_lora",
    "look",
    "paint_list",
    "plan",
    "png",
    "record_of",
    "refine",
    "refine_again",
    "refit_steps",
    "report",
    "train",
    "write_hint",
]


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name not in _PLACES:
        raise AttributeError(f"module 'velatura.api' has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"velatura.api.{_PLACES[name]}"), name)
    globals()[name] = found
    return found
