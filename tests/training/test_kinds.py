"""Every kind of adapter in a run: gone on with exactly, read back from its file, per-layer settings heeded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.training.test_loop import Trainer
from velatura.adapters import formats
from velatura.adapters.kinds import Dora, Loha, Lokr
from velatura.adapters.layers import shapes
from velatura.adapters.trainable import LAYERS
from velatura.adapters.weights import Lora
from velatura.errors import RecipeError
from velatura.events import Checkpoint
from velatura.family import Model
from velatura.training.adapter import specs

MakeProject = Callable[..., Path]
SHORT = ("train.steps=4", "checkpoints.every=2", "adapter.dropout=0.4", 'adapter.targets=["all", "text"]')
DATA = {"lora": Lora, "locon": Lora, "dora": Dora, "loha": Loha, "lokr": Lokr}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_run_gone_on_with_is_the_uninterrupted_one(
    kind: str, make_project: MakeProject, model: Model, tmp_path: Path
) -> None:
    settings = (*SHORT, f"adapter.kind={kind}", "adapter.rslora=true", "adapter.conv_rank=2")
    whole = Trainer(make_project(*settings), model).finish()
    halved = Trainer(make_project(*settings), model)
    for event in halved.events():
        halved.run.append(event)
        if isinstance(event, Checkpoint):
            break
    assert halved.finish() == whole

    path = halved.run.checkpoints()[-1].adapter
    adapter = formats.read(path, keys=model.family.keys, layers=shapes(model.trainable_parts))
    found = set(map(type, adapter.layers.values()))
    assert found == {DATA[kind]} and all(change.finite for change in adapter.layers.values())
    changed = [change for change in adapter.layers.values() if kind != "dora" and np.abs(change.delta()).max() > 0]
    assert kind == "dora" or len(changed) > len(adapter.layers) / 2
    if kind == "locon":
        assert any(change.mid is not None for change in adapter.layers.values())


def test_ranks_alphas_and_rates_of_single_layers(make_project: MakeProject, model: Model) -> None:
    trained = Trainer(
        make_project(
            "train.steps=2",
            "adapter.rank=4",
            "adapter.alpha=2.0",
            "adapter.conv_rank=3",
            'adapter.targets=["all"]',
            'adapter.ranks=["*.to_q=6", "*.to_v=0"]',
            'train.rates=["*.to_k=0.0"]',
        ),
        model,
    )
    told = {spec.name: spec for spec in specs(trained.recipe, model)}
    kernels = {name for name, shape in shapes(model.trainable_parts).items() if shape[2:] == (3, 3)}
    for name, spec in told.items():
        expected = 6 if name.endswith("to_q") else 3 if name in kernels else 4
        assert (spec.rank, spec.alpha) == (expected, expected / 2), name
    assert not any(name.endswith("to_v") for name in told) and any(name in kernels for name in told)

    trained.finish()
    path = trained.run.checkpoints()[-1].adapter
    adapter = formats.read(path, keys=model.family.keys, layers=shapes(model.trainable_parts))
    for name, change in adapter.layers.items():
        assert (np.abs(change.delta()).max() > 0) == (not name.endswith("to_k")), name


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ('adapter.ranks=["*.to_q=2.5"]', "no pattern with a number"),
        ('adapter.ranks=["to_q"]', "no pattern with a number"),
        ('adapter.ranks=["*.nowhere=2"]', "called like"),
        ('train.rates=["*.to_q=-1"]', "no pattern with a number"),
    ],
)
def test_what_cannot_be_meant_is_refused(setting: str, sentence: str, make_project: MakeProject, model: Model) -> None:
    with pytest.raises(RecipeError, match=sentence):
        specs(Trainer(make_project(setting), model).recipe, model)
