"""The loss of a batch against its formula, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from velatura import randomness
from velatura.diffusion.objective import Objective
from velatura.family import Conditioning, Model
from velatura.recipe import ObjectiveSettings
from velatura.text.weighted import plain
from velatura.training.data import Batch
from velatura.training.losses import bend, errors, loss, measured


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
        found = float(loss(told, batch, ObjectiveSettings(min_snr=gamma)))
        assert found == pytest.approx(float((weight * error).mean()), rel=1e-4)


@torch.no_grad()
def test_without_min_snr_every_noise_level_counts_the_same(model: Model, batch: Batch) -> None:
    plain = float(loss(model, batch))
    for off in (None, 0.0):
        assert float(loss(model, batch, ObjectiveSettings(min_snr=off))) == pytest.approx(plain)
    assert plain == pytest.approx(float(errors(model, batch).mean()))
    assert float(loss(model, batch, ObjectiveSettings(min_snr=1.0))) != pytest.approx(plain, rel=0.05)


DISTANCES = torch.tensor([0.02, -0.3, 1.5, -0.05])
OF_KOHYA = {  # conditional_loss of kohya-ss/sd-scripts at huber_c 0.1, timesteps 5, 40, 400, 950
    ("l2", "snr"): [0.00039999999, 0.090000004, 2.25, 0.0025000002],
    ("l1", "snr"): [0.02, 0.30000001, 1.5, 0.050000001],
    ("huber", "constant"): [0.00039607883, 0.043245554, 0.28066593, 0.0023606808],
    ("huber", "exponential"): [0.00039996495, 0.087688796, 0.91869086, 0.002386865],
    ("huber", "snr"): [0.00039995313, 0.086454593, 0.72215414, 0.0023751545],
    ("smooth_l1", "constant"): [0.0039607882, 0.43245554, 2.8066592, 0.023606807],
    ("smooth_l1", "exponential"): [0.00040459633, 0.096148849, 2.3076472, 0.021272957],
    ("smooth_l1", "snr"): [0.00045287609, 0.1190865, 2.4721212, 0.022346929],
}


@pytest.mark.parametrize(("kind", "schedule"), OF_KOHYA)
def test_every_kind_of_loss_is_that_of_kohya(kind: str, schedule: str) -> None:
    objective = Objective.from_betas()
    sigma_B = objective.sigmas[[5, 40, 400, 950]]
    told = ObjectiveSettings(loss=kind, **({} if schedule == "snr" else {"huber_schedule": schedule}))  # type: ignore[arg-type]
    found = measured(DISTANCES.view(4, 1, 1, 1), objective, told, sigma_B).flatten()
    assert found.tolist() == pytest.approx(OF_KOHYA[kind, schedule], rel=2e-4)


def test_a_flows_exponential_huber_follows_its_sigma() -> None:
    told = ObjectiveSettings(loss="huber", huber_c=0.1, huber_schedule="exponential")
    sigma_B = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert bend(Objective.flow(3.0), told, sigma_B).tolist() == pytest.approx([1.0, 0.1**0.5, 0.1])


@torch.no_grad()
def test_the_losses_of_micro_batches_add_up_to_that_of_the_whole_whatever_their_sizes(
    model: Model, batch: Batch
) -> None:
    text = batch.conditioning.text
    parts = [
        Batch(batch.clean_BCHW[at], batch.noise_BCHW[at], batch.sigma_B[at], Conditioning(text.pick(at)), of=3)
        for at in ([0, 1], [2])
    ]
    told = ObjectiveSettings(min_snr=5.0, loss="huber")
    whole = float(loss(model, batch, told))
    assert float(sum(loss(model, part, told) for part in parts)) == pytest.approx(whole, rel=1e-5)
    mean_of_means = sum(float(loss(model, replace(part, of=None), told)) for part in parts) / 2
    assert mean_of_means != pytest.approx(whole, rel=1e-3)
