"""The samplers by A1111's names, what is to be known about each, and what a user's words for them mean."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal

from velatura.diffusion import schedules
from velatura.diffusion.objective import FLOW_STEPS, Objective
from velatura.diffusion.samplers.dpm_solver import fast_orders, sample_dpm_adaptive, sample_dpm_fast
from velatura.diffusion.samplers.multistep import sample_dpmpp_2m, sample_lms, sample_plms
from velatura.diffusion.samplers.restart import sample_restart
from velatura.diffusion.samplers.sde import sample_dpmpp_2m_sde, sample_dpmpp_3m_sde, sample_dpmpp_sde
from velatura.diffusion.samplers.single_step import (
    sample_ddim,
    sample_ddim_cfgpp,
    sample_dpm_2,
    sample_dpm_2_ancestral,
    sample_dpm_2_ancestral_flow,
    sample_dpmpp_2s_ancestral,
    sample_dpmpp_2s_ancestral_flow,
    sample_euler,
    sample_euler_ancestral,
    sample_euler_ancestral_flow,
    sample_heun,
    sample_lcm,
    sample_lcm_flow,
)
from velatura.diffusion.samplers.step import Sample
from velatura.diffusion.samplers.unipc import sample_unipc
from velatura.diffusion.schedules import SCHEDULES, Schedule
from velatura.errors import SettingsError, nearest

SETTINGS = ("eta", "s_churn", "s_tmin", "s_tmax", "s_noise", "unipc_order", "unipc_variant")
"""What samplers can be told; each takes those that are in its signature."""

CFGPP_SHARE = 1 / 12.5
"""CFG++ counts its scale from 0 to 1; A1111 makes that of 0 to 12.5."""

NEARLY_PURE = 1e-4
"""How far below pure noise samplers begin that need the signal-to-noise ratio, as a share of flow's time."""


@dataclass(frozen=True)
class Sampler:
    """A sampler and what is to be known about it."""

    name: str
    run: Sample
    flow: Sample | None
    """Its form for flow objectives; None: it has none."""
    automatic: Schedule = schedules.uniform
    """What the schedule "Automatic" means for it."""
    evaluations: int = 1
    """Calls of the denoiser for one step."""
    noise: Literal["none", "fresh", "path"] = "none"
    """What it adds after the start: nothing, fresh noise at each step, or noise of one Brownian path."""
    skips_penultimate: bool = False
    """The lowest noise level above 0 is left out, and one more asked for in its place."""
    unit_start: bool = False
    """It starts from noise of variance 1 + sigma^2, as if there were data in it; the others from sigma^2."""
    own_schedule: bool = False
    """It makes its own noise levels from the ends of those it is given, so no other schedule can be chosen."""
    ends_above_0: bool = False
    """Its way ends at the last noise level above 0, so there have to be two."""
    alone: bool = False
    """What it does depends on all of its latents, so pictures go through it one at a time."""
    cfgpp: bool = False
    """Its denoiser gives the answer to the negative prompt too, and cfg_scale means less to it."""
    steps: Callable[[Sequence[float]], int] = lambda sigmas: len(sigmas) - 1
    """How many steps it takes for these noise levels; an adaptive one takes what it needs."""

    def start(self, sigma: float) -> float:
        """What unit noise is multiplied by to start from, for epsilon and v."""
        return math.sqrt(1 + sigma**2) if self.unit_start else sigma

    @cached_property
    def settings(self) -> tuple[str, ...]:
        """Those that it can honour."""
        return tuple(name for name in SETTINGS if name in inspect.signature(self.run).parameters)


SAMPLERS: dict[str, Sampler] = {
    sampler.name: sampler
    for sampler in (
        Sampler("DPM++ 2M", sample_dpmpp_2m, sample_dpmpp_2m, schedules.karras),
        Sampler(
            "DPM++ SDE",
            sample_dpmpp_sde,
            partial(sample_dpmpp_sde, flow=True),
            schedules.karras,
            evaluations=2,
            noise="path",
        ),
        Sampler(
            "DPM++ 2M SDE",
            sample_dpmpp_2m_sde,
            partial(sample_dpmpp_2m_sde, flow=True),
            schedules.exponential,
            noise="path",
        ),
        Sampler(
            "DPM++ 2M SDE Heun",
            partial(sample_dpmpp_2m_sde, solver="heun"),
            partial(sample_dpmpp_2m_sde, solver="heun", flow=True),
            schedules.exponential,
            noise="path",
        ),
        Sampler(
            "DPM++ 2S a",
            sample_dpmpp_2s_ancestral,
            sample_dpmpp_2s_ancestral_flow,
            schedules.karras,
            evaluations=2,
            noise="fresh",
        ),
        Sampler(
            "DPM++ 3M SDE",
            sample_dpmpp_3m_sde,
            partial(sample_dpmpp_3m_sde, flow=True),
            schedules.exponential,
            noise="path",
            skips_penultimate=True,
        ),
        Sampler("Euler a", sample_euler_ancestral, sample_euler_ancestral_flow, noise="fresh"),
        Sampler("Euler", sample_euler, sample_euler),
        Sampler("LMS", sample_lms, sample_lms),
        Sampler("Heun", sample_heun, sample_heun, evaluations=2),
        Sampler("DPM2", sample_dpm_2, sample_dpm_2, schedules.karras, evaluations=2, skips_penultimate=True),
        Sampler(
            "DPM2 a",
            sample_dpm_2_ancestral,
            sample_dpm_2_ancestral_flow,
            schedules.karras,
            evaluations=2,
            noise="fresh",
            skips_penultimate=True,
        ),
        Sampler(
            "DPM fast",
            sample_dpm_fast,
            None,
            noise="fresh",
            own_schedule=True,
            ends_above_0=True,
            steps=lambda sigmas: len(fast_orders(len(sigmas) - 1)),
        ),
        Sampler(
            "DPM adaptive", sample_dpm_adaptive, None, noise="fresh", own_schedule=True, ends_above_0=True, alone=True
        ),
        Sampler("Restart", sample_restart, None, schedules.karras, evaluations=2, noise="fresh", own_schedule=True),
        Sampler("DDIM", sample_ddim, None, schedules.ddim_timesteps, noise="fresh", unit_start=True, ends_above_0=True),
        Sampler(
            "DDIM CFG++",
            sample_ddim_cfgpp,
            None,
            schedules.ddim_timesteps,
            noise="fresh",
            unit_start=True,
            ends_above_0=True,
            cfgpp=True,
        ),
        Sampler("PLMS", sample_plms, None, schedules.ddim_timesteps, unit_start=True, ends_above_0=True),
        Sampler("UniPC", sample_unipc, partial(sample_unipc, flow=True), schedules.unipc_timesteps, unit_start=True),
        Sampler("LCM", sample_lcm, sample_lcm_flow, schedules.lcm_timesteps, noise="fresh"),
    )
}
"""By A1111's names, in its order."""


def resolve(
    sampler: str,
    schedule: str,
    objective: Objective,
    *,
    family: str = "sd15",
    told: Mapping[str, float | str] | None = None,
    strict: bool = True,
) -> tuple[Sampler, Schedule]:
    """The sampler and the schedule that two names mean for one objective, with what they are told bound to them.

    "Automatic" is the sampler's own schedule, and `uniform` for flow. A1111's older names that end
    in the schedule ("DPM++ 2M Karras") are understood.

    Args:
        sampler, schedule: A1111's names.
        objective: what the base predicts.
        family: of the base; some schedules are made for one.
        told: settings of sampler and schedule by name, those of `SETTINGS` and `schedules.SETTINGS`.
        strict: refuse those that neither can honour, rather than leave them out.

    Raises:
        SettingsError: an unknown name, a sampler or schedule that is wrong for the base, or a setting that neither
            can honour.
    """
    if sampler not in SAMPLERS:
        for suffix in SCHEDULES:
            if sampler.removesuffix(f" {suffix}") in SAMPLERS and schedule in ("Automatic", suffix):
                sampler, schedule = sampler.removesuffix(f" {suffix}"), suffix
    if sampler not in SAMPLERS:
        raise SettingsError(f"there is no sampler {sampler!r}", fix=_known(sampler, list(SAMPLERS)))
    found = SAMPLERS[sampler]
    levels = _schedule(found, schedule, objective, family)
    if objective.kind == "flow":
        if found.flow is None:
            fitting = ", ".join(name for name, other in SAMPLERS.items() if other.flow)
            raise SettingsError(f"the sampler {sampler!r} does not fit a flow model", fix=f"use one of {fitting}")
        if found.noise == "path":
            levels = partial(_below_pure_noise, levels)
        if found.flow is not found.run:
            found = replace(found, run=found.flow, unit_start=False)
    return _told(found, levels, told or {}, strict=strict)


def _schedule(sampler: Sampler, name: str, objective: Objective, family: str) -> Schedule:
    flow = objective.kind == "flow"
    if name == "Automatic":
        return schedules.uniform if flow else sampler.automatic
    if name not in SCHEDULES:
        raise SettingsError(f"there is no schedule {name!r}", fix=_known(name, ["Automatic", *SCHEDULES]))
    found = SCHEDULES[name]
    if sampler.own_schedule and found is not sampler.automatic:
        raise SettingsError(f"the sampler {sampler.name!r} makes its own noise levels", fix="use --scheduler Automatic")
    if name in schedules.ALIGNED:
        tables = schedules.ALIGNED[name]
        if flow or family not in tables:
            raise SettingsError(
                f"the schedule {name!r} is made for Stable Diffusion 1.5 and SDXL", fix="use --scheduler Automatic"
            )
        return partial(schedules.aligned, tables[family])
    return found


def _told(
    sampler: Sampler, levels: Schedule, told: Mapping[str, float | str], *, strict: bool
) -> tuple[Sampler, Schedule]:
    """Settings where they belong."""
    to_schedule = schedules.settings_of(levels)
    for name in told:
        if strict and name not in sampler.settings and name not in to_schedule:
            able = [other.name for other in SAMPLERS.values() if name in other.settings]
            able += [other for other, one in SCHEDULES.items() if name in schedules.settings_of(one)]
            raise SettingsError(
                f"neither the sampler {sampler.name!r} nor its schedule takes {name}",
                fix=f"leave it out; it is for {', '.join(able)}",
            )
    own = {name: value for name, value in told.items() if name in sampler.settings}
    if own:
        sampler = replace(sampler, run=partial(sampler.run, **own))
    theirs = {name: value for name, value in told.items() if name in to_schedule}
    if theirs:
        levels = partial(levels, **theirs)
    if sampler.ends_above_0:
        levels = partial(_two_or_more, levels, sampler)
    if sampler.skips_penultimate:
        levels = partial(_without_penultimate, levels)
    return sampler, levels


def _two_or_more(levels: Schedule, sampler: Sampler, objective: Objective, count: int) -> schedules.Sigmas:
    sigmas = levels(objective, count)
    counted = [sigma for sigma in sigmas if sigma > 0 or not sampler.own_schedule]
    if len(counted) < 2:
        raise SettingsError(f"{count} steps are too few for the sampler {sampler.name!r}", fix="use 2 steps or more")
    return sigmas


def _without_penultimate(levels: Schedule, objective: Objective, count: int) -> schedules.Sigmas:
    sigmas = levels(objective, count + 1)
    return (*sigmas[:-2], sigmas[-1])


def _below_pure_noise(levels: Schedule, objective: Objective, count: int) -> schedules.Sigmas:
    first, *rest = levels(objective, count)
    return (min(first, objective.sigma_at(FLOW_STEPS * (1 - NEARLY_PURE) - 1)), *rest)


def _known(name: str, known: list[str]) -> str:
    close = nearest(name, known)
    return f"did you mean {close!r}?" if close else f"known are {', '.join(known)}"
