"""Write `docs/parity.md`: what equals other programs, within what, and what differs on purpose.

python docs/write_parity.py          writes the page
python docs/write_parity.py --check  exits with 1 where it is out of date

The rows stand in `tests/parity`, where the tests take their tolerances from.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "parity.md"

HEAD = """# Parity

What is typed in A1111 or ComfyUI means the same here, and where it does not, this page says so. Every figure is the
largest difference that a test of this repository allows; the tests hold numbers that the other programs themselves
computed. Written by `docs/write_parity.py`.

"0" is bit for bit. Other figures are relative to the numbers compared, in float64 unless the row says otherwise:
what stays is the order in which the same things are added up. A picture is not compared bit for bit with one of
another program, as that also depends on the card and its libraries.
"""


def page() -> str:
    """The whole page."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from tests import parity

    return "\n".join([HEAD, *(_table(module) for module in parity.tables())])


def _table(module: ModuleType) -> str:
    lines = [f"## {module.TITLE}\n", f"{module.INTRO.strip()}\n", "| | equals | within | |", "|---|---|---|---|"]
    for row in module.ROWS:
        within = "–" if row.within is None else f"{row.within:g}"
        lines.append(f"| {row.name} | {row.peer} | {within} | {row.note} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Write the page, or check it."""
    written = page()
    if "--check" in arguments:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != written)
    PAGE.write_text(written, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
