"""What a base cannot honour is refused, and what it can changes the training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from velatura.api.inputs import read_pictures
from velatura.diffusion.objective import Objective
from velatura.errors import ModelError, RecipeError
from velatura.family import Model
from velatura.recipe import BaseSettings, ObjectiveSettings, load
from velatura.training.data import Batches, Cached
from velatura.training.encoding import encode
from velatura.training.honour import as_told, check
from velatura.training.losses import loss

MakeProject = Callable[..., Path]

KINDS = {"epsilon": Objective.from_betas(), "v": Objective.from_betas("v"), "flow": Objective.flow(3.0)}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"debiased": True}, "flow"),
    ({"v_like": 0.5}, "v flow"),
    ({"v_as_noise": True}, "epsilon flow"),
    ({"flow_weighting": "cosmap"}, "epsilon v"),
    ({"shift": 3.0}, "epsilon v"),
    ({"shift": "resolution"}, "epsilon v"),
    ({"timesteps": "style_friendly"}, "epsilon v"),
    ({"loss": "huber"}, "flow"),
    ({"loss": "huber", "huber_schedule": "constant"}, ""),
    ({"timesteps": "style_friendly", "shift": 3.0}, "epsilon v flow"),
    *(
        (told, "")
        for told in (
            {"noise_offset": 0.05},
            {"multires_iterations": 6},
            {"input_perturbation": 0.1},
            {"min_timestep": 100},
            {"min_snr": 5.0},
            {"timesteps": "sigmoid"},
        )
    ),
]


@pytest.mark.parametrize(("told", "by"), REFUSED)
def test_a_setting_is_honoured_or_refused(told: dict[str, Any], by: str) -> None:
    for kind, objective in KINDS.items():
        if kind in by.split():
            with pytest.raises(RecipeError, match="objective"):
                check(ObjectiveSettings(**told), objective)
        else:
            check(ObjectiveSettings(**told), objective)


def test_the_sentence_says_which_base_it_is_for() -> None:
    with pytest.raises(RecipeError, match=r"objective\.v_as_noise is for a base that predicts v; this one p"):
        check(ObjectiveSettings(v_as_noise=True), KINDS["epsilon"])


def test_a_base_can_be_said_to_predict_v_at_zero_terminal_snr() -> None:
    told = as_told(KINDS["epsilon"], BaseSettings(prediction="v", zero_terminal_snr=True))
    expected = Objective.from_betas("v", zero_terminal_snr=True)
    assert told.kind == "v"
    assert torch.allclose(told.sigmas, expected.sigmas, rtol=1e-6)
    # the table of kohya-ss/sd-scripts' fix_noise_scheduler_betas_for_zero_terminal_snr
    rows = told.sigmas[[0, 40, 400, 950, 998]].tolist()
    assert rows == pytest.approx([0.029167533, 0.20628828, 1.2456865, 41.30763, 2254.1951], rel=2e-3)
    assert as_told(expected, BaseSettings(zero_terminal_snr=True)) == expected
    assert as_told(KINDS["epsilon"], BaseSettings()) is KINDS["epsilon"]


@pytest.mark.parametrize(
    ("kind", "told", "sentence"),
    [
        ("epsilon", {"zero_terminal_snr": True}, "nothing to learn from predicting noise"),
        ("flow", {"prediction": "v"}, "this base is a flow"),
        ("flow", {"zero_terminal_snr": True}, "this base is a flow"),
    ],
)
def test_what_a_base_cannot_predict_is_refused(kind: str, told: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        as_told(KINDS[kind], BaseSettings(**told))


def test_stretched_levels_are_not_put_back() -> None:
    with pytest.raises(ModelError, match="cannot undo"):
        as_told(Objective.from_betas("v", zero_terminal_snr=True), BaseSettings(zero_terminal_snr=False))


CHANGES = [
    ["loss=l1"],
    ["loss=huber"],
    ["loss=huber", "huber_c=0.5"],
    ["loss=huber", "huber_schedule=exponential"],
    ["loss=smooth_l1"],
    ["min_snr=1"],
    ["min_snr=5", "soft_min_snr=true"],
    ["debiased=true"],
    ["v_like=0.5"],
    ["noise_offset=0.1"],
    ["noise_offset=0.1", "noise_offset_random=true"],
    ["noise_offset=0.1", "noise_offset_adaptive=0.1"],
    ["multires_iterations=6"],
    ["multires_iterations=6", "multires_discount=0.8"],
    ["input_perturbation=0.1"],
    ["input_perturbation=0.1", "input_perturbation_random=true"],
    ["timesteps=sigmoid"],
    ["timesteps=sigmoid", "sigmoid_scale=2"],
    ["timesteps=logit_normal", "logit_mean=1"],
    ["timesteps=logit_normal", "logit_mean=1", "logit_std=2"],
    ["timesteps=mode"],
    ["timesteps=mode", "mode_scale=0.5"],
    ["min_timestep=500"],
    ["max_timestep=500"],
]


@torch.no_grad()
def test_every_setting_changes_what_is_trained(make_project: MakeProject, model: Model) -> None:
    project = make_project(pictures=4)
    *_, cached = encode(model, read_pictures(load(project), project, model).prepared)
    assert isinstance(cached, Cached)
    found = {}
    for told in [[], *CHANGES]:
        recipe = load(project, [f"objective.{one}" for one in told])
        batches = Batches(model, cached, recipe)
        losses = [float(loss(model, batch, recipe.objective)) for step in range(3) for batch in batches.of(step)]
        (again,) = Batches(model, cached, recipe).of(2)
        assert losses[2] == float(loss(model, again, recipe.objective))
        found[" ".join(told)] = tuple(losses)
    alike = [(one, other) for one in found for other in found if one < other and found[one] == found[other]]
    assert alike == []


FLOWS = [
    ["shift=1"],
    ["shift=resolution"],
    ["timesteps=style_friendly"],
    ["timesteps=style_friendly", "log_snr_mean=-2"],
    ["timesteps=style_friendly", "log_snr_std=1"],
    ["flow_weighting=cosmap"],
    ["flow_weighting=sigma_sqrt"],
]


def test_every_setting_of_a_flow_changes_its_levels_or_their_weights() -> None:
    from velatura.recipe import build
    from velatura.training.timesteps import leaning, training_sigma
    from velatura.training.weighting import weight

    uniform = (torch.arange(8, dtype=torch.float64) + 0.5) / 8
    found = {}
    for told in [[], *FLOWS]:
        settings = build({"version": 2}, [f"objective.{one}" for one in told]).objective
        sigma = training_sigma(leaning(KINDS["flow"], settings).for_tokens(1024), settings, uniform)
        found[" ".join(told)] = (*sigma.tolist(), *weight(KINDS["flow"], settings, sigma).tolist())
    assert len(set(found.values())) == len(found)
