"""Gates: what rules a checkpoint out, or gives a warning, before any score is compared.

Limits are starting values: relative to the base model or to the training set, never to the other
checkpoints of the run, since a run may be bad as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from velatura.evaluation.heldout import HeldOutLoss, worse_by
from velatura.evaluation.results import CheckpointResult, Results

Status = Literal["pass", "warn", "fail", "unknown"]

STYLE_EFFECT = (0.15, 0.4)
"""Style score under which nothing, or little, was learnt."""
CARICATURE = 1.1
"""A style score surely above this is more than the real pictures hold."""
SEPARABILITY = (0.6, 0.8)
"""Share of the base's: fail under the first, warn under the second."""
RELIANCE = (0.3, 0.6)
LAYOUT_DIVERSITY = (0.5, 0.7)
COPIES_ABOVE = 0.10
"""Share of copies, at the lower end of its interval, that is forgiven above what comes of no training."""
OVERBAKE = 3.0
ONE_HUE = 0.3
"""Training sets with less colour spread than this share of the base's are not failed on separability."""


ADVICE = {
    "Pictures": "Empty pictures mean that training diverged: lower the learning rate.",
    "Style": "Train longer, or raise the learning rate.",
    "Reads captions": "Caption what varies between the pictures, and train for fewer steps.",
    "Colours asked for": "Caption the colours of things, and train for fewer steps or at a lower rank.",
    "Own pictures": "Train for fewer steps, at a lower rank, or on more pictures.",
    "Variety": "Train for fewer steps, or on more varied pictures.",
    "Held-out loss": "Lower the learning rate, or train for fewer steps.",
}
"""Name of a gate -> what to try when every checkpoint fails it."""


@dataclass(frozen=True)
class Gate:
    """One check of one checkpoint."""

    name: str
    status: Status
    value: str
    """What was measured, short."""
    says: str
    """What that means, one sentence; for "unknown", why it was not measured, "" where nobody said."""


def gates(results: Results) -> dict[int, tuple[Gate, ...]]:
    """Step -> its gates, the same ones in the same order for every checkpoint."""
    best = _lowest(results)
    return {
        one.step: (
            _pictures(one),
            _style(one),
            *_adherence(one, results.colour_spread),
            _copies(one),
            _diversity(one),
            _overbake(one),
            _held_out(one, best),
        )
        for one in results.checkpoints
    }


def passes(checks: tuple[Gate, ...]) -> bool:
    """Whether no gate fails; what was not measured does not fail."""
    return all(gate.status != "fail" for gate in checks)


def _unknown(name: str, field: str, reasons: Mapping[str, str]) -> Gate:
    return Gate(name, "unknown", "not measured", sentence(reasons.get(field, "")))


def sentence(reason: str) -> str:
    """A reason with a capital and a full stop, however it was written down; "" stays so."""
    return f"{reason[0].upper()}{reason[1:].rstrip('.')}." if reason else ""


def _below(value: float, limits: tuple[float, float]) -> Status:
    return "fail" if value < limits[0] else "warn" if value < limits[1] else "pass"


def _pictures(one: CheckpointResult) -> Gate:
    if one.broken:
        return Gate("Pictures", "fail", f"{one.broken} empty", "Some pictures show nothing at all.")
    if not one.samples:
        return _unknown("Pictures", "samples", one.not_measured)
    return Gate("Pictures", "pass", "sound", "Every picture shows something.")


def _style(one: CheckpointResult) -> Gate:
    score = one.style_score
    if score is None:
        reason = "The base model already paints like this set; no feature tells them apart."
        reasons = {"style": reason} if one.style is not None else one.not_measured
        return _unknown("Style", "style", reasons)
    status = _below(score, STYLE_EFFECT)
    interval = None if one.style is None else one.style.interval
    value = f"{score:.2f}".replace("-", "−")
    if interval is not None and interval[0] > CARICATURE:
        return Gate("Style", "warn", value, "Stronger than the real pictures: a caricature.")
    if one.style is not None and one.style.uncertain:
        return Gate("Style", "warn", value, "The set's pictures are too unlike each other to tell how much was learnt.")
    says = {
        "fail": "Hardly any of the style has been learnt.",
        "warn": "Only part of the style has been learnt.",
        "pass": "The style is plainly there.",
    }
    return Gate("Style", status, value, says[status])


def _adherence(one: CheckpointResult, spread: float | None) -> tuple[Gate, Gate]:
    if one.reliance is None or one.reliance.share is None:
        reason = "The base model itself does not gain from these captions: nothing to compare with."
        reasons = {"reliance": reason} if one.reliance is not None else one.not_measured
        reading = _unknown("Reads captions", "reliance", reasons)
    else:
        status = _below(one.reliance.share, RELIANCE)
        says = {
            "fail": "The caption hardly changes what it expects: prompts are ignored.",
            "warn": "Captions matter less than to the base model.",
            "pass": "Captions matter as they do to the base model.",
        }
        reading = Gate("Reads captions", status, f"{one.reliance.share:.0%}", says[status])
    return reading, _colours(one, spread)


def _colours(one: CheckpointResult, spread: float | None) -> Gate:
    name = "Colours asked for"
    if one.separability is None or one.separability.share is None:
        reason = "The base model itself does not paint the colours asked for."
        reasons = {"separability": reason} if one.separability is not None else one.not_measured
        return _unknown(name, "separability", reasons)
    share = one.separability.share
    status = _below(share, SEPARABILITY)
    if status == "fail" and spread is not None and spread < ONE_HUE:
        return Gate(name, "warn", f"{share:.0%}", "Requests look alike, but so do the set's own colours.")
    says = {
        "fail": "Pictures no longer show which colour was asked for.",
        "warn": "The colour asked for shows less clearly than in the base model.",
        "pass": "The colour asked for shows.",
    }
    return Gate(name, status, f"{share:.0%}", says[status])


def _copies(one: CheckpointResult) -> Gate:
    check = one.copies
    if check is None:
        return _unknown("Own pictures", "copies", one.not_measured)
    value = f"{check.flagged} of {check.total} close"
    if check.near_exact:
        return Gate("Own pictures", "fail", value, "It repeats training pictures without being asked to.")
    if check.interval[0] > max(check.base_rate, check.caption_rate) + COPIES_ABOVE:
        return Gate("Own pictures", "fail", value, "It repeats training pictures.")
    if check.flagged > round(check.base_rate * check.total):
        return Gate("Own pictures", "warn", value, "Some pictures are close to a training picture: look.")
    return Gate("Own pictures", "pass", value, "No picture is too close to a training picture.")


def _diversity(one: CheckpointResult) -> Gate:
    if one.diversity is None:
        return _unknown("Variety", "diversity", one.not_measured)
    # Colours may narrow with the style; it is the layout that must go on changing with the seed.
    status = _below(one.diversity.layout, LAYOUT_DIVERSITY)
    says = {
        "fail": "Every seed gives much the same picture.",
        "warn": "Seeds differ less than in the base model.",
        "pass": "Other seeds give other pictures.",
    }
    return Gate("Variety", status, f"{one.diversity.layout:.0%}", says[status])


def _overbake(one: CheckpointResult) -> Gate:
    if one.overbake is None:
        return _unknown("Not burnt", "overbake", one.not_measured)
    value = f"{max(one.overbake, 0):.1f} sd"
    if one.overbake > OVERBAKE:
        return Gate("Not burnt", "warn", value, "Colour, contrast or sharpness are overdone.")
    return Gate("Not burnt", "pass", value, "Colour, contrast and sharpness are within reason.")


def _lowest(results: Results) -> HeldOutLoss | None:
    measured = [one.held_out for one in results.checkpoints if one.held_out is not None]
    return min(measured, key=lambda loss: loss.value) if measured else None


def _held_out(one: CheckpointResult, best: HeldOutLoss | None) -> Gate:
    if one.held_out is None or best is None:
        return _unknown("Held-out loss", "held_out", one.not_measured)
    value = f"{100 * one.held_out.value:+.1f} %".replace("-", "−")
    error = one.held_out.standard_error or 0.0
    if one.held_out.value > max(2 * error, 0.005):
        return Gate("Held-out loss", "fail", value, "It predicts new pictures of the style worse than the base.")
    behind, error_behind = worse_by(one.held_out, best)
    if error_behind is not None and behind > max(2 * error_behind, 1e-4):
        says = "Behind the run's lowest by more than chance: not learnt yet, or learnt by heart."
        return Gate("Held-out loss", "warn", value, says)
    return Gate("Held-out loss", "pass", value, "As good as the lowest of the run.")
