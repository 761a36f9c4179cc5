"""Objectives against diffusers' schedulers and against their own algebra."""

from __future__ import annotations

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler, rescale_zero_terminal_snr
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from velatura.diffusion.objective import DynamicShift, Kind, Objective
from velatura.errors import ModelError

torch.set_num_threads(1)

SD_SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}
ALL = [Objective.from_betas("epsilon"), Objective.from_betas("v"), Objective.flow(3.0)]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_kind(objective: Objective) -> str:
    return objective.kind


def test_the_table_of_stable_diffusion_is_k_diffusions() -> None:
    # k-diffusion 4601bf0, DiscreteSchedule in float64 over scaled_linear betas.
    sigmas = Objective.from_betas().sigmas
    assert sigmas.shape == (1000,)
    assert sigmas.dtype == torch.float64
    golden = [0.029167158151720367, 0.04131441199678309, 1.612886194303876, 14.614641229333639]
    assert sigmas[[0, 1, 499, 999]].tolist() == pytest.approx(golden, rel=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_every_noise_schedule_agrees_with_diffusers(schedule: str) -> None:
    config = {"beta_start": 0.001, "beta_end": 0.02, "beta_schedule": schedule, "num_train_timesteps": 500}
    alpha_bar = DDPMScheduler(**config).alphas_cumprod.double()
    expected = ((1 - alpha_bar) / alpha_bar).sqrt()
    # diffusers works this out in float32, where 1 - alpha_bar loses digits near 0
    torch.testing.assert_close(Objective.from_scheduler(config).sigmas, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", ["epsilon", "v"])
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_a_table_sigma_gives_its_integer_back_exactly(kind: Kind, zero_terminal_snr: bool) -> None:
    objective = Objective.from_betas(kind, zero_terminal_snr=zero_terminal_snr)
    integers = torch.arange(1000, dtype=torch.float64)
    assert torch.equal(objective.timestep(objective.sigmas), integers)
    assert torch.equal(objective.timestep(objective.sigmas.float()), integers)
    assert torch.equal(objective.timestep(objective.sigmas[777:778]), integers[777:778])


def test_between_rows_the_timestep_is_linear_in_log_sigma() -> None:
    objective = Objective.from_betas()
    golden = [353.89041059493974, 886.2672186966297]  # k-diffusion 4601bf0, sigma_to_t of 1 and 7.77
    assert objective.timestep(torch.tensor([1.0, 7.77])).tolist() == pytest.approx(golden, abs=1e-3)
    assert objective.timestep(torch.tensor([1e-6, 1e6])).tolist() == [0.0, 999.0]
    assert objective.timestep(torch.tensor([objective.sigma_at(12.25)])).item() == pytest.approx(12.25)
    assert objective.sigma_at(12.0) == objective.table[12]


def test_a_flow_timestep_is_a_thousand_sigmas_whatever_the_shift() -> None:
    assert Objective.flow(3.0).timestep(torch.tensor([1.0, 0.25])).tolist() == [1000.0, 250.0]


def test_zero_terminal_snr_keeps_the_noisiest_level_finite() -> None:
    objective = Objective.from_betas("v", zero_terminal_snr=True)
    assert objective.sigma_max == pytest.approx(4518.7, abs=1.0)
    alpha_bar = (1 - rescale_zero_terminal_snr(1 - 1 / _alpha_ratio())).cumprod(0)
    torch.testing.assert_close(objective.sigmas[:-1], ((1 - alpha_bar) / alpha_bar).sqrt()[:-1], rtol=1e-6, atol=0)

    clean, noise = draw(1, 4, 5, 3), draw(1, 4, 5, 3, seed=1)
    sigma = objective.sigmas[-1:]
    noisy = objective.add_noise(clean, noise, sigma)
    target = objective.target(clean, noise, sigma)
    torch.testing.assert_close(objective.scale_input(noisy, sigma), noise, rtol=0, atol=1e-3)
    torch.testing.assert_close(target, -clean, rtol=0, atol=2e-3)
    torch.testing.assert_close(objective.denoised(noisy, target, sigma), clean, rtol=0, atol=2e-3)


def _alpha_ratio() -> torch.Tensor:
    alpha_bar = 1 / (1 + Objective.from_betas().sigmas ** 2)
    return torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]]) / alpha_bar


@pytest.mark.parametrize("objective", ALL, ids=by_kind)
def test_a_perfect_prediction_denoises_to_the_clean_latents(objective: Objective) -> None:
    clean, noise = draw(3, 4, 6, 5), draw(3, 4, 6, 5, seed=1)
    sigma = objective.sigmas[[30, 400, 900]]
    noisy = objective.add_noise(clean, noise, sigma)
    back = objective.denoised(noisy, objective.target(clean, noise, sigma), sigma)
    torch.testing.assert_close(back, clean, rtol=1e-5, atol=1e-5)
    wrong = objective.denoised(noisy, objective.target(clean, noise, sigma), sigma.flip(0))
    assert (wrong - clean).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["epsilon", "v"])
def test_scaled_noisy_latents_and_targets_are_those_of_diffusers(kind: Kind) -> None:
    objective, ddpm = Objective.from_betas(kind), DDPMScheduler(**_without_class(SD_SCHEDULER))
    clean, noise = draw(3, 4, 6, 5), draw(3, 4, 6, 5, seed=1)
    timesteps = torch.tensor([3, 500, 998])
    sigma = objective.sigmas[timesteps]

    scaled = objective.scale_input(objective.add_noise(clean, noise, sigma), sigma)
    torch.testing.assert_close(scaled, ddpm.add_noise(clean, noise, timesteps), rtol=1e-5, atol=1e-5)
    expected = noise if kind == "epsilon" else ddpm.get_velocity(clean, noise, timesteps)
    torch.testing.assert_close(objective.target(clean, noise, sigma), expected, rtol=1e-5, atol=1e-5)


def test_flow_noising_is_that_of_diffusers() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    objective = Objective.from_scheduler({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})
    torch.testing.assert_close(objective.sigmas.flip(0), scheduler.sigmas.double(), rtol=1e-5, atol=1e-6)
    clean, noise = draw(2, 4, 6, 5), draw(2, 4, 6, 5, seed=1)
    rows = torch.tensor([100, 700])
    expected = scheduler.scale_noise(clean, scheduler.timesteps[rows], noise)
    torch.testing.assert_close(
        objective.add_noise(clean, noise, scheduler.sigmas[rows]), expected, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(objective.target(clean, noise, scheduler.sigmas[rows]), noise - clean)


def test_a_dynamic_shift_grows_with_the_image_and_must_be_settled_first() -> None:
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}
    objective = Objective.from_scheduler(config)
    assert objective.shift == DynamicShift()
    with pytest.raises(ValueError, match="for_tokens"):
        _ = objective.sigmas
    settled = objective.for_tokens(4096)
    assert settled.shift == pytest.approx(torch.tensor(1.15).exp().item())
    assert objective.for_tokens(256).shift == pytest.approx(torch.tensor(0.5).exp().item())
    assert settled.training_sigma(torch.tensor([0.5])).item() == pytest.approx(0.7595, abs=1e-4)
    assert Objective.from_betas().for_tokens(77) == Objective.from_betas()


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weights_are_the_published_ones(gamma: float) -> None:
    sigma = torch.tensor([0.05, 0.4, 1.0, 12.0], dtype=torch.float64)
    snr = sigma**-2
    torch.testing.assert_close(ALL[0].snr(sigma), snr)
    torch.testing.assert_close(ALL[0].loss_weight(sigma, gamma), snr.clamp(max=gamma) / snr)
    torch.testing.assert_close(ALL[1].loss_weight(sigma, gamma), snr.clamp(max=gamma) / (snr + 1))


@pytest.mark.parametrize("objective", ALL, ids=by_kind)
def test_min_snr_weighs_equal_errors_of_the_clean_latents_alike(objective: Objective) -> None:
    """Where SNR is above gamma the weight turns any prediction's error into gamma clean-latent errors."""
    clean, noise = draw(1, 4, 6, 5), draw(1, 4, 6, 5, seed=1)
    sigma = torch.tensor([0.2])
    noisy, target = objective.add_noise(clean, noise, sigma), objective.target(clean, noise, sigma)
    predicted = target + 0.1 * draw(1, 4, 6, 5, seed=2)
    in_prediction = (predicted - target).square().mean().item()
    in_clean = (objective.denoised(noisy, predicted, sigma) - clean).square().mean().item()
    assert objective.loss_weight(sigma, 5.0).item() * in_prediction == pytest.approx(5 * in_clean, rel=1e-4)


@pytest.mark.parametrize("objective", ALL, ids=by_kind)
def test_without_a_gamma_every_sample_counts_the_same(objective: Objective) -> None:
    assert objective.loss_weight(torch.tensor([0.1, 0.9])).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("kind", ["epsilon", "v"])
def test_training_visits_every_timestep_equally(kind: Kind) -> None:
    objective = Objective.from_betas(kind)
    even = (torch.arange(3000, dtype=torch.float64) + 0.5) / 3000
    assert torch.equal(objective.training_sigma(even), objective.sigmas.repeat_interleave(3))
    ends = objective.training_sigma(torch.tensor([0.0, 1 - 1e-7]))
    assert ends.tolist() == [objective.sigma_min, objective.sigma_max]


def test_flow_training_leans_towards_noise_by_its_shift() -> None:
    half = torch.tensor([0.5])
    assert Objective.flow().training_sigma(half).item() == 0.5
    assert Objective.flow(3.0).training_sigma(half).item() == 0.75


@pytest.mark.parametrize("objective", ALL, ids=by_kind)
def test_strata_rise_and_avoid_the_ends(objective: Objective) -> None:
    strata = objective.strata(8)
    assert strata.shape == (8,)
    assert (strata.diff() > 0).all()
    assert strata[0] > objective.sigma_min
    assert strata[-1] < objective.sigma_max


def test_strata_are_the_middles_of_equal_slices() -> None:
    assert ALL[0].timestep(ALL[0].strata(8)).tolist() == [80, 200, 320, 440, 560, 680, 800, 920]
    assert Objective.flow().strata(4).tolist() == [0.125, 0.375, 0.625, 0.875]
    with pytest.raises(ValueError, match="at least one"):
        ALL[0].strata(0)


@pytest.mark.parametrize("objective", ALL, ids=by_kind)
def test_latents_stay_float32_and_float64_is_never_forced_on_a_device(objective: Objective) -> None:
    for dtype, expected in ((torch.float32, torch.float32), (torch.float64, torch.float64)):
        clean, noise = draw(2, 4, 3, 3).to(dtype), draw(2, 4, 3, 3, seed=1).to(dtype)
        sigma = objective.sigmas[[10, 500]]
        noisy = objective.add_noise(clean, noise, sigma)
        for made in (
            noisy,
            objective.scale_input(noisy, sigma),
            objective.target(clean, noise, sigma),
            objective.denoised(noisy, noise, sigma),
        ):
            assert made.dtype == expected


@pytest.mark.parametrize("objective", ALL, ids=by_kind)
def test_nothing_but_the_finished_coefficients_moves_to_the_device(objective: Objective) -> None:
    """The meta device refuses any read, so work done there rather than on the CPU would fail."""
    latents = torch.empty(2, 4, 3, 3, device="meta")
    sigma = objective.sigmas[[10, 500]]
    assert objective.add_noise(latents, latents, sigma).device.type == "meta"
    assert objective.denoised(latents, latents, sigma).dtype == torch.float32
    assert objective.timestep(sigma).device.type == "cpu"


def test_a_config_of_diffusers_is_read_whole() -> None:
    assert Objective.from_scheduler(SD_SCHEDULER) == Objective.from_betas("epsilon")
    v = {**SD_SCHEDULER, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    assert Objective.from_scheduler(v) == Objective.from_betas("v", zero_terminal_snr=True)
    euler = EulerDiscreteScheduler(**_without_class(SD_SCHEDULER), timestep_spacing="linspace")
    assert Objective.from_scheduler(SD_SCHEDULER).sigma_max == pytest.approx(euler.sigmas[0].item(), rel=1e-5)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("prediction_type", "sample", "predicts 'sample'"),
        ("beta_schedule", "spiral", "noise schedule 'spiral'"),
        ("beta_start", "low", "beta_start must be a number"),
    ],
)
def test_an_objective_that_is_not_known_is_refused_by_name(key: str, value: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Objective.from_scheduler({**SD_SCHEDULER, key: value})


def _without_class(config: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in config.items() if not key.startswith("_")}
