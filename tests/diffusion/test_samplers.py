"""Samplers against numbers of k-diffusion, against diffusers, and against denoisers known in closed form."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_heun_discrete import FlowMatchHeunDiscreteScheduler
from torch import Tensor

from tests.parity import samplers as samplers_page
from tests.parity import within
from velatura.diffusion import schedules
from velatura.diffusion.guidance import classifier_free
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
from velatura.diffusion.samplers.step import Noise, Step
from velatura.diffusion.samplers.table import CFGPP_SHARE
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


def quiet(sampler: Sampler) -> dict[str, float]:
    """Settings with which it adds no noise."""
    return {"eta": 0.0} if "eta" in sampler.settings else {}


def asked(sampler: Sampler, denoise: Callable[[Tensor, float, int], Tensor]) -> Callable[..., object]:
    """The denoiser as this sampler asks it."""
    return (lambda x, sigma, step: (denoise(x, sigma, step),) * 2) if sampler.cfgpp else denoise


def last(sampler: Sampler, denoise: Callable[[Tensor, float, int], Tensor], sigmas: Sequence[float]) -> Tensor:
    return list(sampler.run(asked(sampler, denoise), START, sigmas, **quiet(sampler)))[-1].x


GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "sampling.json").read_text(encoding="utf-8"))
CHURN = {"s_churn": 2.0, "s_tmin": 0.1, "s_tmax": 5.0, "s_noise": 1.01}
NOISY = {"eta": 0.7, "s_noise": 1.02}
KARRAS = schedules.karras(SD, 6)
UNIT = START / 14


def counting() -> Noise:
    """Noise that goes by how often it was drawn, for samplers that do not say from where to where."""
    drawn = itertools.count(1)
    return lambda sigma, following: waves(next(drawn), 0)


def both(x: Tensor, sigma: float, step: int) -> tuple[Tensor, Tensor]:
    """A prompt and a negative prompt, at a cfg_scale of 7 as CFG++ means it."""
    negative = curved(x * 0.9, sigma, step)
    return classifier_free(curved(x, sigma, step), negative, 7 * CFGPP_SHARE), negative


def unit(name: str, count: int) -> tuple[Tensor, Sequence[float]]:
    """Start and noise levels of the samplers that count timesteps."""
    sigmas = SAMPLERS[name].automatic(SD, count)
    return UNIT * SAMPLERS[name].start(sigmas[0]), sigmas


def runs() -> Iterator[tuple[str, str, Callable[[], Iterator[Step]]]]:
    """Row of the page, key of the golden numbers, and the run that they are of."""
    for name in ("Euler", "Heun", "DPM2"):
        churned = partial(SAMPLERS[name].run, curved, START, KARRAS, noise=counting(), **CHURN)
        yield "Euler, Heun, DPM2", name, churned
    for name in ("LMS", "DPM++ 2M"):
        yield "LMS, DPM++ 2M", name, partial(SAMPLERS[name].run, curved, START, KARRAS)
    for row in ("Euler a, DPM2 a, DPM++ 2S a", "DPM++ SDE, 2M SDE, 2M SDE Heun, 3M SDE"):
        for name in row.replace(", 2M", ", DPM++ 2M").replace(", 3M", ", DPM++ 3M").split(", "):
            yield row, name, partial(SAMPLERS[name].run, curved, START, KARRAS, noise=waves, **NOISY)
    for count in (7, 9, 20):
        sigmas = schedules.karras(SD, count)
        fast = partial(SAMPLERS["DPM fast"].run, curved, START, sigmas, noise=waves, **NOISY)
        yield "DPM fast, DPM adaptive", f"DPM fast {count}", fast
    for eta in (0.0, 0.7):
        told = {**NOISY, "eta": eta}
        adaptive = partial(SAMPLERS["DPM adaptive"].run, curved, START, KARRAS, noise=waves, **told)
        yield "DPM fast, DPM adaptive", f"DPM adaptive {eta}", adaptive
    for count in (6, 24, 40):
        sigmas = schedules.karras(SD, count)
        restart = partial(SAMPLERS["Restart"].run, curved, START, sigmas, noise=counting(), s_noise=1.02)
        yield "Restart", f"Restart {count}", restart
    for count in (6, 10):
        x, sigmas = unit("DDIM", count)
        row = "DDIM, DDIM CFG++, PLMS"
        yield row, f"DDIM {count}", partial(SAMPLERS["DDIM"].run, curved, x, sigmas)
        yield row, f"DDIM eta .4 {count}", partial(SAMPLERS["DDIM"].run, curved, x, sigmas, eta=0.4, noise=counting())
        guided = partial(SAMPLERS["DDIM CFG++"].run, both, x, sigmas, eta=0.4, noise=counting())
        yield row, f"DDIM CFG++ {count}", guided
        yield row, f"PLMS {count}", partial(SAMPLERS["PLMS"].run, curved, x, sigmas)
        x, sigmas = unit("UniPC", count)
        for variant, order in itertools.product(("bh1", "bh2"), (2, 3)):
            told = {"unipc_variant": variant, "unipc_order": order}
            yield "UniPC", f"UniPC {variant} {order} {count}", partial(SAMPLERS["UniPC"].run, curved, x, sigmas, **told)
    x = torch.tensor([[-2.0, -0.5, 1.0, 3.0]], dtype=torch.float64)
    soft = partial(SAMPLERS["LCM"].run, lambda x, s, _: torch.tanh(x / (1 + s)), x, (3.0, 2.0, 1.0, 0.0), noise=waves)
    yield "LCM", "LCM", soft


@pytest.mark.parametrize(("row", "key", "run"), list(runs()), ids=lambda told: told if isinstance(told, str) else "")
def test_latents_are_those_of_the_other_program(row: str, key: str, run: Callable[[], Iterator[Step]]) -> None:
    """`curved`, START, Karras' levels in six steps unless told, `waves` as noise; numbers of k-diffusion and A1111."""
    *_, step = run()
    expected = GOLDEN["samplers"][key]
    tolerance = within(samplers_page.ROWS, row)
    assert step.x[0].tolist() == pytest.approx(expected, rel=tolerance, abs=tolerance)


def test_every_sampler_is_held_to_another_program_and_no_two_are_one() -> None:
    told = {key: numbers for key, numbers in GOLDEN["samplers"].items() if key in {key for _, key, _ in runs()}}
    assert {name for name in SAMPLERS if not any(key.startswith(name) for key in told)} == set()
    ends = {tuple(round(number, 4) for number in numbers) for numbers in told.values()}
    assert len(ends) == len(told), "the numbers tell samplers and settings apart by more than the tolerance"


def bent(x: Tensor, sigma: float, step: int) -> Tensor:
    """A denoiser for flow that no sampler solves exactly."""
    return torch.tanh(flow_gaussian(0.7, 0.5)(x, sigma, step) * 1.5 + 0.3 * x)


@pytest.mark.parametrize("name", GOLDEN["flow"])
def test_flow_latents_are_those_of_comfyui(name: str) -> None:
    """From -2, -0.5, 1 and 3 in six steps of shift 3; its DPM2 a was given no 0 at the end."""
    x = torch.tensor([[-2.0, -0.5, 1.0, 3.0]], dtype=torch.float64)
    told = {key: value for key, value in NOISY.items() if key in SAMPLERS[name].settings}
    sampler, schedule = resolve(name, "Automatic", Objective.flow(3.0), told=told)
    sigmas = schedules.uniform(Objective.flow(3.0), 6)[:-1] if name == "DPM2 a" else schedule(Objective.flow(3.0), 6)
    if name == "DPM++ 3M SDE":
        sigmas = (sigmas[0], *schedules.uniform(Objective.flow(3.0), 6)[1:])  # theirs is not told to skip one
    *_, step = sampler.run(bent, x, sigmas, noise=waves)
    tolerance = max(row.within or 0 for row in samplers_page.ROWS if row.peer == samplers_page.COMFYUI)
    assert step.x[0].tolist() == pytest.approx(GOLDEN["flow"][name], rel=tolerance)
    *_, other = SAMPLERS[name].run(bent, x, sigmas, noise=waves, **told)
    assert float((other.x - step.x).abs().max()) > 1e-3, "the form for epsilon and v is another"


@pytest.mark.parametrize("schedule", GOLDEN["seven steps"])
def test_samplers_are_those_of_k_diffusion_on_every_kind_of_schedule(schedule: str) -> None:
    """`curved`, START, `waves`, eta 1; Karras' levels lie far apart at first, DDIM's never reach the highest."""
    numbers = dict(GOLDEN["seven steps"][schedule])
    sigmas = numbers.pop("sigmas")
    assert schedules.SCHEDULES[schedule](SD, 7) == pytest.approx(sigmas, rel=1e-6)
    reached = {}
    for name, expected in numbers.items():
        *_, ours = SAMPLERS[name].run(curved, START, sigmas, noise=waves)
        reached[name] = ours.x[0]
        assert reached[name].tolist() == pytest.approx(expected, rel=1e-10, abs=1e-10), name
    for one, other in itertools.combinations(reached.values(), 2):
        assert float((one - other).abs().max()) > 1e-4, "the numbers tell samplers apart"


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
    *_, step = sampler.run(asked(sampler, curved), START.to(dtype), sigmas, noise=lambda *_: START.to(dtype) * 0)
    assert step.x.dtype == dtype
    if sampler.name not in ("LMS", "PLMS", "DPM fast", "DPM adaptive"):  # these end on a slope, or above 0
        assert torch.equal(step.x, step.denoised)


@EVERY
def test_a_picture_known_for_sure_is_reached_by_every_sampler(sampler: Sampler) -> None:
    picture = torch.tensor([[0.1, -0.2, 0.3, 0.4]], dtype=torch.float64)
    denoise = asked(sampler, lambda x, sigma, step: picture)
    *_, step = sampler.run(denoise, START, schedules.uniform(SD, 5), noise=waves)
    torch.testing.assert_close(step.denoised, picture, rtol=0, atol=1e-12)
    ends_above_0 = sampler.name in ("DPM fast", "DPM adaptive")
    torch.testing.assert_close(step.x, picture, rtol=0, atol=0.1 if ends_above_0 else 1e-12)


def exact_end(mean: float, spread: float, sigma: float) -> Tensor:
    """Where dx/dsigma = (x - denoised) / sigma leads from START, for `gaussian`."""
    return mean + (START - mean) * spread / math.sqrt(spread**2 + sigma**2)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        *((name, 1) for name in ("Euler", "Euler a", "DDIM")),
        *((name, 2) for name in ("Heun", "DPM2", "DPM2 a", "DPM++ 2S a", "DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE")),
        ("DPM++ 3M SDE", 2),  # its first step is of first order, and UniPC's first and last
        ("UniPC", 2),
    ],
)
def test_halving_the_steps_shrinks_the_error_by_the_samplers_order(name: str, order: int) -> None:
    """Down to sigma 0.5, where the ODE is smooth; a wrong coefficient shows as a lower order."""
    mean, spread, top, bottom = 0.7, 0.5, 4.0, 0.5
    exact = mean + (START - mean) * math.sqrt((spread**2 + bottom**2) / (spread**2 + top**2))
    errors = []
    for count in (40, 80):
        sigmas = [top * (bottom / top) ** (index / count) for index in range(count + 1)]
        reached = last(SAMPLERS[name], gaussian(mean, spread), sigmas)
        reached = reached * SAMPLERS[name].start(bottom) if SAMPLERS[name].unit_start else reached
        errors.append((reached - exact).abs().max().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


@EVERY
def test_many_steps_reach_the_exact_solution(sampler: Sampler) -> None:
    if sampler.name in ("LCM", "Restart"):
        return  # they always draw noise, see below
    sigmas = schedules.karras(SD, 300)
    reached = last(sampler, gaussian(0.7, 0.5), sigmas)
    torch.testing.assert_close(reached, exact_end(0.7, 0.5, sigmas[0]), rtol=0, atol=0.05)


@pytest.mark.parametrize("sampler", [one for one in SAMPLERS.values() if one.noise != "none" or one.name == "Heun"])
def test_noise_keeps_the_spread_of_the_data(sampler: Sampler) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (20000,)
    sigmas = schedules.karras(SD, 60)
    start = torch.randn(shape, generator=generator) * sampler.start(sigmas[0])
    told = {"eta": 1.0} if "eta" in sampler.settings else {}
    clean = 0.0 if sampler.name == "LCM" else 0.5  # it jumps to what is likeliest, so it knows single pictures only
    denoise = asked(sampler, gaussian(0.7, clean))
    *_, step = sampler.run(denoise, start, sigmas, noise=lambda *_: torch.randn(shape, generator=generator), **told)
    assert step.x.mean().item() == pytest.approx(0.7, abs=0.05)
    assert step.x.std().item() == pytest.approx(clean, abs=0.06)


@pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if sampler.flow])
def test_flow_models_are_solved_too(name: str) -> None:
    mean, spread = 0.7, 0.5
    sigmas = schedules.uniform(Objective.flow(3.0), 200)
    x = torch.tensor([-2.0, -0.5, 1.0, 3.0], dtype=torch.float64)
    sampler, _ = resolve(name, "Automatic", Objective.flow(3.0))
    if name == "LCM":
        return  # it always draws noise
    sigmas = (min(sigmas[0], 0.9999), *sigmas[1:]) if sampler.noise == "path" else sigmas
    *_, step = sampler.run(flow_gaussian(mean, spread), x, sigmas, **quiet(sampler))
    torch.testing.assert_close(step.x, mean + spread * x, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    "name", [name for name, sampler in SAMPLERS.items() if sampler.flow and sampler.noise != "none"]
)
def test_noise_keeps_the_spread_of_the_data_for_flow_too(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    sampler, schedule = resolve(name, "Automatic", Objective.flow(3.0))
    start = torch.randn((20000,), generator=generator)
    spread = 0.0 if name == "LCM" else 0.5
    noise = lambda *_: torch.randn((20000,), generator=generator)  # noqa: E731
    *_, step = sampler.run(flow_gaussian(0.7, spread), start, schedule(Objective.flow(3.0), 100), noise=noise)
    assert step.x.mean().item() == pytest.approx(0.7, abs=0.05)
    assert step.x.std().item() == pytest.approx(spread, abs=0.05)


def test_an_ancestral_step_adds_up_to_the_following_noise_level() -> None:
    down, up = ancestral_step(5.0, 3.0, 0.8)
    assert math.hypot(down, up) == pytest.approx(3.0)
    assert ancestral_step(5.0, 3.0, 0.0) == (3.0, 0.0)
    assert ancestral_step(5.0, 0.0, 1.0) == (0.0, 0.0)


@EVERY
def test_steps_come_one_at_a_time_and_can_be_stopped(sampler: Sampler) -> None:
    told: list[int] = []

    def denoise(x: Tensor, sigma: float, step: int) -> Tensor:
        told.append(step)
        return x / 2

    sigmas = [3.0, 2.0, 1.0, 0.0]
    steps = sampler.run(asked(sampler, denoise), START, sigmas, noise=waves)
    assert told == []
    assert next(steps).index == 0
    assert set(told) <= {0, 1} if sampler.name == "UniPC" else set(told) == {0}  # its corrector has seen the next
    rest = [step.index for step in steps]
    if sampler.name != "DPM adaptive":
        assert rest == list(range(1, sampler.steps(sigmas)))
    if sampler.name not in ("DPM fast", "DPM adaptive", "PLMS"):
        assert len(told) == 3 * sampler.evaluations - (sampler.evaluations - 1)


@pytest.mark.parametrize("sigmas", [[], [1.0], [1.0, 1.0, 0.0], [1.0, 2.0], [1.0, -1.0]])
def test_noise_levels_that_do_not_fall_are_refused(sigmas: list[float]) -> None:
    for sampler in (sample_euler, sample_heun, sample_dpmpp_2m):
        with pytest.raises(ValueError, match="falling noise levels"):
            next(sampler(curved, START, sigmas))


def test_ancestral_sampling_without_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="draws noise"):
        next(sample_euler_ancestral(curved, START, [1.0, 0.0]))


def test_automatic_is_what_it_is_in_a1111() -> None:
    named = {
        schedules.karras: ("DPM++ 2M", "DPM++ SDE", "DPM++ 2S a", "DPM2", "DPM2 a", "Restart"),
        schedules.exponential: ("DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"),
        schedules.uniform: ("Euler a", "Euler", "LMS", "Heun", "DPM fast", "DPM adaptive"),
        schedules.ddim_timesteps: ("DDIM", "DDIM CFG++", "PLMS"),
        schedules.unipc_timesteps: ("UniPC",),
        schedules.lcm_timesteps: ("LCM",),
    }
    assert {name for names in named.values() for name in names} == set(SAMPLERS)
    for schedule, names in named.items():
        for name in names:
            sampler, levels = resolve(name, "Automatic", SD)
            skips = sampler.skips_penultimate
            expected = schedule(SD, 10 + skips)
            assert levels(SD, 10) == ((*expected[:-2], expected[-1]) if skips else expected)
    assert {name for name, one in SAMPLERS.items() if one.skips_penultimate} == {"DPM2", "DPM2 a", "DPM++ 3M SDE"}
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


@pytest.mark.parametrize("name", ["DDIM", "DDIM CFG++", "PLMS", "DPM fast", "DPM adaptive", "Restart"])
def test_samplers_without_a_form_for_flow_refuse_it(name: str) -> None:
    with pytest.raises(SettingsError, match="does not fit a flow model"):
        resolve(name, "Automatic", Objective.flow())


@pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if sampler.flow])
def test_flow_starts_from_noise_alone_and_ends_unscaled(name: str) -> None:
    sampler, _ = resolve(name, "Automatic", Objective.flow())
    assert sampler.start(1.0) == 1.0
    picture = torch.tensor([[0.1, -0.2, 0.3, 0.4]], dtype=torch.float64)
    sigmas = (0.99, 0.5, 0.25)
    noise = {"noise": lambda *_: picture * 0, **quiet(sampler)}
    *_, step = sampler.run(lambda x, sigma, step: picture, picture * (1 - sigmas[0]), sigmas, **noise)
    torch.testing.assert_close(step.x, picture * (1 - sigmas[-1]))


def test_ddim_starts_from_unit_noise_and_the_others_from_sigma_alone() -> None:
    assert SAMPLERS["DDIM"].start(3.0) == pytest.approx(math.sqrt(10.0))
    assert SAMPLERS["Euler"].start(3.0) == 3.0


def test_a_setting_reaches_the_sampler_or_the_schedule_that_takes_it() -> None:
    sampler, schedule = resolve("Euler a", "Karras", SD, told={"eta": 0.0, "rho": 5.0, "sigma_max": 10.0})
    assert schedule(SD, 6) == schedules.karras(SD, 6, rho=5.0, sigma_max=10.0)
    *_, step = sampler.run(curved, START, KARRAS)
    *_, euler = SAMPLERS["Euler"].run(curved, START, KARRAS)
    assert torch.equal(step.x, euler.x)


@pytest.mark.parametrize(
    ("sampler", "schedule", "setting"),
    [
        ("Euler", "Karras", "eta"),
        ("Euler a", "Karras", "s_churn"),
        ("Euler", "Uniform", "rho"),
        ("Euler", "Simple", "sigma_min"),
        ("LCM", "Automatic", "s_noise"),
        ("Euler", "Karras", "unipc_order"),
    ],
)
def test_a_setting_that_neither_can_honour_is_refused_with_those_that_can(
    sampler: str, schedule: str, setting: str
) -> None:
    with pytest.raises(SettingsError, match=f"takes {setting}") as refusal:
        resolve(sampler, schedule, SD, told={setting: 1.0})
    assert "it is for" in str(refusal.value.fix)


@pytest.mark.parametrize("name", ["Restart", "DPM fast", "DPM adaptive"])
def test_samplers_with_noise_levels_of_their_own_refuse_another_schedule(name: str) -> None:
    with pytest.raises(SettingsError, match="makes its own noise levels"):
        resolve(name, "Simple", SD)
    resolve(name, "Automatic", SD)


def test_aligned_steps_are_those_of_the_base_or_refused() -> None:
    for family in ("sd15", "sdxl"):
        _, schedule = resolve("Euler", "Align Your Steps", SD, family=family)
        assert schedule(SD, 11)[1] == schedules.ALIGNED["Align Your Steps"][family][1]
    for objective, family in ((Objective.flow(), "sd15"), (SD, "something else")):
        with pytest.raises(SettingsError, match="made for Stable Diffusion"):
            resolve("Euler", "Align Your Steps", objective, family=family)


def test_noise_levels_the_wrong_way_round_are_refused() -> None:
    _, schedule = resolve("Euler", "Karras", SD, told={"sigma_min": 20.0})
    with pytest.raises(SettingsError, match="cannot be sampled"):
        schedule(SD, 6)
