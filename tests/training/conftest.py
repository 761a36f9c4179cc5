"""A tiny base, and projects to train on it in a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tiny
from tests.tiny import base as base
from tests.tiny import model as model

MakeProject = Callable[..., Path]


@pytest.fixture
def make_project(base: Path, tmp_path: Path) -> MakeProject:
    """Writes a project; settings are given as `train.steps=12`."""
    return lambda *settings, **told: tiny.project(tmp_path / "project", base, *settings, **told)
