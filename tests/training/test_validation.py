"""Held-out cells: the same question to every checkpoint, in whatever order and company it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from velatura import randomness
from velatura.adapters.lora import inject
from velatura.api.inputs import read_pictures
from velatura.diffusion.objective import Objective
from velatura.family import Model
from velatura.recipe import load
from velatura.training import validation
from velatura.training.adapter import specs
from velatura.training.data import Cached, Sample
from velatura.training.encoding import encode
from velatura.training.validation import HeldOut, cells

MakeProject = Callable[..., Path]


@pytest.fixture
def samples(make_project: MakeProject, model: Model) -> list[Sample]:
    project = make_project(pictures=9)
    *_, cached = encode(model, read_pictures(load(project), project, model).prepared)
    assert isinstance(cached, Cached)
    return [*cached.held_out, *cached.train[:3]]


def test_cells_are_a_picture_by_noise_level_table(model: Model, samples: list[Sample]) -> None:
    found = cells(model, samples, strata=4)
    assert found.shape == (len(samples), 4)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    assert cells(model, [], strata=4).shape == (0, 4)


def test_cells_are_the_same_every_time_whatever_else_was_drawn(model: Model, samples: list[Sample]) -> None:
    first = cells(model, samples, strata=3)
    torch.manual_seed(1)
    torch.rand(11)
    assert np.array_equal(cells(model, samples, strata=3), first)


def test_cells_do_not_depend_on_order_or_company(model: Model, samples: list[Sample]) -> None:
    first = cells(model, samples, strata=3)
    assert np.array_equal(cells(model, samples[::-1], strata=3)[::-1], first)
    for place, sample in enumerate(samples):
        assert np.array_equal(cells(model, [sample], strata=3)[0], first[place])


def test_the_noise_of_a_cell_follows_from_the_picture_s_content_and_the_noise_level(
    model: Model, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = samples[0]
    picture = one.prepared.picture
    found = cells(model, [one], strata=4)
    renamed = replace(one, prepared=replace(one.prepared, picture=replace(picture, name="other.png")))
    assert np.array_equal(cells(model, [renamed], strata=4), found)
    other = replace(one, prepared=replace(one.prepared, picture=replace(picture, sha256="0" * 64)))
    assert (cells(model, [other], strata=4) != found).all()
    monkeypatch.setattr(Objective, "strata", lambda self, count: self.sigmas[[500] * count])
    assert len(set(cells(model, [one], strata=4)[0])) == 4, "each noise level draws anew"


def test_the_base_is_not_better_than_itself(model: Model, samples: list[Sample]) -> None:
    assert np.array_equal(
        cells(model, samples, strata=3) - cells(model, samples, strata=3), np.zeros((len(samples), 3))
    )


def test_an_adapter_shows_and_its_absence_leaves_no_trace(
    make_project: MakeProject, model: Model, samples: list[Sample]
) -> None:
    before = cells(model, samples, strata=3)
    with inject(model.trainable_parts, specs(load(make_project()), model), seed=0) as injected:
        for name, parameter in injected.named().items():
            if name.endswith(".up"):
                with torch.no_grad():
                    parameter.copy_(0.1 * randomness.normal(tuple(parameter.shape), 0, name))
        assert np.abs(cells(model, samples, strata=3) - before).max() > 1e-3
    assert np.array_equal(cells(model, samples, strata=3), before)


def test_an_error_while_measuring_leaves_the_adapter_at_its_strength(
    make_project: MakeProject, model: Model, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load(make_project())
    cached = Cached((), tuple(samples), samples[0].texts[0])
    with inject(model.trainable_parts, specs(recipe, model), seed=0) as injected:
        held_out = HeldOut(model, injected, cached, recipe.validation)
        seen = []

        def broken(*_: object, **__: object) -> None:
            seen.append(injected.strength)
            raise RuntimeError

        monkeypatch.setattr(validation, "cells", broken)
        with pytest.raises(RuntimeError):
            held_out.measure()
        assert seen == [0.0] and injected.strength == 1.0
