"""The recipes that come with the program: each loads, and has the figures of the practice that it names."""

from __future__ import annotations

import pytest

from velatura import bases, shipped
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
        "train.batch": 2,
        "train.learning_rate": 1e-4,
        "train.text_learning_rate": 5e-5,
        "adapter.rank": 32,
        "adapter.alpha": 16.0,
    },
    "flux1-style": {"train.steps": 1000, "dataset.hold_out": 0.2},
    "z-image-style": {"train.steps": 1000, "train.learning_rate": 1e-4, "adapter.rank": 16},
    "pocket-style": {"train.steps": 240},
}


@pytest.mark.parametrize("one", shipped.every(), ids=lambda one: one.name)
def test_a_shipped_recipe_has_the_figures_of_its_practice(one: shipped.Shipped) -> None:
    told = one.recipe

    assert {setting: value_of(told, setting) for setting in FIGURES[one.name]} == FIGURES[one.name]
    assert one.about.endswith(".")
    assert one.family in bases.FAMILIES or one.name == "pocket-style"
