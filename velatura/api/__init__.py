"""The public functions: what the command line and the web page call, and what a script may import.

Long work is a generator of events. The names below are loaded when they are first used, and torch is imported inside
the functions that need it, so that importing this package costs nothing. What works on LoRA files is in `api.loras`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from velatura.api.comparing.compare import CompareRequest, compare
    from velatura.api.painting.borrowing import foreign, record_of
    from velatura.api.painting.hinting import write_hint
    from velatura.api.painting.looking import look
    from velatura.api.painting.paint import free_name, generate, png
    from velatura.api.painting.repeating import Changes, again
    from velatura.api.painting.request import FromPicture, GenerateRequest
    from velatura.api.painting.sheets import paint_list
    from velatura.api.refining.refine import RefineRequest, refine, refine_again
    from velatura.api.training.calibrating import calibrate
    from velatura.api.training.judging import evaluate, keep_lora, report
    from velatura.api.training.planning import Plan, plan
    from velatura.api.training.train import refit_steps, train

_PLACES = {
    "Changes": "painting.repeating",
    "CompareRequest": "comparing.compare",
    "FromPicture": "painting.request",
    "GenerateRequest": "painting.request",
    "Plan": "training.planning",
    "RefineRequest": "refining.refine",
    "again": "painting.repeating",
    "calibrate": "training.calibrating",
    "compare": "comparing.compare",
    "evaluate": "training.judging",
    "foreign": "painting.borrowing",
    "free_name": "painting.paint",
    "generate": "painting.paint",
    "keep_lora": "training.judging",
    "look": "painting.looking",
    "paint_list": "painting.sheets",
    "plan": "training.planning",
    "png": "painting.paint",
    "record_of": "painting.borrowing",
    "refine": "refining.refine",
    "refine_again": "refining.refine",
    "refit_steps": "training.train",
    "report": "training.judging",
    "train": "training.train",
    "write_hint": "painting.hinting",
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
