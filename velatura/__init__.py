"""Velatura: teach an image model your own hand.

The names below are the public API; each is loaded when it is first used, so `import velatura` costs
nothing. Long work is a generator of events:

    for event in velatura.train(Path("my-style")):
        print(event)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from velatura.version import __version__ as __version__

if TYPE_CHECKING:
    from velatura.api import GenerateRequest as GenerateRequest
    from velatura.api import Plan as Plan
    from velatura.api import RefineRequest as RefineRequest
    from velatura.api import evaluate as evaluate
    from velatura.api import generate as generate
    from velatura.api import plan as plan
    from velatura.api import refine as refine
    from velatura.api import train as train
    from velatura.dataset.scan import scan as scan
    from velatura.errors import VelaturaError as VelaturaError
    from velatura.family import load_base as load_base
    from velatura.recipe import Recipe as Recipe
    from velatura.recipe import load as load_recipe
    from velatura.run import open_run as open_run

_PLACES = {
    "GenerateRequest": "velatura.api",
    "Plan": "velatura.api",
    "Recipe": "velatura.recipe",
    "RefineRequest": "velatura.api",
    "VelaturaError": "velatura.errors",
    "evaluate": "velatura.api",
    "generate": "velatura.api",
    "load_base": "velatura.family",
    "load_recipe": "velatura.recipe:load",
    "open_run": "velatura.run",
    "plan": "velatura.api",
    "refine": "velatura.api",
    "scan": "velatura.dataset.scan",
    "train": "velatura.api",
}
"""Public name -> the module that holds it, with the name there where it differs."""

__all__ = [
    "GenerateRequest",
    "Plan",
    "Recipe",
    "RefineRequest",
    "VelaturaError",
    "__version__",
    "evaluate",
    "generate",
    "load_base",
    "load_recipe",
    "open_run",
    "plan",
    "refine",
    "scan",
    "train",
]


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name not in _PLACES:
        raise AttributeError(f"module 'velatura' has no attribute {name!r}")
    module, _, inner = _PLACES[name].partition(":")
    found: object = getattr(importlib.import_module(module), inner or name)
    globals()[name] = found
    return found
