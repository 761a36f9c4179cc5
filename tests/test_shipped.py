"""The recipes that come with the program: each loads, and has the figures of the practice that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny
from velatura import api, bases, recipe, shipped
from velatura.dataset import split
from velatura.foreign.translation import value_of

FIGURES = {
    "sd15-person": {
        "dataset.resolution": 512,
        "train.steps": 4500,
        "train.schedule": "cosine",
        "train.warmup": 300,
        "train.text_learning_rate": 1e-4,
        "adapter.rank": 32,
        "adapter.alpha": 16.0,
    },
    "sdxl-style": {
        "base.clip_skip": 2,
        "dataset.keep_tokens": 1,
        "objective.noise_offset": 0.03,
        "train.epochs": 4,
        "train.schedule": "cosine_restarts",
        "train.cycles": 3,
        "train.optimizer": "adamw8bit",
        "train.batch": 2,
        "train.learning_rate": 1e-4,
        "train.text_learning_rate": 5e-5,
        "adapter.rank": 32,
        "adapter.alpha": 16.0,
    },
    "flux1-style": {"train.steps": 1000, "dataset.hold_out": 0.2},
    "z-image-style": {"train.steps": 1000, "train.learning_rate": 1e-4, "adapter.rank": 16},
    "pocket-style": {"train.steps": 400, "train.learning_rate": 5e-3, "adapter.rank": 16},
}


@pytest.mark.parametrize("one", shipped.every(), ids=lambda one: one.name)
def test_a_shipped_recipe_has_the_figures_of_its_practice(one: shipped.Shipped) -> None:
    told = one.recipe

    assert {setting: value_of(told, setting) for setting in FIGURES[one.name]} == FIGURES[one.name]
    assert one.about.endswith(".")
    assert one.family in bases.FAMILIES or one.name == "pocket-style"


@pytest.mark.parametrize("pictures", [1, 7, 25, 40, 60, 5000])
def test_repeats_bring_the_epochs_to_the_most_steps_there_should_be(pictures: int) -> None:
    tree = shipped.find("sdxl-style").fitted(pictures)
    repeats = tree["dataset"]["repeats"]
    trained = pictures - split.kept_back(pictures, 0.2)

    steps = 4 * trained * repeats / 2
    assert repeats == 1 or steps <= shipped.MOST_STEPS
    if trained >= shipped.FEWEST and repeats > 1:
        assert steps * (repeats + 1) / repeats > shipped.MOST_STEPS
    assert repeats <= 80  # those of 25 pictures, the fewest that the practice is for
    assert shipped.find("z-image-style").fitted(pictures) == shipped.find("z-image-style").tree


@pytest.mark.parametrize("name", [one.name for one in shipped.every() if one.family])
def test_a_shipped_recipe_is_honoured_by_a_base_of_its_family(name: str, tmp_path: Path) -> None:
    one = shipped.find(name)
    base = tiny.BASES[one.family](tmp_path / "base")
    project = tiny.project(tmp_path / "project", base)
    tree = one.tree
    told = {**tree, "base": {**tree["base"], "model": str(base)}, "dataset": {**tree["dataset"], "resolution": 64}}
    (project / "recipe.toml").write_text(recipe.to_toml(recipe.build(told)), encoding="utf-8")

    planned = api.plan(project)

    assert planned.steps > 0 and planned.trained > 0
    assert set(planned.disk) == {"adapter", "state", "run"}
