"""The public names of the package."""

import subprocess
import sys

import pytest

import velatura


@pytest.mark.parametrize("name", velatura.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(velatura, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = velatura.trian  # type: ignore[attr-defined]


def test_importing_the_package_imports_nothing_heavy() -> None:
    told = "import sys, velatura; print([n for n in ('torch', 'numpy', 'PIL', 'pydantic') if n in sys.modules])"

    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
