"""`velatura doctor`: what this machine offers, and what is missing."""

from __future__ import annotations

import typer

from velatura.cli import output
from velatura.cli.options import Json

FOUND_PROBLEMS = 1


def doctor(as_json: Json = False) -> None:
    """Show what this machine offers, and what is missing.

    Device, memory, versions, folders, and how to get what is not there.
    Exits with 1 where something essential is wrong.
    """
    from velatura.doctor.examine import examine

    findings = examine()
    if as_json:
        output.emit([finding.to_dict() for finding in findings])
    else:
        marks = {"good": "ok", "note": "--", "wrong": "!!"}
        rows = [(marks[one.state], one.subject, one.says + (f"; {one.fix}" if one.fix else "")) for one in findings]
        output.say(output.table(("", "subject", "found"), rows))
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(FOUND_PROBLEMS)
