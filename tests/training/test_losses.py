"""The loss of a batch against its formula, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from velatura import randomness
from velatura.diffusion.objective import Objective
from velatura.family import Conditioning, Model
from velatura.text.weighted import plain
from velatura.training.data import Batch
from velatura.training.losses import errors, loss


@pytest.fixture
def batch(model: Model) -> Batch:
    clean, noise = (randomness.normal((3, 4, 8, 12), 1, kind) for kind in ("clean", "noise"))
    sigmas = torch.tensor([model.objective.sigma_at(row) for row in (40, 400, 950)], dtype=torch.float64)
    with torch.no_grad():
        text = model.family.encode_prompts(model, [plain(text) for text in ("a boat", "", "a cat at night")])
    return Batch(clean, noise, sigmas, Conditioning(text))


def with_objective(model: Model, kind: str) -> Model:
    return replace(model, objective=Objective.from_betas(kind))  # type: ignore[arg-type]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["epsilon", "v"])
def test_the_error_is_the_mean_square_between_prediction_and_target(model: Model, batch: Batch, kind: str) -> None:
    told = with_objective(model, kind)
    sigma = batch.sigma_B.float().view(-1, 1, 1, 1)
    # in unit variance: x_t = alpha x0 + beta eps, and v = alpha eps - beta x0
    alpha, beta = 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()
    noisy = alpha * batch.clean_BCHW + beta * batch.noise_BCHW
    predicted = model.parts["denoiser"](noisy, torch.tensor([40, 400, 950]), batch.conditioning.text.tokens_BLD).sample
    target = batch.noise_BCHW if kind == "epsilon" else alpha * batch.noise_BCHW - beta * batch.clean_BCHW
    by_hand = (predicted - target).square().mean(dim=(1, 2, 3))
    assert errors(told, batch).tolist() == pytest.approx(by_hand.tolist(), rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weighs_each_sample_as_its_paper_says(model: Model, batch: Batch, gamma: float) -> None:
    snr = 1 / batch.sigma_B**2
    capped = snr.clamp(max=gamma)
    for kind, weight in (("epsilon", capped / snr), ("v", capped / (snr + 1))):
        told = with_objective(model, kind)
        error = errors(told, batch).double()
        assert float(loss(told, batch, min_snr=gamma)) == pytest.approx(float((weight * error).mean()), rel=1e-4)


@torch.no_grad()
def test_without_min_snr_every_noise_level_counts_the_same(model: Model, batch: Batch) -> None:
    for off in (None, 0.0):
        assert float(loss(model, batch, min_snr=off)) == pytest.approx(float(errors(model, batch).mean()))
    assert float(loss(model, batch, min_snr=1.0)) != pytest.approx(float(loss(model, batch, min_snr=None)), rel=0.05)
