"""`velatura evaluate`: judge the checkpoints of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from velatura.cli.options import Json


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder; `velatura runs` lists them.")],
    as_json: Json = False,
) -> None:
    """Judge the checkpoints of a run, and name the one to use.

    All are measured on the same prompts and seeds; the run's report page is written anew.
    """
    from velatura import api
    from velatura.cli import ending
    from velatura.cli.progress import follow

    done = follow(api.evaluate(run), as_json=as_json, interrupted="stopped; what was judged before stands")
    if done is not None and not as_json:
        ending.show(done)
