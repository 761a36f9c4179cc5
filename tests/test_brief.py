from __future__ import annotations

from pathlib import Path

import pytest

from velatura import brief, schema
from velatura.brief import Brief, Rights
from velatura.errors import RecipeError


def test_a_brief_comes_back_from_its_file(tmp_path: Path) -> None:
    told = Brief(
        name="Größe",
        objective="Draws like me.",
        success=["Lines are never straight.", 'It says "no" to gradients.'],
        trigger="inkstyle",
        prompts=["a boat, inkstyle"],
        rights=Rights(author="me", licence="CC BY 4.0"),
    )
    (tmp_path / "brief.toml").write_text(schema.to_toml(told, comments=True), encoding="utf-8")

    assert brief.load(tmp_path) == told == brief.load(tmp_path / "brief.toml")


def test_a_wrong_key_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "brief.toml").write_text("[rights]\nauther = 'me'\n")

    with pytest.raises(RecipeError, match=r"unknown setting rights\.auther .*did you mean rights\.author"):
        brief.load(tmp_path)
