"""docs/known-bugs.md names a test for each bug; each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
TABLE = (TESTS.parent / "docs" / "known-bugs.md").read_text(encoding="utf-8")


def test_every_bug_of_the_table_has_a_test_that_is_there() -> None:
    rows = [line.split("|")[3] for line in TABLE.splitlines() if line.startswith("| ") and "test" in line][1:]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", row)
        assert named, row
        for path, function in named:
            source = (TESTS / path).read_text(encoding="utf-8")
            assert not function or f"def {function}(" in source, function
