"""Pictures for the dataset tests, painted on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.paintings import clouds

Paint = Callable[..., Path]


@pytest.fixture
def paint(tmp_path: Path) -> Paint:
    """`paint("a.png", seed, size=(w, h), caption=...)` writes a picture and its caption into tmp_path."""

    def painted(
        name: str, seed: int = 0, *, size: tuple[int, int] = (96, 64), caption: str | None = None, **how: Any
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        clouds(seed, size).save(path, **how)
        if caption is not None:
            path.with_suffix(".txt").write_text(caption, encoding="utf-8")
        return path

    return painted
