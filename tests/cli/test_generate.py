"""`velatura generate`: how texts are read, by the words of the command line or by the project's recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from velatura import api
from velatura.events import Done, Event

Velatura = Callable[..., Any]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[api.GenerateRequest]:
    """What the command asks of the API, which paints nothing."""
    requests: list[api.GenerateRequest] = []

    def generate(request: api.GenerateRequest) -> Iterator[Event]:
        requests.append(request)
        yield Done(0, {})

    monkeypatch.setattr(api, "generate", generate)
    return requests


def test_emphasis_and_clip_skip_are_handed_on(velatura: Velatura, asked: list[api.GenerateRequest]) -> None:
    velatura("generate", "a boat", "--emphasis", "comfy", "--clip-skip", 2)
    velatura("generate", "a boat")
    assert [(one.emphasis, one.clip_skip) for one in asked] == [("comfy", 2), ("a1111", None)]


def test_the_project_s_clip_skip_is_of_its_own_base_alone(
    velatura: Velatura, asked: list[api.GenerateRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    velatura("new", "ink")
    recipe = tmp_path / "ink" / "recipe.toml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace('clip_skip = "none"', "clip_skip = 2"), "utf-8")
    monkeypatch.chdir(tmp_path / "ink")
    for words in ((), ("--clip-skip", 1), ("--base", "pocket")):
        velatura("generate", "a boat", *words)
    assert [one.clip_skip for one in asked] == [2, 1, None]
