"""Which noise levels are trained on: the densities by their quantiles, their range and their shift."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from velatura.diffusion.objective import DynamicShift, Objective
from velatura.recipe import ObjectiveSettings
from velatura.training.timesteps import leaning, time, training_sigma

MANY = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000

FLOW = Objective.flow()


def levels(objective: Objective, **told: Any) -> torch.Tensor:
    settings = ObjectiveSettings(**told)
    return training_sigma(leaning(objective, settings), settings, MANY)


def test_without_being_told_levels_are_the_objectives_own() -> None:
    for objective in (Objective.from_betas(), Objective.flow(3.0)):
        assert torch.equal(levels(objective), objective.training_sigma(MANY))
        assert torch.equal(levels(objective, timesteps="uniform"), objective.training_sigma(MANY))


@pytest.mark.parametrize(
    ("told", "mean", "spread"),
    [
        ({"timesteps": "sigmoid"}, 0.0, 1.0),
        ({"timesteps": "sigmoid", "sigmoid_scale": 1.5}, 0.0, 1.5),
        ({"timesteps": "logit_normal", "logit_mean": 0.7, "logit_std": 0.4}, 0.7, 0.4),
        ({"timesteps": "style_friendly"}, 3.0, 1.0),  # log SNR N(-6, 2) is 2 log((1 - t) / t)
        ({"timesteps": "style_friendly", "log_snr_mean": -2.0, "log_snr_std": 1.0}, 1.0, 0.5),
    ],
)
def test_logits_are_normal_as_told(told: dict[str, Any], mean: float, spread: float) -> None:
    logit = levels(FLOW, **told).logit()
    assert float(logit.mean()) == pytest.approx(mean, abs=1e-4)
    assert float(logit.std()) == pytest.approx(spread, rel=1e-3)
    assert float((logit < mean + spread).double().mean()) == pytest.approx(norm.cdf(1), abs=1e-4)


def test_style_friendly_levels_are_mostly_noise() -> None:
    sigma = levels(FLOW, timesteps="style_friendly")
    log_snr = 2 * ((1 - sigma) / sigma).log()
    assert (float(log_snr.mean()), float(log_snr.std())) == pytest.approx((-6.0, 2.0), rel=1e-3)
    assert float(sigma.median()) == pytest.approx(1 / (1 + math.exp(-3)), rel=1e-4)


@pytest.mark.parametrize("scale", [1.29, -0.6, 0.0])
def test_mode_is_that_of_stable_diffusion_3(scale: float) -> None:
    u = MANY.numpy()
    of_the_paper = np.sort(1 - u - scale * (np.cos(np.pi / 2 * u) ** 2 - 1 + u))
    found = levels(FLOW, timesteps="mode", **({} if scale == 1.29 else {"mode_scale": scale}))
    assert np.allclose(found.numpy(), of_the_paper, atol=1e-9)
    assert bool((found.diff() > 0).all()), "the larger the number, the more noise"


@pytest.mark.parametrize("density", ["uniform", "sigmoid", "logit_normal", "mode", "style_friendly"])
def test_equal_slices_give_equal_shares(density: Any) -> None:
    told = ObjectiveSettings(timesteps=density)
    edges = time(torch.linspace(0, 1, 9, dtype=torch.float64), told)
    found = levels(FLOW, timesteps=density)
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        assert float(((found >= low) & (found < high)).double().mean()) == pytest.approx(1 / 8, abs=1e-4)


def test_a_static_shift_leans_towards_noise() -> None:
    assert torch.allclose(levels(Objective.flow(3.0), shift=1), MANY)
    for s in (3.0, 3.1582):
        assert torch.allclose(levels(FLOW, shift=s), s * MANY / (1 + (s - 1) * MANY))
    t = levels(FLOW, timesteps="sigmoid")
    assert torch.allclose(levels(FLOW, timesteps="sigmoid", shift=3.0), 3 * t / (1 + 2 * t))


def test_the_resolution_shift_is_that_of_flux() -> None:
    told = ObjectiveSettings(shift="resolution")
    leant = leaning(Objective.flow(3.0), told)
    assert leant.shift == DynamicShift()
    for tokens, mu in ((256, 0.5), (4096, 1.15), (1024, 0.63)):
        s = math.exp(mu)
        found = training_sigma(leant.for_tokens(tokens), told, MANY)
        assert torch.allclose(found, s * MANY / (1 + (s - 1) * MANY), atol=1e-9)


@pytest.mark.parametrize("density", [None, "sigmoid", "logit_normal", "mode"])
@pytest.mark.parametrize(("low", "high"), [(0, 300), (250, 1000), (400, 401), (37, 911)])
def test_a_range_of_timesteps_is_kept_by_epsilon(density: Any, low: int, high: int) -> None:
    objective = Objective.from_betas()
    found = levels(objective, timesteps=density, min_timestep=low, max_timestep=high)
    rows = objective.timestep(found)
    assert low <= int(rows.min()) and int(rows.max()) <= high - 1
    if density in (None, "mode"):
        assert (int(rows.min()), int(rows.max())) == (low, high - 1), "as kohya's randint(min, max)"
    if density is None and high - low > 100:
        counts = torch.bincount(rows.long())[low:]
        assert float(counts.max() - counts.min()) <= 1 + 100_000 / (high - low) * 0.01


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("density", [None, "sigmoid", "logit_normal", "mode"])
def test_a_range_of_timesteps_cuts_a_flows_density_and_keeps_its_shape(density: Any, shift: float) -> None:
    whole = levels(FLOW, timesteps=density, shift=shift)
    expected = whole[(whole >= 0.2) & (whole < 0.7)]
    found = levels(FLOW, timesteps=density, shift=shift, min_timestep=200, max_timestep=700)
    assert float(found.min()) >= 0.2
    assert float(found.max()) < 0.7 + 1e-12
    for share in (0.1, 0.5, 0.9):
        assert float(found.quantile(share)) == pytest.approx(float(expected.quantile(share)), abs=1e-4)


def test_epsilon_takes_densities_over_its_timesteps() -> None:
    objective = Objective.from_betas()
    rows = objective.timestep(levels(objective, timesteps="logit_normal", logit_mean=1.0))
    assert float(rows.median()) == pytest.approx(1000 / (1 + math.exp(-1)), abs=1)
