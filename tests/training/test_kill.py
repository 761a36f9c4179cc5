"""A training that is killed outright, again and again, ends in the very bytes of one left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks import kill
from velatura import run as runs
from velatura.api import train

MakeProject = Callable[..., Path]


def test_kills_change_nothing_and_leave_nothing_half_written(make_project: MakeProject) -> None:
    # the text encoder is trained too, so that captions are encoded in each step
    report = kill.disturb(make_project("adapter.targets=['attention+mlp', 'text']"), kills=8, judged=False)
    assert report.kills == 8
    assert report.trainings >= 1


def test_what_the_killing_compares_would_show_a_difference(make_project: MakeProject) -> None:
    """Another seed changes the adapters, the states and the pictures."""
    project = make_project("train.steps=3")
    for override in ((), ("train.seed=2",)):
        for event in train(project, overrides=override):
            if getattr(event, "stage", None) == "judging":
                break
    one, other = runs.runs_of(project)
    for pattern in ("adapter.safetensors", "state.safetensors"):
        assert (one.checkpoints()[-1].path / pattern).read_bytes() != (
            other.checkpoints()[-1].path / pattern
        ).read_bytes()
    name = "samples/step-000003.png"
    assert (one.path / name).read_bytes() != (other.path / name).read_bytes()
