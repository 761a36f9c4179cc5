"""What `velatura plan` measures works for every family, with and without text encoders and checkpointing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny
from velatura import recipe
from velatura.api.training.calibrating import Trial, design, probe
from velatura.family import load_base


@pytest.mark.parametrize("family", sorted(tiny.BASES))
def test_every_family_can_be_measured(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("velatura.api.training.calibrating.LONG_ENOUGH", 0.0)
    model = load_base(tiny.BASES[family](tmp_path / "base"))
    told = recipe.build({"version": recipe.NEWEST, "train": {"threads": 1}})

    plain = probe(model, told, Trial(64, 1, 2))
    again = probe(model, told, Trial(64, 1, 2, checkpointing=True))

    assert plain.cpu > 0 and plain.wall > 0 and plain.forward > 0 and plain.decode > 0 and plain.encode > 0
    assert plain.case.weights == again.case.weights > 0 == plain.case.text_weights
    assert not again.forward
    if any(trial.text for trial in design(model, told)):
        assert probe(model, told, Trial(64, 1, 2, text=True)).case.text_weights > 0
