"""UniPC: a predictor and a corrector that share one evaluation a step.

In sigma space, where x is the clean latents plus sigma times noise, with h the step in log sigma:

    x_next = r x - (r - 1) m0 - B(h) sum_i rho_i D_i / r_i          r = sigma_next / sigma, m0 the last answer

The corrector takes the answer at x_next among the D_i, and the rho_i solve for the order asked for.
Source: Zhao et al. 2023, arXiv:2302.04867, equations 5 to 9, data prediction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from torch import Tensor

from velatura.diffusion.samplers.step import Denoise, Noise, Step, in_unit_variance, intervals

Variant = Literal["bh1", "bh2"]


def sample_unipc(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    unipc_order: int = 3,
    unipc_variant: Variant = "bh1",
    flow: bool = False,
) -> Iterator[Step]:
    """Predict the next latents, ask there, correct them with the answer; the last step is not corrected.

    The first and last steps are of lower order, as there is nothing to learn from and nothing to mend.
    """
    steps = len(sigmas) - 1
    answers: list[tuple[float, Tensor]] = []
    for index, sigma, following in intervals(sigmas):
        denoised = answers[0][1] if answers else denoise(x, sigma, index)
        if not answers:
            answers = [(sigma, denoised)]
        order = min(unipc_order, len(answers), steps - index)
        ahead = _moved(x, answers[:order], following, unipc_variant)
        if index + 1 < steps:
            answer = denoise(ahead, following, index + 1)
            x = _moved(x, answers[:order], following, unipc_variant, answer=answer)
            answers = [(following, answer), *answers][:unipc_order]
        else:
            x = ahead
        step = Step(index, x, denoised)
        yield step if flow else in_unit_variance(step, sigmas)


def _moved(
    x: Tensor,
    answers: Sequence[tuple[float, Tensor]],
    following: float,
    variant: Variant,
    answer: Tensor | None = None,
) -> Tensor:
    """The latents at the following noise level, predicted, or with the answer there corrected.

    Args:
        x: the latents at the newest answer's noise level.
        answers: (sigma, clean latents), the newest first; as many as the order.
        following: where to go.
        variant: what B(h) is, h or e^h - 1.
        answer: the clean latents as seen from there.
    """
    (sigma, newest), *older = answers
    if following == 0:
        return newest
    ratio = following / sigma
    step = math.log(sigma / following)
    moved = x * ratio + newest * (1 - ratio)
    places = [math.log(sigma / before) / step for before, _ in older]
    slopes = [(told - newest) / place for (_, told), place in zip(older, places, strict=True)]
    if answer is not None:
        places, slopes = [*places, 1.0], [*slopes, answer - newest]
    scale = -step if variant == "bh1" else math.expm1(-step)
    for weight, slope in zip(_weights(places, step, scale), slopes, strict=True):
        moved = moved - slope * (scale * weight)
    return moved


def _weights(places: Sequence[float], step: float, scale: float) -> list[float]:
    """The rho_i, for answers at these places, counted in steps from the newest."""
    if len(places) <= 1:
        return [0.5] * len(places)  # the choice of the authors' code for a single one
    right, phi, factorial = [], math.expm1(-step) / -step - 1, 1.0
    for power in range(1, len(places) + 1):
        right.append(phi * factorial / scale)
        factorial *= power + 1
        phi = phi / -step - 1 / factorial
    powers = np.array([[place**power for place in places] for power in range(len(places))])
    return [float(weight) for weight in np.linalg.solve(powers, np.array(right))]
