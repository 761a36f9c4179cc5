"""Schedules against numbers of k-diffusion and against diffusers' schedulers."""

from __future__ import annotations

import json
from itertools import combinations, pairwise
from pathlib import Path

import pytest
import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from tests.parity import schedules as page
from tests.parity import within
from velatura.diffusion import schedules
from velatura.diffusion.objective import Objective
from velatura.diffusion.schedules import SCHEDULES, Schedule
from velatura.errors import SettingsError

torch.set_num_threads(1)

SD = Objective.from_betas()
# diffusers turns its tables into arrays in a way that numpy 2 warns about
NUMPY_WARNING = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "sampling.json").read_text(encoding="utf-8"))["schedules"]
FROM_THE_TOP = {name: one for name, one in SCHEDULES.items() if name not in ("DDIM", "KL Optimal", "Beta ComfyUI")}
ALIGNED = [SCHEDULES[name] for name in schedules.ALIGNED]
TOLD = {
    "Karras told": {"rho": 5.0, "sigma_min": 0.1, "sigma_max": 10.0},
    "Polyexponential told": {"rho": 2.0, "sigma_min": 0.1, "sigma_max": 10.0},
    "Beta shaped": {"beta_alpha": 0.4, "beta_beta": 0.9},
}


def ours(key: str) -> schedules.Sigmas:
    """The noise levels that a key of the golden numbers is of."""
    name, _, which = key.rpartition(" ")
    if which in ("told", "shaped"):
        return SCHEDULES[name](SD, 6, **TOLD.get(key, {"sigma_min": 0.1, "sigma_max": 10.0}))
    if name == "LCM":
        return schedules.lcm_timesteps(SD, int(which))
    if name.endswith(" sdxl"):
        return schedules.aligned(schedules.ALIGNED[name.removesuffix(" sdxl")]["sdxl"], SD, int(which))
    return SCHEDULES[name](SD, int(which))


@pytest.mark.parametrize("key", GOLDEN)
def test_sigmas_are_those_of_the_other_program(key: str) -> None:
    tolerance = within(page.ROWS, "Uniform, Normal, Karras, Exponential, Polyexponential, SGM Uniform")
    assert {row.within for row in page.ROWS if row.test == page.GOLDEN} == {tolerance}
    assert ours(key) == pytest.approx(GOLDEN[key], rel=tolerance)


def test_every_schedule_is_held_to_another_program_and_no_two_are_one() -> None:
    twenty = {name: GOLDEN[f"{name} 20"] for name in SCHEDULES}
    twins = {"Normal": "Uniform", "Polyexponential": "Exponential", "Align Your Steps 11": "Align Your Steps"}
    for (name, one), (other, another) in combinations(twenty.items(), 2):
        same = twins.get(other) == name or twins.get(name) == other or {name, other} == {"Simple", "Turbo"}
        assert (one == pytest.approx(another, rel=2e-4)) == same, f"{name} and {other}"


@NUMPY_WARNING
@pytest.mark.parametrize(
    ("name", "spacing", "options"),
    [
        ("Uniform", "linspace", {}),
        ("Karras", "linspace", {"use_karras_sigmas": True}),
        ("Exponential", "linspace", {"use_exponential_sigmas": True}),
        ("Simple", "trailing", {}),
    ],
)
def test_sigmas_are_those_of_diffusers(name: str, spacing: str, options: dict[str, bool]) -> None:
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing=spacing, **options
    )
    scheduler.set_timesteps(20)
    # its table is float32, and Uniform it interpolates in sigma rather than in its logarithm
    tolerance = 1e-4 if name == "Uniform" else 5e-5
    assert SCHEDULES[name](SD, 20) == pytest.approx(scheduler.sigmas.tolist(), rel=tolerance)


@pytest.mark.parametrize("schedule", FROM_THE_TOP.values(), ids=FROM_THE_TOP.keys())
@pytest.mark.parametrize("objective", [SD, Objective.flow(3.0)], ids=["epsilon", "flow"])
@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_every_schedule_falls_from_the_top_to_zero(schedule: Schedule, objective: Objective, count: int) -> None:
    sigmas = schedule(objective, count)
    assert len(sigmas) == count + 1
    if schedule not in ALIGNED:
        assert sigmas[0] == pytest.approx(objective.sigma_max, rel=1e-12)
    assert sigmas[-1] == 0
    assert all(sigma > following for sigma, following in pairwise(sigmas))


@pytest.mark.parametrize("name", ["Uniform", "Karras", "Normal", "Simple", "SGM Uniform"])
def test_zero_terminal_snr_starts_from_its_own_sigma(name: str) -> None:
    objective = Objective.from_betas("v", zero_terminal_snr=True)
    assert SCHEDULES[name](objective, 20)[0] == pytest.approx(objective.sigma_max)


def test_the_table_rows_a_schedule_visits_are_exact() -> None:
    visited = torch.tensor(schedules.simple(SD, 10)[:-1])
    assert SD.timestep(visited).tolist() == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]


def test_ddim_visits_every_so_many_th_row_from_the_second_on() -> None:
    def rows(count: int) -> list[float]:
        visited = SD.timestep(torch.tensor(schedules.ddim(SD, count)[:-1]))
        assert visited.tolist() == sorted(visited.tolist(), reverse=True)
        return [float(row) for row in visited]

    assert rows(10) == [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]
    # A1111 goes on while there are rows: 1000 // 6 is 166, and 1 + 6 * 166 is still below 1000
    assert rows(6) == [997, 831, 665, 499, 333, 167, 1]
    assert rows(1) == [1]
    assert len(rows(5000)) == 999
    assert schedules.ddim(SD, 10)[-1] == 0


def test_flow_steps_are_those_of_flow_pipelines() -> None:
    count = 6
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=[1 - step / count for step in range(count)])
    assert schedules.uniform(Objective.flow(3.0), count) == pytest.approx(scheduler.sigmas.tolist(), rel=1e-6)
    assert schedules.simple(Objective.flow(3.0), 5) == pytest.approx(schedules.uniform(Objective.flow(3.0), 5))


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_no_steps_at_all_are_refused(schedule: Schedule) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        schedule(SD, 0)


def test_simple_cannot_visit_more_rows_than_there_are() -> None:
    with pytest.raises(SettingsError, match="1000 noise levels"):
        schedules.simple(SD, 1001)
