"""Schedules: which noise levels a sampler visits, from most noise down to none.

Every schedule is `(objective, count) -> sigmas`: `count` falling noise levels, then 0. Names and numbers are those of
A1111, so its pictures can be made again; hence DDIM may visit more than `count`, and KL Optimal ends above 0. What
else a schedule takes by name are the settings that it can honour; where they are not told, they follow from the base.

For flow the table of the objective is the shifted one, and `uniform` is what flow pipelines do.
Sources: Karras et al. 2022, arXiv:2206.00364, equation 5 (karras); Lee et al. 2024, arXiv:2407.12173 (beta); Sabour
et al. 2024, arXiv:2404.14507 (align your steps), equation 2.9 for KL Optimal; Chen et al. 2024, arXiv:2405.11326
(GITS).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from velatura.diffusion.objective import FLOW_STEPS, Objective
from velatura.errors import SettingsError

Sigmas = tuple[float, ...]
Schedule = Callable[..., Sigmas]

SETTINGS = ("sigma_min", "sigma_max", "rho", "beta_alpha", "beta_beta")
"""What schedules can be told; each takes those that are in its signature."""

LCM_ROWS = 50
"""The rows of the table that latent consistency models were taught."""


def uniform(objective: Objective, count: int) -> Sigmas:
    """Equal strides over the timesteps, both ends included; for flow from 1 to 1 / count."""
    if objective.kind == "flow":
        return _visit(objective, [FLOW_STEPS * (1 - step / count) - 1 for step in range(_positive(count))])
    return _visit(objective, _line(len(objective.sigmas) - 1, 0, count))


def normal(
    objective: Objective, count: int, *, sigma_min: float | None = None, sigma_max: float | None = None
) -> Sigmas:
    """Equal strides over the timesteps, both ends included, for every kind."""
    first, last = _positions(objective, sigma_min, sigma_max)
    return _visit(objective, _line(first, last, count))


def sgm_uniform(
    objective: Objective, count: int, *, sigma_min: float | None = None, sigma_max: float | None = None
) -> Sigmas:
    """Equal strides that would reach the lowest timestep one step later, as in Stability's code."""
    first, last = _positions(objective, sigma_min, sigma_max)
    return _visit(objective, _line(first, last, _positive(count) + 1)[:-1])


def simple(objective: Objective, count: int) -> Sigmas:
    """Every (T / count)-th row of the table, counted from the top, nothing between rows."""
    sigmas = objective.sigmas.tolist()
    _check_rows(len(sigmas), count)
    return (*(sigmas[-(1 + int(step * len(sigmas) / count))] for step in range(count)), 0.0)


def turbo(objective: Objective, count: int) -> Sigmas:
    """The same rounded the other way, as Forge does for distilled models."""
    sigmas = objective.sigmas.tolist()
    _check_rows(len(sigmas), count)
    rows = [round((step + 1) * len(sigmas) / count - 1) for step in reversed(range(count))]
    return (*(sigmas[min(row, len(sigmas) - 1)] for row in rows), 0.0)


def ddim(objective: Objective, count: int) -> Sigmas:
    """Every (T // count)-th row, counted from the second of the bottom; more than `count` where it does not divide T.

    The top of the table is left out: with 20 steps the first is at timestep 951.
    """
    return (*ddim_timesteps(objective, count), 0.0)


def ddim_timesteps(objective: Objective, count: int) -> Sigmas:
    """The same without the 0: where A1111's DDIM and PLMS end. One step fewer than noise levels."""
    sigmas = objective.sigmas.tolist()
    return (*reversed(sigmas[1 :: max(1, len(sigmas) // _positive(count))]),)


def unipc_timesteps(objective: Objective, count: int) -> Sigmas:
    """Equal strides from the top of the table to its bottom, where A1111's UniPC ends."""
    rows = len(objective.sigmas)
    steps = len(range(0, rows, max(1, rows // _positive(count))))
    return _visit(objective, _line(rows - 1, 0, steps + 1))[:-1]


def lcm_timesteps(objective: Objective, count: int) -> Sigmas:
    """Equal strides over the fifty rows that latent consistency models know, log-linear between them."""
    sigmas = objective.sigmas.numpy()
    stride = len(sigmas) // LCM_ROWS
    rows = np.log(sigmas[stride - 1 :: stride])
    found = np.interp(_line(len(rows) - 1, 0, count), np.arange(len(rows)), rows)
    return (*(float(sigma) for sigma in np.exp(found)), 0.0)


def karras(
    objective: Objective,
    count: int,
    *,
    rho: float = 7.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
) -> Sigmas:
    """Short steps near the clean image: equal strides in sigma ** (1 / rho)."""
    top, bottom = _ends(objective, sigma_min, sigma_max)
    line = _line(top ** (1 / rho), bottom ** (1 / rho), count)
    return (*(root**rho for root in line), 0.0)


def exponential(
    objective: Objective, count: int, *, sigma_min: float | None = None, sigma_max: float | None = None
) -> Sigmas:
    """Equal ratios from one noise level to the next."""
    return polyexponential(objective, count, sigma_min=sigma_min, sigma_max=sigma_max)


def polyexponential(
    objective: Objective,
    count: int,
    *,
    rho: float = 1.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
) -> Sigmas:
    """Ratios that grow as a power of what is left of the way; at rho 1 they are equal."""
    top, bottom = (math.log(sigma) for sigma in _ends(objective, sigma_min, sigma_max))
    return (*(math.exp(bottom + (top - bottom) * left**rho) for left in _line(1, 0, count)), 0.0)


def kl_optimal(
    objective: Objective, count: int, *, sigma_min: float | None = None, sigma_max: float | None = None
) -> Sigmas:
    """Equal strides in the arctangent of sigma, down to the lowest noise level and no further."""
    top, bottom = _ends(objective, sigma_min, sigma_max)
    return tuple(math.tan(angle) for angle in _line(math.atan(top), math.atan(bottom), _positive(count) + 1))


def kl_optimal_comfyui(objective: Objective, count: int) -> Sigmas:
    """The same with one stride fewer, then 0, as ComfyUI has it."""
    line = _line(math.atan(objective.sigma_max), math.atan(objective.sigma_min), count)
    return (*(math.tan(angle) for angle in line), 0.0)


def beta(
    objective: Objective,
    count: int,
    *,
    beta_alpha: float = 0.6,
    beta_beta: float = 0.6,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
) -> Sigmas:
    """Quantiles of a beta distribution over sigma: short steps at both ends."""
    from scipy.stats import beta as distribution

    top, bottom = _ends(objective, sigma_min, sigma_max)
    shares = distribution.ppf(_line(1, 0, count), beta_alpha, beta_beta)
    return (*(bottom + float(share) * (top - bottom) for share in shares), 0.0)


def beta_comfyui(objective: Objective, count: int, *, beta_alpha: float = 0.6, beta_beta: float = 0.6) -> Sigmas:
    """Quantiles over the timesteps, rounded to rows of the table; those that fall together are visited once."""
    from scipy.stats import beta as distribution

    sigmas = objective.sigmas.tolist()
    shares = distribution.ppf(_line(1, 0, _positive(count) + 1)[:-1], beta_alpha, beta_beta)
    rows = dict.fromkeys(round(float(share) * (len(sigmas) - 1)) for share in shares)
    return (*(sigmas[row] for row in rows), 0.0)


def aligned(levels: Sequence[float], objective: Objective, count: int) -> Sigmas:
    """A table of noise levels that were found best for one base, log-linear between them, then 0."""
    places = _line(len(levels) - 1, 0, _positive(count))
    rising = np.log(np.asarray(levels)[::-1])
    found = np.exp(np.interp(places, np.arange(len(levels)), rising))
    return (*(float(sigma) for sigma in (levels if count == len(levels) else found)), 0.0)


ALIGNED: Mapping[str, Mapping[str, Sigmas]] = {
    "Align Your Steps": {
        "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
        "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    },
    "Align Your Steps GITS": {
        "sd15": (14.615, 4.617, 2.507, 1.236, 0.702, 0.402, 0.240, 0.156, 0.104, 0.094, 0.029),
        "sdxl": (14.615, 4.734, 2.567, 1.529, 0.987, 0.652, 0.418, 0.268, 0.179, 0.127, 0.029),
    },
    "Align Your Steps 32": {
        "sd15": (
            14.615, 11.23951352, 8.64363081, 6.64729424, 5.57250862, 4.71648546, 3.99196065, 3.5195609,
            3.13490466, 2.79228788, 2.48773628, 2.21663865, 1.97508351, 1.7793172, 1.61475335, 1.46540953,
            1.314849, 1.16642497, 1.03475547, 0.91573744, 0.80748169, 0.71202361, 0.621739, 0.53065202,
            0.4529096, 0.37491455, 0.27461819, 0.2011529, 0.14105873, 0.06682881, 0.03166121, 0.015,
        ),
        "sdxl": (
            14.615, 11.1491618, 8.50522127, 6.48827151, 5.43707402, 4.60398619, 3.89854704, 3.27407457,
            2.74396527, 2.29968659, 1.95448514, 1.67108715, 1.42878152, 1.23181009, 1.06789649, 0.92579443,
            0.80290886, 0.69660121, 0.60436903, 0.52852552, 0.46773344, 0.41393379, 0.36258186, 0.31008517,
            0.26518925, 0.22326461, 0.17653877, 0.13959192, 0.10587381, 0.05519369, 0.02877334, 0.015,
        ),
    },
}  # fmt: skip
"""Tables that were published for a family, from most noise to least."""
ALIGNED = {**ALIGNED, "Align Your Steps 11": ALIGNED["Align Your Steps"]}  # by the name it has in Forge


SCHEDULES: dict[str, Schedule] = {
    "Uniform": uniform,
    "Karras": karras,
    "Exponential": exponential,
    "Polyexponential": polyexponential,
    "SGM Uniform": sgm_uniform,
    "KL Optimal": kl_optimal,
    **{name: partial(aligned, tables["sd15"]) for name, tables in ALIGNED.items()},
    "Simple": simple,
    "Normal": normal,
    "DDIM": ddim,
    "Beta": beta,
    "Turbo": turbo,
    "KL Optimal ComfyUI": kl_optimal_comfyui,
    "Beta ComfyUI": beta_comfyui,
}
"""By A1111's and Forge's names; ComfyUI's where it means another by one of them.

"Automatic" is not here: it means the sampler's own, see `samplers.resolve`, which also chooses the table that fits.
"""


def settings_of(schedule: Schedule) -> tuple[str, ...]:
    """Those that a schedule can honour."""
    return tuple(name for name in SETTINGS if name in inspect.signature(schedule).parameters)


def _ends(objective: Objective, sigma_min: float | None, sigma_max: float | None) -> tuple[float, float]:
    """The highest and the lowest noise level, told or the base's own.

    Raises:
        SettingsError: they are the wrong way round, or not above 0.
    """
    top = objective.sigma_max if sigma_max is None else sigma_max
    bottom = objective.sigma_min if sigma_min is None else sigma_min
    if not 0 < bottom < top or (objective.kind == "flow" and top > 1):
        raise SettingsError(
            f"noise levels from {top:g} down to {bottom:g} cannot be sampled",
            fix=f"keep sigma_min and sigma_max between {objective.sigma_min:.3g} and {objective.sigma_max:.3g}",
        )
    return top, bottom


def _positions(objective: Objective, sigma_min: float | None, sigma_max: float | None) -> tuple[float, float]:
    """The same as places in the table; beyond its ends are its ends."""
    top, bottom = _ends(objective, sigma_min, sigma_max)
    rows = len(objective.sigmas) - 1
    first = rows if sigma_max is None else objective.position(top)
    return first, 0.0 if sigma_min is None else objective.position(bottom)


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


def _check_rows(rows: int, count: int) -> None:
    if _positive(count) > rows:
        raise SettingsError(
            f"the table has {rows} noise levels, fewer than {count} steps", fix=f"use {rows} steps or another schedule"
        )
