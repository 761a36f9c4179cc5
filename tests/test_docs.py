"""The generated pages say what the program says, and the shipped recipes are recipes."""

import runpy
from pathlib import Path

import pytest

from velatura import demo, recipe, shipped

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["commands.md", "settings.md"])
def test_the_reference_is_what_the_program_says(page: str) -> None:
    written = runpy.run_path(str(ROOT / "docs" / "write_reference.py"))["pages"]()[page]

    assert (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8") == written, (
        "out of date: run `python docs/write_reference.py`"
    )


def test_the_pocket_recipe_is_the_demos() -> None:
    found = shipped.find("pocket-style").recipe

    assert found == recipe.build({**demo.SETTINGS, "name": found.name})


def test_every_command_of_the_readme_is_there() -> None:
    known = runpy.run_path(str(ROOT / "docs" / "write_reference.py"))["commands"]()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    used = {line.split()[1] for line in text.splitlines() if line.startswith("velatura ") and line.split()[1].isalpha()}

    assert used
    assert {name for name in used if f"## velatura {name}\n" not in known} == set()
