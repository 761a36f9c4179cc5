"""What is told of sampler, noise and guidance reaches the picture, and what has no part in it is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from velatura.diffusion import schedules
from velatura.diffusion.samplers import SAMPLERS
from velatura.errors import RecipeError, SettingsError
from velatura.events import Progress
from velatura.family import Defaults, Model
from velatura.generation import tuned
from velatura.generation.generate import Painted, generate
from velatura.generation.sampling import Job, Sampling, check_negative
from velatura.recipe import TuningSettings, with_tuning

QUICK = Sampling(64, 64, steps=3, cfg_scale=4.0, sampler="Euler", scheduler="Uniform")
JOB = Job("a red boat", 3, "a cat")


def told(sampler: str = "Euler", **tuning: object) -> Sampling:
    return replace(QUICK, sampler=sampler, tuning=TuningSettings(**tuning))  # type: ignore[arg-type]


def paint(model: Model, sampling: Sampling, jobs: Sequence[Job] = (JOB,), batch: int = 4) -> list[np.ndarray]:
    events = generate(model, jobs, sampling, batch=batch)
    return [np.asarray(event.image, np.float32) for event in events if isinstance(event, Painted)]


@contextmanager
def asked(model: Model) -> Iterator[list[int]]:
    """How many rows each call of the denoiser was given."""
    calls: list[int] = []
    handle = model.parts["denoiser"].register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
    yield calls
    handle.remove()


def a1111(count: int, total: int, sigmas: Sequence[float], early: float, below: float, every: bool) -> list[int]:
    """Rows of each call: its condition, written out as it counts."""
    rows = []
    for call in range(count):
        skipped = early != 0 and call / total <= early
        skipped = skipped or ((call % 2 == 1 or every) and below > 0 and sigmas[call] < below)
        rows.append(1 if skipped else 2)
    return rows


@pytest.mark.parametrize(
    ("early", "below", "every"), [(0.2, 0.0, False), (0.0, 3.0, False), (0.0, 3.0, True), (0.25, 1.0, False)]
)
def test_guidance_is_left_out_where_a1111_leaves_it_out(model: Model, early: float, below: float, every: bool) -> None:
    steps = 10
    sampling = told(skip_early_cfg=early, s_min_uncond=below, s_min_uncond_all=every and below > 0)
    with asked(model) as calls:
        paint(model, replace(sampling, steps=steps))
    sigmas = schedules.uniform(model.objective_for(8, 8), steps)
    assert calls == a1111(steps, steps, sigmas, early, below, every)
    assert set(calls) == {1, 2}


def test_heun_is_counted_by_its_calls_as_in_a1111(model: Model) -> None:
    with asked(model) as calls:
        paint(model, replace(told("Heun", skip_early_cfg=0.5), steps=4))
    assert calls == a1111(7, 8, [1.0] * 7, 0.5, 0.0, False)


@pytest.mark.parametrize(
    ("sampler", "tuning"),
    [
        ("Euler a", {"eta": 0.3}),
        ("Euler", {"s_churn": 3.0}),
        ("Euler", {"cfg_rescale": 0.7}),
        ("Euler a", {"ensd": 31337}),
        ("Euler", {"rng": "nv"}),
        ("Euler", {"seed_resize_from": "32x96"}),
        ("DPM++ 2M SDE", {"rng": "nv"}),
        ("UniPC", {"unipc_order": 1}),
    ],
)
def test_what_is_told_changes_the_picture(model: Model, sampler: str, tuning: dict[str, object]) -> None:
    (plain,), (changed,) = paint(model, told(sampler)), paint(model, told(sampler, **tuning))
    assert np.abs(plain - changed).max() > 1


def test_without_eta_euler_a_is_euler(model: Model) -> None:
    (plain,), (quiet,) = paint(model, told("Euler")), paint(model, told("Euler a", eta=0.0))
    assert np.abs(plain - quiet).max() <= 1


def test_variations_lie_between_two_seeds(model: Model) -> None:
    jobs = [Job("a boat", 1), Job("a boat", 1, "", 2, 0.4), Job("a boat", 1, "", 2, 1.0), Job("a boat", 2)]
    own, between, all_of_it, other = paint(model, QUICK, jobs)
    assert np.abs(all_of_it - other).max() <= 1
    assert np.abs(between - own).mean() < np.abs(other - own).mean()
    assert np.abs(between - own).max() > 1


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name not in ("Euler", "Heun", "DPM++ 2M", "DDIM")])
def test_every_sampler_paints_and_the_batch_changes_nothing(model: Model, sampler: str) -> None:
    sampling = replace(told(sampler), scheduler="Automatic", steps=4)
    jobs = [Job("a boat", 1), Job("a house", 2)]
    together, alone = paint(model, sampling, jobs, batch=2), paint(model, sampling, jobs, batch=1)
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one - other).max() <= 1
    assert np.abs(together[0] - together[1]).max() > 1


def test_one_path_for_a_batch_makes_the_batch_matter(model: Model) -> None:
    sampling = replace(told("DPM++ 2M SDE", one_path=True), steps=4)
    jobs = [Job("a boat", 1), Job("a boat", 2)]
    together, alone = paint(model, sampling, jobs, batch=2), paint(model, sampling, jobs, batch=1)
    assert np.abs(together[0] - alone[0]).max() > 1


@pytest.mark.parametrize("sampler", ["DPM fast", "DPM adaptive", "Restart"])
def test_progress_ends_at_its_total_whatever_the_steps(model: Model, sampler: str) -> None:
    sampling = replace(told(sampler), scheduler="Automatic", steps=7)
    events = [event for event in generate(model, [JOB, JOB], sampling) if isinstance(event, Progress)]
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert events[-1].done <= events[-1].total
    assert sampler == "DPM adaptive" or events[-1].done == events[-1].total


@pytest.mark.parametrize("name", ["cfg_rescale", "skip_early_cfg", "s_min_uncond"])
def test_settings_of_guidance_without_guidance_are_refused(model: Model, name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} needs guidance"):
        next(generate(model, [JOB], replace(told(**{name: 0.5}), cfg_scale=1.0)))


def test_a_negative_prompt_without_guidance_is_refused() -> None:
    with pytest.raises(SettingsError, match="negative prompt has no part"):
        check_negative("a cat", replace(QUICK, cfg_scale=1.0))
    check_negative(" ", replace(QUICK, cfg_scale=1.0))
    check_negative("a cat", QUICK)
    check_negative("a cat", replace(QUICK, cfg_scale=1.0, sampler="DDIM CFG++"))


def test_a_setting_that_nothing_takes_is_refused(model: Model) -> None:
    with pytest.raises(SettingsError, match="neither the sampler 'Euler' nor its schedule takes eta"):
        next(generate(model, [JOB], told(eta=0.5)))
    with pytest.raises(RecipeError, match=r"unknown setting cfg_rescal .*did you mean cfg_rescale"):
        with_tuning(["cfg_rescal=0.5"])


@pytest.mark.parametrize("job", [Job("", 1, "", 1, 1.5), Job("", 1, "", -1, 0.5)])
def test_variations_that_there_are_not_are_refused(model: Model, job: Job) -> None:
    with pytest.raises(SettingsError):
        next(generate(model, [job], QUICK))


def test_settings_have_a1111_s_names_in_the_infotext_and_are_read_back() -> None:
    tuning = with_tuning(
        ["eta=0.5", "s_noise=1.01", "rho=5", "ensd=31337", "rng=nv", "s_min_uncond=1.5", "s_min_uncond_all=true"]
    )
    words = tuned.words(tuning, "Euler a")
    assert words == {
        "Eta": "0.5",
        "Sigma noise": "1.01",
        "Schedule rho": "5",
        "ENSD": 31337,
        "NGMS": "1.5",
        "NGMS all steps": True,
        "RNG": "NV",
    }
    assert with_tuning(tuned.overrides({name: str(value) for name, value in words.items()})) == tuning
    assert tuned.words(with_tuning(["eta=0.5"]), "DDIM") == {"Eta DDIM": "0.5", "RNG": "CPU"}
    assert with_tuning(tuned.overrides({"Eta DDIM": "0.5", "Steps": "20"})) == with_tuning(["eta=0.5", "rng=gpu"])
    assert set(tuned.NAMES) == set(TuningSettings.model_fields) - {"rng", "one_path"}


def test_another_sampler_than_the_base_s_brings_its_own_schedule() -> None:
    own = Defaults(sampler="DPM++ 2M", scheduler="Karras")
    assert own.how(None, None) == ("DPM++ 2M", "Karras")
    assert own.how("DPM++ 2M", None) == ("DPM++ 2M", "Karras")
    assert own.how("DDIM", None) == ("DDIM", "Automatic")
    assert own.how(None, "Simple") == ("DPM++ 2M", "Simple")
    assert own.how("DPM++ 2M SDE Exponential", None) == ("DPM++ 2M SDE Exponential", "Automatic")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_step_paints_or_is_refused(model: Model, sampler: str) -> None:
    sampling = replace(told(sampler), scheduler="Automatic", steps=1)
    if SAMPLERS[sampler].ends_above_0:
        with pytest.raises(SettingsError, match="too few for the sampler"):
            next(generate(model, [JOB], sampling))
    else:
        assert len(paint(model, sampling)) == 1
