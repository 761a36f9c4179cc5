"""The choice: gates first, then the earliest of what cannot be told apart, and no pretending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from velatura.evaluation.choose import choose, smoothing
from velatura.evaluation.copies import CopyCheck, wilson
from velatura.evaluation.diversity import Diversity
from velatura.evaluation.gates import gates, passes
from velatura.evaluation.heldout import HeldOutLoss
from velatura.evaluation.results import BaseResult, CheckpointResult, Results, Sample
from velatura.evaluation.separability import Separability
from velatura.evaluation.style import StyleScore

RISING = (0.1, 0.3, 0.55, 0.75, 0.85, 0.9, 0.92, 0.93)
"""Style of a run's checkpoints."""
FALLING = (1.0, 1.0, 0.98, 0.96, 0.9, 0.75, 0.5, 0.2)
"""Adherence of a run that collapses in the end."""


def checkpoint(
    step: int, *, style: float | None, adherence: float | None, copied: int = 0, held_out: float | None = -0.02
) -> CheckpointResult:
    # Pictures of hard prompts are hard for every checkpoint, and each has its own luck besides.
    scatter = np.random.default_rng(3).normal(0, 0.08, 24) + np.random.default_rng(step).normal(0, 0.05, 24)
    scatter -= scatter.mean()
    return CheckpointResult(
        step=step,
        path=f"checkpoints/step-{step:06}",
        style=None
        if style is None
        else StyleScore({"palette": style}, style, None, tuple(float(style + one) for one in scatter), 4),
        separability=None
        if adherence is None
        else Separability(
            adherence * 5 / 6 + 1 / 6, 1.0, 1 / 6, adherence, None, (adherence * 5 / 6 + 1 / 6,) * 4, (1.0,) * 4
        ),
        copies=CopyCheck(copied, 12, wilson(copied, 12), 0, 0.0),
        held_out=None
        if held_out is None
        else HeldOutLoss(held_out, 0.001, None, {}, tuple(held_out + 0.001 * one for one in (-1, 0, 1, 2, -2))),
        samples=(Sample(f"samples/{step}-0.png", "a boat", 1),),
    )


def run(styles: Sequence[float | None], adherences: Sequence[float | None], **same: float | None) -> Results:
    return Results(
        BaseResult("pocket"),
        tuple(
            checkpoint(40 * (index + 1), style=style, adherence=adherence, **same)  # type: ignore[arg-type]
            for index, (style, adherence) in enumerate(zip(styles, adherences, strict=True))
        ),
    )


def test_the_best_compromise_wins_not_the_last_and_not_the_strongest() -> None:
    choice = choose(run(RISING, FALLING))

    assert choice.step in (160, 200)
    assert choice.step in choice.tied
    assert sum(choice.probability.values()) == pytest.approx(1)
    assert choice.basis == "style and adherence"


def test_of_checkpoints_that_tie_the_earliest_is_taken() -> None:
    choice = choose(run([0.2, 0.5, 0.8, 0.8, 0.8, 0.8], [1.0] * 6))

    assert choice.tied[0] == choice.step
    assert choice.step in (120, 160)
    assert len(choice.tied) > 1
    assert any("cannot be told apart" in reason for reason in choice.reasons)


def test_where_style_cannot_be_told_the_held_out_loss_decides() -> None:
    results = run([-0.2, -0.1, -0.3], [1.0] * 3, held_out=-0.2)
    wide = tuple(
        replace(
            one,
            style=replace(one.style, interval=(-1.3, 0.9)),
            held_out=replace(one.held_out, value=value, per_image=(value,) * 5),
        )
        for one, value in zip(results.checkpoints, (-0.1, -0.2, -0.3), strict=True)
        if one.style is not None and one.held_out is not None
    )

    choice = choose(replace(results, checkpoints=wide))

    assert choice.basis == "held-out loss"
    assert choice.step == 120
    assert any("unlike each other" in warning for warning in choice.warnings)
    assert not any("of the way" in reason or "% of the" in reason for reason in choice.reasons)


def test_a_run_that_learnt_nothing_is_refused() -> None:
    choice = choose(run([0.0, 0.02, -0.03, 0.05], [1.0] * 4))

    assert choice.step is None
    assert choice.probability == {}
    assert choice.reasons == (
        "Every checkpoint fails a check.",
        "Steps 40, 80, 120 and 160: hardly any of the style has been learnt.",
        "Train longer, or raise the learning rate.",
    )


def test_a_run_that_collapsed_is_refused_though_its_style_is_perfect() -> None:
    assert choose(run([1.0] * 5, [0.2] * 5)).step is None


def test_a_run_that_copies_is_refused() -> None:
    assert choose(run(RISING, [1.0] * 8, copied=8)).step is None


def test_copies_that_captions_explain_are_a_warning_and_more_than_those_a_refusal() -> None:
    def status(flagged: int, caption_rate: float) -> str:
        results = run([0.8], [1.0])
        check = CopyCheck(flagged, 16, wilson(flagged, 16), 0, 0.0, caption_rate=caption_rate)
        (checks,) = gates(replace(results, checkpoints=(replace(results.checkpoints[0], copies=check),))).values()
        return next(gate.status for gate in checks if gate.name == "Own pictures")

    assert status(10, 0.0) == "fail"
    assert status(10, wilson(3, 4)[0]) == "warn"
    assert status(14, wilson(3, 4)[0]) == "fail"


def test_a_set_of_one_hue_is_warned_of_its_colours_instead_of_failed() -> None:
    results = replace(run([0.8] * 3, [0.4] * 3), colour_spread=0.1)

    choice = choose(results)

    assert choice.step == 40
    assert any("set's own colours" in warning for warning in choice.warnings)


def test_of_a_set_without_colours_the_colours_asked_for_do_not_hold_back_the_style() -> None:
    results = run([0.5, 0.65, 0.9], [1.0, 0.8, 0.6])

    assert choose(replace(results, colour_spread=0.9)).step == 80
    assert choose(replace(results, colour_spread=0.05)).step == 120


def test_a_checkpoint_that_copies_does_not_lift_its_neighbours() -> None:
    results = run([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [1.0] * 6)
    memorised = replace(
        results.checkpoints[3],
        style=StyleScore({}, 1.0, None, (1.0,) * 24),
        copies=CopyCheck(12, 12, wilson(12, 12), 0, 0.0),
    )
    results = replace(results, checkpoints=(*results.checkpoints[:3], memorised, *results.checkpoints[4:]))

    choice = choose(results)

    assert choice.step == 40
    assert 160 not in choice.probability
    assert any("Ruled out: step 160" in reason for reason in choice.reasons)


def test_worse_than_the_base_on_pictures_it_never_saw_rules_out() -> None:
    results = run([0.9] * 3, [1.0] * 3, held_out=0.05)

    assert choose(results).step is None


def test_without_style_the_held_out_loss_decides_and_says_so() -> None:
    results = run([None] * 4, [None] * 4)
    losses = (-0.01, -0.02, -0.015, -0.005)
    measured = tuple(
        replace(one, held_out=HeldOutLoss(loss, 0.0001, None, {}, (loss,) * 5), not_measured={"style": "no pictures"})
        for one, loss in zip(results.checkpoints, losses, strict=True)
    )

    choice = choose(replace(results, checkpoints=measured))

    assert (choice.step, choice.basis) == (80, "held-out loss")
    assert any("held-out loss decided" in reason for reason in choice.reasons)
    assert "Style: not measured. No pictures." in choice.warnings


def test_nothing_measured_means_nothing_named() -> None:
    reason = "Only 4 pictures: none was held out."
    results = replace(run([None] * 2, [None] * 2, held_out=None), not_measured={"Held-out loss": reason})

    choice = choose(results)

    assert choice.step is None and choice.basis == ""
    assert f"Held-out loss: not measured. {reason}" in choice.reasons


def test_what_was_not_measured_is_said_beside_a_choice() -> None:
    choice = choose(run([0.3, 0.6], [None] * 2, held_out=None))

    assert choice.basis == "style"
    assert any(warning.startswith("Held-out loss: not measured") for warning in choice.warnings)
    assert any("ignores prompts" in warning for warning in choice.warnings)


def test_a_taste_for_flexibility_moves_the_choice_earlier() -> None:
    strong = choose(run(RISING, FALLING), flexibility=0.3).step
    flexible = choose(run(RISING, FALLING), flexibility=3).step

    assert strong is not None and flexible is not None and flexible < strong


def test_a_run_without_checkpoints_gives_no_choice() -> None:
    assert choose(Results(BaseResult("pocket"), ())).step is None


def test_smoothing_keeps_a_parabola_and_damps_a_spike() -> None:
    places = np.arange(8)
    matrix = smoothing(list(places))

    np.testing.assert_allclose(matrix @ (places**2 - 3 * places + 1), places**2 - 3 * places + 1, atol=1e-9)
    assert 0.2 < (matrix @ (places == 4))[4] < 0.7
    np.testing.assert_array_equal(smoothing([0, 1, 2]), np.eye(3))


def test_the_rule_loses_little_against_the_truth_and_far_less_than_taking_the_last() -> None:
    random = np.random.default_rng(11)
    regret: dict[str, list[float]] = {"rule": [], "last": []}
    for _ in range(30):
        places = np.arange(10)
        peak = random.uniform(3, 7)
        truth = 0.85 - random.uniform(0.004, 0.012) * (places - peak) ** 2 - 0.03 * np.maximum(places - peak, 0)
        noisy = random.normal(0, 0.03, 10)
        prompts = random.normal(0, 0.1, (1, 24)) + random.normal(0, 0.1, (10, 24))
        checkpoints = tuple(
            replace(
                checkpoint(index + 1, style=float(value), adherence=1.0),
                style=StyleScore({}, float(value), None, tuple(value + row - row.mean())),
            )
            for index, (value, row) in enumerate(zip(np.clip(truth + noisy, 0.2, 1), prompts, strict=True))
        )
        choice = choose(Results(BaseResult("pocket"), checkpoints))
        assert choice.step is not None
        regret["rule"].append(truth.max() - truth[choice.step - 1])
        regret["last"].append(truth.max() - truth[-1])

    assert np.mean(regret["rule"]) < 0.03
    assert np.mean(regret["rule"]) < np.mean(regret["last"]) / 5


def test_every_checkpoint_has_the_same_gates_in_the_same_order() -> None:
    results = run([0.8, None], [1.0, None])

    first, second = gates(results).values()

    assert [gate.name for gate in first] == [gate.name for gate in second]
    assert passes(second)
    assert {gate.status for gate in second if gate.name == "Style"} == {"unknown"}


@pytest.mark.parametrize(("layout", "status"), [(0.9, "pass"), (0.6, "warn"), (0.3, "fail")])
def test_variety_is_judged_by_layout_since_a_style_may_narrow_colours(layout: float, status: str) -> None:
    one = replace(checkpoint(40, style=0.8, adherence=1.0), diversity=Diversity((0.1 + layout) / 2, 0.1, layout, None))

    (checks,) = gates(Results(BaseResult("pocket"), (one,))).values()

    assert {gate.name: gate.status for gate in checks}["Variety"] == status
