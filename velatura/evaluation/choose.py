"""Choosing a checkpoint: gates first, then a smoothed score, then the earliest of those that tie.

The score is the weighted harmonic mean of style (never counted above 1) and adherence; where the set has no
colours, that is how well captions are read, without the colours asked for. Its uncertainty comes from a
bootstrap in which every checkpoint sees the same prompts and seeds, so differences are judged as pairs. Of
checkpoints that cannot be told apart the earliest has had the least time to learn by heart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from velatura.evaluation.gates import ADVICE, ONE_HUE, Gate, gates, passes, sentence
from velatura.evaluation.results import CheckpointResult, Results
from velatura.randomness import generator

DRAWS = 2000
BANDWIDTH = 1.5
"""Of the smoothing, in checkpoints."""
TIED_BELOW = 0.8
"""A checkpoint ties with the best unless it is worse in this share of the draws."""
INDIFFERENT = 0.005
"""Differences of score that nobody would see."""

Draws = NDArray[np.float64]
"""One value per draw of the bootstrap."""


@dataclass(frozen=True)
class Choice:
    """Which checkpoint to use, and how sure that is."""

    step: int | None
    """None: none can be recommended, and the reasons say why."""
    reasons: tuple[str, ...]
    """Sentences, the most important first."""
    warnings: tuple[str, ...] = ()
    tied: tuple[int, ...] = ()
    """Steps that cannot be told apart from the best, the chosen one among them."""
    probability: dict[int, float] = field(default_factory=dict)
    """Step -> how often it came out best; checkpoints that a gate ruled out are not in it."""
    utility: dict[int, float] = field(default_factory=dict)
    """Step -> the score before smoothing; where it could be computed."""
    basis: str = ""
    """What was compared: "style and adherence", "style", "held-out loss", or nothing."""


def choose(results: Results, *, flexibility: float = 1.0) -> Choice:
    """Name the checkpoint to use.

    Args:
        flexibility: how much adherence weighs against style; 0.5 prefers style, 2 prefers adherence.

    Raises:
        ValueError: flexibility is not positive.
    """
    if flexibility <= 0:
        raise ValueError(f"flexibility must be positive, got {flexibility}")
    if not results.checkpoints:
        return Choice(None, ("The run has no checkpoint.",))
    checks = gates(results)
    if results.colour_spread is not None and results.colour_spread < ONE_HUE:
        # Pictures without colours cannot show the one asked for: the better the style, the less they would.
        colourless = tuple(replace(one, separability=None) for one in results.checkpoints)
        results = replace(results, checkpoints=colourless)
    standing = [one for one in results.checkpoints if passes(checks[one.step])]
    if not standing:
        return Choice(None, ("Every checkpoint fails a check.", *_why_none(checks)))
    basis = _basis(standing)
    measured = [one for one in standing if _measures(one, basis)]
    if not measured:
        reason = "Neither style nor held-out loss was measured, so there is nothing to choose by."
        if basis == "held-out loss":
            reason = "No checkpoint predicts pictures of the style better than the base model does."
        return Choice(None, (reason, *_unmeasured(results)))
    utility = np.stack([_utility(one, basis, flexibility, results.seeds_per_prompt) for one in measured])
    smoothed = smoothing([results.checkpoints.index(one) for one in measured]) @ utility
    # Column 0 is the estimate itself, the others are the draws around it.
    top = int(smoothed[:, 0].argmax())
    worse = (smoothed[:, 1:] < smoothed[top, 1:] - INDIFFERENT).mean(axis=1)
    tied = [index for index in range(len(measured)) if index == top or worse[index] < TIED_BELOW]
    steps = [one.step for one in measured]
    wins = np.bincount(smoothed[:, 1:].argmax(axis=0), minlength=len(measured)) / DRAWS
    chosen = measured[min(tied)]
    return Choice(
        step=chosen.step,
        reasons=_reasons(chosen, basis, [steps[index] for index in tied], checks),
        warnings=_warnings(results, chosen, basis, checks[chosen.step]),
        tied=tuple(steps[index] for index in tied),
        probability={step: float(share) for step, share in zip(steps, wins, strict=True)},
        utility={step: float(value) for step, value in zip(steps, utility[:, 0], strict=True)},
        basis=basis,
    )


def smoothing(positions: Sequence[int], *, bandwidth: float = BANDWIDTH) -> NDArray[np.float64]:
    """The matrix of a local quadratic fit over the checkpoints' places in the run, shape (n, n).

    Fewer than four checkpoints are left as they are: a quadratic would pass through them anyway.
    """
    place = np.asarray(positions, dtype=float)
    if len(place) < 4:
        return np.eye(len(place))
    rows = []
    for centre in place:
        away = place - centre
        weight = np.exp(-0.5 * (away / bandwidth) ** 2)
        terms = np.stack([np.ones_like(away), away, away**2], axis=1)
        rows.append(np.linalg.pinv(terms * np.sqrt(weight)[:, None])[0] * np.sqrt(weight))
    return np.stack(rows)


def _basis(checkpoints: Sequence[CheckpointResult]) -> str:
    if any(one.style_score is not None and one.style is not None and not one.style.uncertain for one in checkpoints):
        both = any(one.style_score is not None and one.adherence is not None for one in checkpoints)
        return "style and adherence" if both else "style"
    return "held-out loss" if any(one.held_out is not None for one in checkpoints) else ""


def _measures(one: CheckpointResult, basis: str) -> bool:
    if basis == "held-out loss":
        return one.held_out is not None and one.held_out.value < 0
    return one.style_score is not None and (basis == "style" or one.adherence is not None)


def _utility(one: CheckpointResult, basis: str, flexibility: float, seeds: int) -> Draws:
    """The estimate, then its draws; shape (1 + DRAWS,)."""
    if basis == "held-out loss":
        assert one.held_out is not None
        return -_resample(one.held_out.per_image, one.held_out.value, "held-out pictures")
    assert one.style is not None and one.style.score is not None
    style = np.clip(_resample(one.style.per_image, one.style.score, "prompts", seeds), 0, 1)
    if basis == "style":
        return style
    return harmonic(style, _adherence(one), flexibility)


def harmonic(style: Draws, adherence: Draws, flexibility: float) -> Draws:
    """Weighted harmonic mean (F-measure): high only where both are."""
    weight = flexibility**2
    return np.asarray((1 + weight) / (1 / np.maximum(style, 1e-6) + weight / np.maximum(adherence, 1e-6)))


def _adherence(one: CheckpointResult) -> Draws:
    """Mean of the measured shares, drawn with the base's uncertainty."""
    parts: list[Draws] = []
    if one.reliance is not None and one.reliance.share is not None:
        ours = _resample(one.reliance.per_image, one.reliance.value, "held-out pictures")
        base = _resample(one.reliance.base_per_image, one.reliance.base_value, "held-out pictures")
        parts.append(np.clip(ours / np.maximum(base, one.reliance.base_value / 10), 0, 1))
    if one.separability is not None and one.separability.share is not None:
        probe = one.separability
        ours = _resample(probe.per_seed, probe.accuracy, "probe seeds") - probe.chance
        base = _resample(probe.base_per_seed, probe.base_accuracy, "probe seeds") - probe.chance
        parts.append(np.clip(ours / np.maximum(base, probe.chance / 2), 0, 1))
    return np.asarray(np.mean(parts, axis=0))


def _resample(values: Sequence[float], estimate: float, purpose: str, group: int = 1) -> Draws:
    """The estimate, then means of bootstrap draws: whole groups, then members inside each.

    The indices depend on purpose and count alone, so that all checkpoints are drawn alike. Without values
    there is no uncertainty to draw, and the estimate stands alone.
    """
    if not values:
        return np.full(1 + DRAWS, estimate)
    if len(values) % group:
        group = 1
    table = np.asarray(values, dtype=float).reshape(-1, group)
    stream = generator(0, "choose", purpose, len(table), group)
    rows = stream.integers(len(table), size=(DRAWS, len(table), 1))
    columns = stream.integers(group, size=(DRAWS, len(table), group))
    return np.concatenate([[estimate], table[rows, columns].mean(axis=(1, 2))])


def _reasons(
    chosen: CheckpointResult, basis: str, tied: Sequence[int], checks: dict[int, tuple[Gate, ...]]
) -> tuple[str, ...]:
    reasons = []
    if chosen.style is not None and chosen.style.score is not None and not chosen.style.uncertain:
        share = "all" if chosen.style.score >= 0.995 else f"{chosen.style.score:.0%} of"
        reasons.append(f"It has gone {share} the way from the base model to real pictures of the style.")
    if chosen.adherence is not None:
        share = "" if chosen.adherence >= 0.995 else f"{chosen.adherence:.0%} "
        reasons.append(f"It follows prompts {share}as well as the base model.")
    if chosen.copies is not None:
        count = chosen.copies
        found = f"{count.flagged or 'None'} of its {count.total} pictures came too close to a training picture"
        alarm = f", a rate of false alarms that the base model has too ({count.base_rate:.0%})"
        reasons.append(f"{found}{alarm if 0 < count.flagged <= count.base_rate * count.total else ''}.")
    if chosen.held_out is not None:
        value = chosen.held_out.value
        better = f"{abs(value):.1%} {'better' if value < 0 else 'worse'} than the base model"
        reasons.append(f"It predicts pictures of the style that it never saw {better}.")
    if basis == "held-out loss":
        reasons.append("Style could not be told, so the held-out loss decided.")
    if len(tied) > 1:
        others = _list([step for step in tied if step != chosen.step])
        reasons.append(
            f"It cannot be told apart from step {others}, and the earliest has had the least time to learn by heart."
        )
    failures = _failures(checks)
    if failures:
        reasons.append(f"Ruled out: {'; '.join(failures)}.")
    return tuple(reasons)


def _warnings(results: Results, chosen: CheckpointResult, basis: str, checks: Sequence[Gate]) -> tuple[str, ...]:
    warnings = [f"{gate.name}: {gate.says}" for gate in checks if gate.status == "warn"]
    warnings += _unmeasured(results, checks)
    if basis == "style":
        warnings.append("Adherence was not measured, so a checkpoint that ignores prompts could have won.")
    if chosen.style is not None and not chosen.style.held_out:
        warnings.append("No picture was held out, so style was compared with the training pictures alone.")
    if len(results.checkpoints) > 1 and chosen is results.checkpoints[-1]:
        warnings.append("It is the last checkpoint: a longer run might be better still.")
    return tuple(warnings)


def _unmeasured(results: Results, checks: Sequence[Gate] = ()) -> list[str]:
    said = {name: sentence(why) for name, why in results.not_measured.items()}
    for gate in checks:
        if gate.status == "unknown" and (not gate.says or gate.says not in said.values()):
            said.setdefault(gate.name, gate.says)
    return [f"{name}: not measured. {why}".rstrip() for name, why in said.items()]


def _why_none(checks: dict[int, tuple[Gate, ...]]) -> list[str]:
    first = {_failed(found).name for found in checks.values()}
    advice = [says for name, says in ADVICE.items() if name in first]
    return [f"S{failure[1:]}." for failure in _failures(checks)] + advice


def _failed(checks: tuple[Gate, ...]) -> Gate:
    return next(gate for gate in checks if gate.status == "fail")


def _failures(checks: dict[int, tuple[Gate, ...]]) -> list[str]:
    """What ruled checkpoints out, steps with the same reason together."""
    steps: dict[str, list[int]] = {}
    for step, found in checks.items():
        if not passes(found):
            steps.setdefault(_failed(found).says, []).append(step)
    return [
        f"{'step' if len(those) == 1 else 'steps'} {_list(those)}: {says[0].lower()}{says[1:].rstrip('.')}"
        for says, those in steps.items()
    ]


def _list(steps: Sequence[int]) -> str:
    if len(steps) == 1:
        return str(steps[0])
    return f"{', '.join(str(step) for step in steps[:-1])} and {steps[-1]}"
