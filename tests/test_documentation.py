"""The documentation names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

import velatura
from velatura import cli

PACKAGE = Path(velatura.__file__).parent
ROOT = PACKAGE.parent
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def modules() -> list[str]:
    """Every top-level module and package."""
    files = [path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"]
    return sorted(files + [path.parent.name for path in PACKAGE.glob("*/__init__.py")])


@pytest.mark.parametrize("module", modules())
def test_the_layers_of_the_architecture_name_every_module(module: str) -> None:
    layers = ARCHITECTURE.split("```")[1]

    assert re.search(rf"^(.*\| )?{module}\b", layers, flags=re.MULTILINE)


def test_every_file_that_the_architecture_names_exists() -> None:
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*\.py)`", ARCHITECTURE))

    assert len(named) > 5
    assert [name for name in sorted(named) if not (PACKAGE / name).exists()] == []


def test_every_command_that_the_pages_name_exists() -> None:
    commands = set(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md")]

    for page in pages:
        named = set(re.findall(r"(?:`|^\s*)velatura ([a-z]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE))
        assert named <= commands, page.name


def test_the_changelog_has_a_line_for_every_command() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    for name in typer.main.get_command(cli.app).commands:  # type: ignore[attr-defined]
        assert f"velatura {name}" in changelog
