"""The public functions: what the command line and the web page call, and what a script may import.

Long work is a generator of events. torch is imported inside the functions that need it, so that
importing this package costs nothing.
"""

from velatura.api.judging import evaluate, keep_lora, report
from velatura.api.painting import GenerateRequest, free_name, generate, png
from velatura.api.planning import Plan, plan
from velatura.api.training import refit_steps, train

__all__ = [
    "GenerateRequest",
    "Plan",
    "evaluate",
    "free_name",
    "generate",
    "keep_lora",
    "plan",
    "png",
    "refit_steps",
    "report",
    "train",
]
