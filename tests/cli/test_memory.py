"""Where and in which precision, by the words of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from velatura import api
from velatura.events import Done, Event
from velatura.recipe import MemorySettings

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


def test_device_precision_and_the_rest_of_memory_are_handed_on(
    velatura: Velatura, asked: list[api.GenerateRequest]
) -> None:
    velatura("generate", "a boat", "--device", "cpu", "--precision", "bf16", "--memory", "vae_tiling=true")
    velatura("generate", "a boat")
    velatura("generate", "a boat", "--quantise", "int8", "--swap", "0", "--memory", "in_turn=true")
    assert asked[2].memory == MemorySettings(quantised="int8", swapped_blocks=0, in_turn=True)
    assert asked[0].memory == MemorySettings(device="cpu", precision="bf16", vae_tiling=True)
    assert asked[1].memory == MemorySettings()


def test_the_project_s_memory_is_taken_and_overridden(
    velatura: Velatura, asked: list[api.GenerateRequest], tmp_path: Path
) -> None:
    velatura("new", "ink")
    recipe = tmp_path / "ink" / "recipe.toml"
    told = recipe.read_text(encoding="utf-8").replace('\nprecision = "none"', '\nprecision = "bf16"')
    recipe.write_text(told, encoding="utf-8")
    velatura("generate", "a boat", "--project", tmp_path / "ink")
    velatura("generate", "a boat", "--project", tmp_path / "ink", "--precision", "none", "--device", "cpu")
    assert [one.memory.precision for one in asked] == ["bf16", None]
    assert asked[1].memory.device == "cpu"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--device", "gpu"), "memory.device"),
        (("--precision", "fp8"), "memory.precision"),
        (("--quantise", "int2"), "memory.quantised"),
        (("--memory", "tiling=true"), "memory.vae_tiling"),
        (("--memory", "tiling"), "key=value"),
    ],
)
def test_what_is_not_known_is_one_sentence(velatura: Velatura, words: tuple[str, ...], says: str) -> None:
    answer = velatura("generate", "a boat", *words)
    assert answer.code != 0
    assert says in answer.err


def test_a_plan_shows_the_reasons(velatura: Velatura, monkeypatch: pytest.MonkeyPatch) -> None:
    made = api.Plan(
        1,
        1,
        1,
        1,
        0,
        1,
        1.0,
        1,
        {},
        1,
        8,
        {"adapter": 32, "run": 32},
        notes=["unwise"],
        memory={"device": "cpu"},
        reasons=["device cpu: there is no other"],
    )
    monkeypatch.setattr(api, "plan", lambda path, overrides: made)
    assert velatura("plan", "ink").out.splitlines()[-2:] == ["device cpu: there is no other", "note: unwise"]
    assert velatura("plan", "ink", "--json").json[0]["memory"] == {"device": "cpu"}
