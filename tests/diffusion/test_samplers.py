"""Samplers against numbers of k-diffusion, against diffusers, and against denoisers known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_heun_discrete import FlowMatchHeunDiscreteScheduler
from torch import Tensor

from velatura.diffusion import schedules
from velatura.diffusion.objective import Objective
from velatura.diffusion.samplers import (
    SAMPLERS,
    Sampler,
    ancestral_step,
    resolve,
    sample_ddim,
    sample_dpmpp_2m,
    sample_euler,
    sample_euler_ancestral,
    sample_heun,
)
from velatura.errors import SettingsError

torch.set_num_threads(1)

SD = Objective.from_betas()
START = torch.tensor([[-14.0, -3.0, 0.5, 9.0]], dtype=torch.float64)
# diffusers turns its tables into arrays in a way that numpy 2 warns about
NUMPY_WARNING = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
EVERY = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())


def curved(x: Tensor, sigma: float, step: int) -> Tensor:
    """A denoiser that no sampler solves exactly."""
    return torch.tanh((0.25 * x + sigma**2 * 0.7) / (0.25 + sigma**2))


def waves(sigma: float, following: float) -> Tensor:
    return torch.tensor([[1.0, -0.5, 0.25, -2.0]], dtype=torch.float64) * math.cos(sigma + following)


def gaussian(mean: float, spread: float) -> Callable[[Tensor, float, int], Tensor]:
    """The exact denoiser of normally distributed data: x0 + sigma * noise."""

    def denoise(x: Tensor, sigma: float, step: int) -> Tensor:
        return (spread**2 * x + sigma**2 * mean) / (spread**2 + sigma**2)

    return denoise


def flow_gaussian(mean: float, spread: float) -> Callable[[Tensor, float, int], Tensor]:
    """The same for the straight path (1 - sigma) * x0 + sigma * noise."""

    def denoise(x: Tensor, sigma: float, step: int) -> Tensor:
        kept = 1 - sigma
        return mean + spread**2 * kept / (spread**2 * kept**2 + sigma**2) * (x - kept * mean)

    return denoise


def last(sampler: Sampler, denoise: Callable[[Tensor, float, int], Tensor], sigmas: Sequence[float]) -> Tensor:
    return list(sampler.run(denoise, START, sigmas, eta=0.0))[-1].x


# k-diffusion 4601bf0 in float64: `curved`, START, its own Karras sigmas in six steps, `waves` as noise.
GOLDEN = {
    "Euler": [0.2815267941524492, 0.4541453565702928, 0.49613692017711847, 0.5770561818588221],
    "Heun": [0.04185527880382013, 0.3402075195306028, 0.39061742255078236, 0.46448816168749746],
    "DPM++ 2M": [0.14430227892047234, 0.4108560106568136, 0.47034115775300767, 0.5756414081708312],
}
GOLDEN_ANCESTRAL = {
    1.0: [0.4318352165867978, 0.500595708853471, 0.48107284295533564, 0.5031189108065539],
    0.6: [0.26121385289959115, 0.5108757129120255, 0.47487973423562996, 0.6190074713884568],
    0.0: GOLDEN["Euler"],
}
# Its ancestral Euler with eta 0.4 on the seven levels of `schedules.ddim(SD, 6)`.
GOLDEN_DDIM = [0.24050939760055803, 0.5210727528677227, 0.4980570452752891, 0.6647641857104916]


@pytest.mark.parametrize("name", GOLDEN)
def test_latents_are_those_of_k_diffusion(name: str) -> None:
    steps = list(SAMPLERS[name].run(curved, START, schedules.karras(SD, 6)))
    assert steps[-1].x[0].tolist() == pytest.approx(GOLDEN[name], rel=1e-10)


@pytest.mark.parametrize("eta", GOLDEN_ANCESTRAL)
def test_ancestral_latents_are_those_of_k_diffusion(eta: float) -> None:
    steps = list(sample_euler_ancestral(curved, START, schedules.karras(SD, 6), noise=waves, eta=eta))
    assert steps[-1].x[0].tolist() == pytest.approx(GOLDEN_ANCESTRAL[eta], rel=1e-10)


def test_ddim_with_noise_is_k_diffusion_s_ancestral_euler() -> None:
    steps = list(sample_ddim(curved, START, schedules.ddim(SD, 6), noise=waves, eta=0.4))
    assert steps[-1].x[0].tolist() == pytest.approx(GOLDEN_DDIM, rel=1e-10)


@pytest.mark.parametrize("schedule", ["Karras", "SGM Uniform", "Simple", "DDIM"])
def test_samplers_are_those_of_k_diffusion_where_it_is_installed(schedule: str) -> None:
    theirs = pytest.importorskip("k_diffusion.sampling", exc_type=ImportError)
    sigmas = schedules.SCHEDULES[schedule](SD, 7)
    told = {"noise_sampler": lambda sigma, following: waves(float(sigma), float(following))}
    for name, sample, given in (
        ("Euler", theirs.sample_euler, {}),
        ("Heun", theirs.sample_heun, {}),
        ("DPM++ 2M", theirs.sample_dpmpp_2m, {}),
        ("Euler a", theirs.sample_euler_ancestral, told),
    ):
        expected = sample(
            lambda x, sigma: curved(x, float(sigma), 0), START, torch.tensor(sigmas).double(), disable=True, **given
        )
        *_, ours = SAMPLERS[name].run(curved, START, sigmas, noise=waves)
        torch.testing.assert_close(ours.x, expected, rtol=1e-6, atol=1e-6)


@NUMPY_WARNING
@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_ddim_is_that_of_diffusers_from_its_start_on(eta: float) -> None:
    """Theirs keeps unit variance, ours is in sigma space: sqrt(1 + sigma^2) apart at every step."""
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False
    )
    scheduler.set_timesteps(20)
    sigmas = schedules.ddim(SD, 20)
    assert SD.timestep(torch.tensor(sigmas[:-1])).tolist() == scheduler.timesteps.tolist()
    noise = torch.tensor([[-1.4, -0.3, 0.05, 0.9]])
    ours = list(
        sample_ddim(curved, noise * SAMPLERS["DDIM"].start(sigmas[0]), sigmas, noise=lambda *_: noise.flip(1), eta=eta)
    )
    x = noise
    for timestep, sigma, step in zip(scheduler.timesteps, sigmas, ours, strict=False):
        in_sigma_space = x * math.sqrt(1 + sigma**2)
        prediction = (in_sigma_space - curved(in_sigma_space, sigma, 0)) / sigma
        x = scheduler.step(prediction, timestep, x, eta=eta, variance_noise=noise.flip(1)).prev_sample
        following = sigmas[step.index + 1]
        torch.testing.assert_close(step.x / math.sqrt(1 + following**2), x, rtol=1e-4, atol=1e-4)
    other = list(sample_ddim(curved, noise * sigmas[0], sigmas, noise=lambda *_: noise.flip(1), eta=0.6 - eta))
    assert float((other[-1].x - ours[-1].x).abs().max()) > 1e-2


@pytest.mark.parametrize(
    ("sample", "kind"),
    [(sample_euler, FlowMatchEulerDiscreteScheduler), (sample_heun, FlowMatchHeunDiscreteScheduler)],
)
def test_flow_steps_are_those_of_diffusers(sample: Callable[..., object], kind: type) -> None:
    scheduler = kind(shift=3.0)
    scheduler.set_timesteps(8)
    sigmas = list(dict.fromkeys(scheduler.sigmas.tolist()))
    start = torch.tensor([[-1.4, -0.3, 0.05, 0.9]])
    denoise = flow_gaussian(0.7, 0.5)
    x = start
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas.tolist(), strict=False):
        x = scheduler.step((x - denoise(x, sigma, 0)) / sigma, timestep, x).prev_sample
    *_, ours = sample(denoise, start, sigmas)  # type: ignore[misc]
    torch.testing.assert_close(ours.x, x, rtol=1e-4, atol=1e-5)
    *_, other = (sample_heun if sample is sample_euler else sample_euler)(denoise, start, sigmas)
    assert float((other.x - x).abs().max()) > 100 * 1e-4


@NUMPY_WARNING
def test_euler_is_that_of_diffusers() -> None:
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing"
    )
    scheduler.set_timesteps(9)
    x = START.float()
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
        prediction = (x - curved(x, sigma.item(), 0)) / sigma
        x = scheduler.step(prediction, timestep, x).prev_sample
    ours = list(sample_euler(curved, START.float(), scheduler.sigmas.tolist()))[-1].x
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-5)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_last_step_to_zero_is_the_clean_latents_exactly(sampler: Sampler, dtype: torch.dtype) -> None:
    sigmas = schedules.karras(Objective.from_betas("v", zero_terminal_snr=True), 4)
    *_, step = sampler.run(curved, START.to(dtype), sigmas, eta=0.0)
    assert torch.equal(step.x, step.denoised)
    assert step.x.dtype == dtype


@EVERY
def test_a_picture_known_for_sure_is_reached_by_every_sampler(sampler: Sampler) -> None:
    picture = torch.tensor([[0.1, -0.2, 0.3, 0.4]], dtype=torch.float64)
    steps = sampler.run(lambda x, sigma, step: picture, START, schedules.uniform(SD, 5), noise=waves)
    assert torch.equal(list(steps)[-1].x, picture)


def exact_end(mean: float, spread: float, sigma: float) -> Tensor:
    """Where dx/dsigma = (x - denoised) / sigma leads from START, for `gaussian`."""
    return mean + (START - mean) * spread / math.sqrt(spread**2 + sigma**2)


@pytest.mark.parametrize(("name", "order"), [("Euler", 1), ("Euler a", 1), ("DDIM", 1), ("Heun", 2), ("DPM++ 2M", 2)])
def test_halving_the_steps_shrinks_the_error_by_the_samplers_order(name: str, order: int) -> None:
    """Down to sigma 0.5, where the ODE is smooth; a wrong coefficient shows as a lower order."""
    mean, spread, top, bottom = 0.7, 0.5, 4.0, 0.5
    exact = mean + (START - mean) * math.sqrt((spread**2 + bottom**2) / (spread**2 + top**2))
    errors = []
    for count in (40, 80):
        sigmas = [top * (bottom / top) ** (index / count) for index in range(count + 1)]
        errors.append((last(SAMPLERS[name], gaussian(mean, spread), sigmas) - exact).abs().max().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


@EVERY
def test_many_steps_reach_the_exact_solution(sampler: Sampler) -> None:
    sigmas = schedules.karras(SD, 300)
    reached = last(sampler, gaussian(0.7, 0.5), sigmas)
    torch.testing.assert_close(reached, exact_end(0.7, 0.5, sigmas[0]), rtol=0, atol=0.05)


@pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if sampler.flow])
def test_flow_models_are_solved_too(name: str) -> None:
    mean, spread = 0.7, 0.5
    sigmas = schedules.uniform(Objective.flow(3.0), 200)
    x = torch.tensor([-2.0, -0.5, 1.0, 3.0], dtype=torch.float64)
    *_, step = SAMPLERS[name].run(flow_gaussian(mean, spread), x, sigmas)
    torch.testing.assert_close(step.x, mean + spread * x, rtol=0, atol=0.05)


def test_ancestral_noise_keeps_the_spread_of_the_data() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (20000,)
    sigmas = schedules.karras(SD, 60)

    def noise(sigma: float, following: float) -> Tensor:
        return torch.randn(shape, generator=generator)

    start = torch.randn(shape, generator=generator) * sigmas[0]
    *_, step = sample_euler_ancestral(gaussian(0.7, 0.5), start, sigmas, noise=noise)
    assert step.x.mean().item() == pytest.approx(0.7, abs=0.05)
    assert step.x.std().item() == pytest.approx(0.5, abs=0.05)


def test_an_ancestral_step_adds_up_to_the_following_noise_level() -> None:
    down, up = ancestral_step(5.0, 3.0, 0.8)
    assert math.hypot(down, up) == pytest.approx(3.0)
    assert ancestral_step(5.0, 3.0, 0.0) == (3.0, 0.0)
    assert ancestral_step(5.0, 0.0, 1.0) == (0.0, 0.0)


@EVERY
def test_steps_come_one_at_a_time_and_can_be_stopped(sampler: Sampler) -> None:
    asked: list[int] = []

    def denoise(x: Tensor, sigma: float, step: int) -> Tensor:
        asked.append(step)
        return x / 2

    steps = sampler.run(denoise, START, [3.0, 2.0, 1.0, 0.0], noise=waves)
    assert asked == []
    assert next(steps).index == 0
    assert set(asked) == {0}
    assert [step.index for step in steps] == [1, 2]
    assert len(asked) == 3 * sampler.evaluations - (sampler.evaluations - 1)


@pytest.mark.parametrize("sigmas", [[], [1.0], [1.0, 1.0, 0.0], [1.0, 2.0], [1.0, -1.0]])
def test_noise_levels_that_do_not_fall_are_refused(sigmas: list[float]) -> None:
    for sampler in (sample_euler, sample_heun, sample_dpmpp_2m):
        with pytest.raises(ValueError, match="falling noise levels"):
            next(sampler(curved, START, sigmas))


def test_ancestral_sampling_without_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="draws noise"):
        next(sample_euler_ancestral(curved, START, [1.0, 0.0]))


def test_automatic_is_the_samplers_own_schedule() -> None:
    assert resolve("DPM++ 2M", "Automatic", SD) == (SAMPLERS["DPM++ 2M"], schedules.karras)
    assert resolve("Euler a", "Automatic", SD) == (SAMPLERS["Euler a"], schedules.uniform)
    assert resolve("DPM++ 2M", "Automatic", Objective.flow()) == (SAMPLERS["DPM++ 2M"], schedules.uniform)
    assert resolve("Heun", "SGM Uniform", SD) == (SAMPLERS["Heun"], schedules.sgm_uniform)


def test_old_names_that_carry_their_schedule_are_understood() -> None:
    assert resolve("DPM++ 2M Karras", "Automatic", SD) == (SAMPLERS["DPM++ 2M"], schedules.karras)
    with pytest.raises(SettingsError, match="no sampler"):
        resolve("DPM++ 2M Karras", "Exponential", SD)


def test_unknown_names_are_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(SettingsError, match="did you mean 'Euler a'"):
        resolve("Euler A", "Automatic", SD)
    with pytest.raises(SettingsError, match="did you mean 'Karras'"):
        resolve("Euler", "Karas", SD)


@pytest.mark.parametrize("name", ["Euler a", "DDIM"])
def test_samplers_that_add_noise_back_refuse_flow_models(name: str) -> None:
    with pytest.raises(SettingsError, match="does not fit a flow model"):
        resolve(name, "Automatic", Objective.flow())


def test_ddim_starts_from_unit_noise_and_the_others_from_sigma_alone() -> None:
    assert SAMPLERS["DDIM"].start(3.0) == pytest.approx(math.sqrt(10.0))
    assert SAMPLERS["Euler"].start(3.0) == 3.0
    assert resolve("DDIM", "Automatic", SD) == (SAMPLERS["DDIM"], schedules.ddim)
