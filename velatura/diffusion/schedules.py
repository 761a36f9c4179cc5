"""Schedules: which noise levels a sampler visits, from most noise down to none.

Every schedule is `(objective, count) -> sigmas`: `count` falling noise levels, then 0. Names and
numbers are those of A1111, so its pictures can be made again; hence DDIM may visit more than `count`.

For flow the table of the objective is the shifted one, and `uniform` is what flow pipelines do.
Sources: Karras et al. 2022, arXiv:2206.00364, equation 5 (karras).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from velatura.diffusion.objective import FLOW_STEPS, Objective

Sigmas = tuple[float, ...]
Schedule = Callable[[Objective, int], Sigmas]


def uniform(objective: Objective, count: int) -> Sigmas:
    """Equal strides over the timesteps, both ends included; for flow from 1 to 1 / count."""
    if objective.kind == "flow":
        return _visit(objective, [FLOW_STEPS * (1 - step / count) - 1 for step in range(_positive(count))])
    return _visit(objective, _line(len(objective.sigmas) - 1, 0, count))


def normal(objective: Objective, count: int) -> Sigmas:
    """Equal strides over the timesteps, both ends included, for every kind."""
    return _visit(objective, _line(len(objective.sigmas) - 1, 0, count))


def sgm_uniform(objective: Objective, count: int) -> Sigmas:
    """Equal strides that would reach the lowest timestep one step later, as in Stability's code."""
    return _visit(objective, _line(len(objective.sigmas) - 1, 0, _positive(count) + 1)[:-1])


def simple(objective: Objective, count: int) -> Sigmas:
    """Every (T / count)-th row of the table, counted from the top, nothing between rows."""
    sigmas = objective.sigmas.tolist()
    if _positive(count) > len(sigmas):
        raise ValueError(f"the table has {len(sigmas)} noise levels, fewer than {count} steps")
    return (*(sigmas[-(1 + int(step * len(sigmas) / count))] for step in range(count)), 0.0)


def ddim(objective: Objective, count: int) -> Sigmas:
    """Every (T // count)-th row, counted from the second of the bottom; more than `count` where it does not divide T.

    The top of the table is left out: with 20 steps the first is at timestep 951.
    """
    sigmas = objective.sigmas.tolist()
    stride = max(1, len(sigmas) // _positive(count))
    return (*reversed(sigmas[1::stride]), 0.0)


def karras(objective: Objective, count: int, *, rho: float = 7.0) -> Sigmas:
    """Short steps near the clean image: equal strides in sigma ** (1 / rho)."""
    line = _line(objective.sigma_max ** (1 / rho), objective.sigma_min ** (1 / rho), count)
    return (*(root**rho for root in line), 0.0)


def exponential(objective: Objective, count: int) -> Sigmas:
    """Equal ratios from one noise level to the next."""
    line = _line(math.log(objective.sigma_max), math.log(objective.sigma_min), count)
    return (*(math.exp(log_sigma) for log_sigma in line), 0.0)


SCHEDULES: dict[str, Schedule] = {
    "Uniform": uniform,
    "Karras": karras,
    "Exponential": exponential,
    "SGM Uniform": sgm_uniform,
    "Simple": simple,
    "Normal": normal,
    "DDIM": ddim,
}
"""By A1111's names. "Automatic" is not here: it means the sampler's own, see `samplers.resolve`."""


def _visit(objective: Objective, positions: Sequence[float]) -> Sigmas:
    return (*(objective.sigma_at(position) for position in positions), 0.0)


def _line(first: float, last: float, count: int) -> list[float]:
    """Evenly spaced numbers with both ends exact."""
    if _positive(count) == 1:
        return [float(first)]
    inner = [first + (last - first) * step / (count - 1) for step in range(count - 1)]
    return [*inner, float(last)]


def _positive(count: int) -> int:
    if count < 1:
        raise ValueError(f"sampling needs at least one step, got {count}")
    return count
