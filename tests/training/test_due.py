"""When checkpoints, samples and measurements are due, and when a run stops by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from velatura.recipe import build
from velatura.training.due import Due, exhausted


def steps(which: str, *overrides: str, per_epoch: int = 3) -> list[int]:
    due = Due(build({}, ["train.steps=12", "train.warmup=0", *overrides]), per_epoch)
    asked: Callable[[int], bool] = getattr(due, which)
    return [step for step in range(1, 13) if asked(step)]


def test_everything_is_due_at_each_checkpoint_and_at_the_end() -> None:
    for which in ("checkpoint", "sample", "measurement"):
        assert steps(which, "checkpoints.every=5") == [5, 10, 12]


def test_epochs_stand_in_place_of_steps() -> None:
    assert steps("checkpoint", "checkpoints.every=5", "checkpoints.every_epochs=2") == [6, 12]
    assert steps("measurement", "checkpoints.every=5", "validation.every_epochs=1") == [3, 6, 9, 12]


def test_samples_and_measurements_may_have_their_own_rhythm() -> None:
    told = ("checkpoints.every=5", "samples.every=4", "validation.every=3")
    assert steps("sample", *told) == [4, 8, 12]
    assert steps("checkpoint", *told) == [4, 5, 8, 10, 12], "what is painted is kept"
    assert steps("measurement", *told) == [3, 6, 9, 12]


@pytest.mark.parametrize(
    ("losses", "patience", "over"),
    [
        ([], 2, False),
        ([0.1], 1, False),
        ([0.1, 0.2], 1, True),
        ([0.3, 0.1, 0.2], 2, False),
        ([0.3, 0.1, 0.2, 0.15], 2, True),
        ([0.3, 0.1, 0.2, 0.05], 2, False),
        ([0.1, 0.2, 0.3, 0.4], 0, False),
    ],
)
def test_patience_counts_measurements_since_the_lowest(losses: list[float], patience: int, over: bool) -> None:
    assert exhausted(losses, patience) == over
