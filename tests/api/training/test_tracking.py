"""A run's numbers in TensorBoard and on Weights & Biases."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from velatura import run as runs
from velatura.api.training.tracking import check, tracked
from velatura.errors import RecipeError
from velatura.events import Event, Metric, Note, Preview
from velatura.recipe import Recipe, build
from velatura.run import Run

EVENTS: list[Event] = [Metric(3, {"loss": 0.5, "held_out": -0.1}), Note("a sentence"), Preview(3, "samples/a.png")]


class Recording:
    """Stands for both libraries, and writes down what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any, Any]] = []

    def __getattr__(self, name: str) -> Any:
        def called(*places: Any, **named: Any) -> Any:
            self.asked.append((name, places, named))
            return self

        return called


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = runs.create(tmp_path, Recipe(), provenance={"run_fingerprint": "abc"}, dataset_lines=[])
    (made.path / "samples").mkdir()
    Image.new("RGB", (8, 4), "red").save(made.path / "samples" / "a.png")
    return made


def test_nothing_is_written_unless_it_is_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
    check(Recipe())
    assert list(tracked(EVENTS, Recipe(), run)) == EVENTS


def test_numbers_and_pictures_go_to_tensorboard(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Recording()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=writer.made))
    recipe = build({}, ["tracking.tensorboard=true"])
    check(recipe)
    assert list(tracked(EVENTS, recipe, run)) == EVENTS
    assert writer.asked[0] == ("made", (str(run.path / "tensorboard"),), {})
    assert ("add_scalar", ("train/loss", 0.5, 3), {}) in writer.asked
    assert ("add_scalar", ("held out/held_out", -0.1, 3), {}) in writer.asked
    (image,) = [one for one in writer.asked if one[0] == "add_image"]
    assert image[1][1].shape == (4, 8, 3)
    assert writer.asked[-1][0] == "close"


def test_numbers_go_to_weights_and_biases_without_paths(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Recording()
    monkeypatch.setitem(sys.modules, "wandb", library)
    recipe = build({"base": {"model": "/home/mara/base.safetensors"}}, ["tracking.wandb=styles"])
    check(recipe)
    list(tracked(EVENTS, recipe, run))
    begun = library.asked[0]
    assert begun[0] == "init" and begun[2]["project"] == "styles" and begun[2]["resume"] == "allow"
    assert "mara" not in str(begun)
    assert ("log", ({"train/loss": 0.5, "held out/held_out": -0.1},), {"step": 3}) in library.asked
    assert library.asked[-1][0] == "finish"


def test_nothing_is_sent_where_the_user_s_settings_say_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("velatura.settings.load", lambda: SimpleNamespace(offline=True))
    with pytest.raises(RecipeError, match="your settings say offline"):
        check(build({}, ["tracking.wandb=styles"]))


@pytest.mark.parametrize(
    ("told", "library"), [("tracking.tensorboard=true", "torch.utils.tensorboard"), ("tracking.wandb=x", "wandb")]
)
def test_a_library_that_is_missing_is_named(told: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(RecipeError, match=r"velatura\[track\]"):
        check(build({}, [told]))
