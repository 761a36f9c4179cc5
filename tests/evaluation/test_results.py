"""The results file: everything comes back as it went, and nothing of the machine is in it."""

from __future__ import annotations

import json

import pytest

from velatura.errors import RunError
from velatura.evaluation import results
from velatura.evaluation.copies import CopyCheck
from velatura.evaluation.diversity import Diversity
from velatura.evaluation.heldout import HeldOutLoss, Reliance
from velatura.evaluation.results import BaseResult, CheckpointResult, Results, Sample
from velatura.evaluation.separability import Separability
from velatura.evaluation.style import StyleScore


def full() -> Results:
    sample = Sample("samples/000040-00.png", 'a <b>boat</b> & "sea"', 7, "dataset/03.png", 0.91, True)
    loss = HeldOutLoss(-0.02, 0.001, (-0.03, -0.01), {"detail": -0.01}, (-0.02, -0.02))
    return Results(
        base=BaseResult("pocket", (Sample("samples/base-00.png", "a boat", 7),)),
        checkpoints=(
            CheckpointResult(
                step=40,
                path="checkpoints/step-000040",
                held_out=loss,
                training=loss,
                style=StyleScore({"palette": 0.5, "edges": None}, 0.5, (0.4, 0.6), (0.5,)),
                reliance=Reliance(0.1, 0.2, 0.5, None, (0.1,), (0.2,)),
                separability=Separability(0.9, 1.0, 0.25, 0.87, (0.8, 1.0), (0.9,), (1.0,), ((2, 0), (0, 2)), ("red",)),
                diversity=Diversity(0.9, 0.8, 1.0, None),
                copies=CopyCheck(1, 12, (0.01, 0.3), 0, 0.0, (3,)),
                overbake=0.3,
                leak=0.9,
                samples=(sample,),
            ),
            CheckpointResult(step=80, path="checkpoints/step-000080", not_measured={"style": "No pictures."}),
        ),
        held_out=(Sample("dataset/05.png", "a house"),),
        training_count=16,
        colour_spread=0.6,
        settings={"steps": "80"},
        not_measured={"Leak": "No trigger word."},
    )


def test_results_come_back_from_their_file_as_they_were() -> None:
    text = results.to_json(full())

    assert results.from_json(text) == full()
    assert results.to_json(results.from_json(text)) == text


def test_adherence_is_the_mean_of_what_was_measured_and_never_above_one() -> None:
    first, second = full().checkpoints

    assert first.adherence == pytest.approx((0.5 + 0.87) / 2)
    assert second.adherence is None


@pytest.mark.parametrize("path", ["/home/ada/x.png", "../x.png", "C:/x.png", "samples\\x.png", ""])
def test_a_path_that_leaves_the_run_folder_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="relative"):
        Sample(path, "a boat")


def test_checkpoints_out_of_order_are_refused() -> None:
    late, early = (CheckpointResult(step=step, path="checkpoints/x") for step in (80, 40))

    with pytest.raises(ValueError, match="order of their steps"):
        Results(BaseResult("pocket"), (late, early))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"base": {"name": "pocket"}, "checkpoints": [{"step": "x"}]}'])
def test_a_damaged_file_says_so_in_one_sentence(text: str) -> None:
    with pytest.raises(RunError, match="cannot be read") as caught:
        results.from_json(text, where="runs/0001/evaluation.json")

    assert caught.value.where == "runs/0001/evaluation.json" and caught.value.fix is not None


def test_a_file_of_a_newer_format_asks_for_a_newer_version() -> None:
    text = json.dumps(json.loads(results.to_json(full())) | {"format": 99})

    with pytest.raises(RunError, match="format 99"):
        results.from_json(text)
