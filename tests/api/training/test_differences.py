"""What differs between two runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from velatura import run as runs
from velatura.api.training.differences import diff
from velatura.recipe import build
from velatura.run import Run


def line(name: str, sha: str, *captions: str, split: str = "train") -> str:
    return json.dumps({"name": name, "sha256": sha, "captions": captions, "split": split, "bucket": [64, 64]})


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Run, Run]:
    made = {"velatura": "1", "torch": "2.6", "system": "Linux x86_64", "base_hash": "a", "seed": 1}
    first = runs.create(
        tmp_path,
        build({}, ["train.steps=100"]),
        provenance=made,
        dataset_lines=[line("a.png", "1", "a boat"), line("b.png", "2", "a cat"), line("c.png", "3", "old")],
    )
    second = runs.create(
        tmp_path,
        build({}, ["train.steps=200", "adapter.targets=['text']"]),
        provenance=made | {"torch": "2.11", "parent": {"run": first.path.name, "step": 5}},
        dataset_lines=[
            line("a.png", "1", "a red boat"),
            line("b.png", "9", "a cat"),
            line("d.png", "4", "new", split="held out"),
        ],
    )
    (first.path / "result.json").write_text(json.dumps({"step": 75, "chosen": True, "reasons": ["lowest"]}))
    evaluation = {"checkpoints": [{"step": 75, "held_out": {"value": -0.02}}]}
    (first.path / "evaluation.json").write_text(json.dumps(evaluation))
    return first, second


def test_settings_pictures_captions_environment_and_verdict_are_told(pair: tuple[Run, Run]) -> None:
    found = diff(*pair)
    assert found.settings == {"train.steps": (100, 200), "adapter.targets": (["attention+mlp"], ["text"])}
    assert found.pictures == {
        "b.png": ("train", "train, another picture"),
        "c.png": ("train", None),
        "d.png": (None, "held out"),
    }
    assert found.captions == {"a.png": (["a boat"], ["a red boat"])}
    assert set(found.environment) == {"torch", "parent"}
    assert found.verdict["state"] == ("finished", "stopped")
    assert found.verdict["step"] == (75, None) and found.verdict["held-out loss"] == (-0.02, None)


def test_a_run_does_not_differ_from_itself(pair: tuple[Run, Run]) -> None:
    found = diff(pair[0], pair[0])
    assert not (found.settings or found.pictures or found.captions or found.environment)
    assert all(before == after for before, after in found.verdict.values())
