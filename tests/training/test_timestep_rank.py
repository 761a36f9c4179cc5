"""Ranks that depend on the noise level (T-LoRA)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from velatura import tensorfile
from velatura.adapters.lora import Injected, LayerSpec, inject
from velatura.errors import AdapterError, RecipeError
from velatura.family import Model
from velatura.recipe import build

from .test_loop import MakeProject, Trainer


@pytest.fixture
def injected() -> Injected:
    parts = {
        "denoiser": nn.ModuleDict({"a": nn.Linear(5, 7), "b": nn.Conv2d(3, 4, 3)}),
        "text_encoder": nn.ModuleDict({"c": nn.Linear(5, 5)}),
    }
    names = ("denoiser.a", "denoiser.b", "text_encoder.c")
    found = inject(parts, [LayerSpec(name, 8, 8.0) for name in names], seed=1)
    with torch.no_grad():
        for one in found.parameters():
            one.copy_(torch.linspace(-1, 1, one.numel()).reshape(one.shape))
    return found


@pytest.mark.parametrize(("power", "golden"), [(1.0, [2, 3, 5, 8]), (2.0, [2, 2, 3, 8])])
def test_the_ranks_are_those_of_the_paper(power: float, golden: list[int], injected: Injected) -> None:
    injected.open_ranks(torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64), smallest=2, power=power)
    opened = injected.layers["denoiser.a"].open_BR
    assert opened is not None and opened.sum(dim=1).tolist() == golden
    assert all(opened[row, :count].all() for row, count in enumerate(golden)), "the first ones"
    assert injected.layers["text_encoder.c"].open_BR is None


def test_each_sample_goes_through_its_own_ranks(injected: Injected) -> None:
    for name, x in (("denoiser.a", torch.randn(2, 3, 5)), ("denoiser.b", torch.randn(2, 3, 6, 6))):
        layer = injected.layers[name]
        with injected.step(0):
            injected.open_ranks(torch.tensor([0.0, 1.0]), smallest=2, power=1.0)
            together = layer(x)
        whole = layer(x)
        torch.testing.assert_close(together[1], whole[1])
        assert (together[0] - whole[0]).abs().max() > 1e-2
        with torch.no_grad():
            kept = layer.own["up"].clone()
            layer.own["up"][:, 2:] = 0
            torch.testing.assert_close(together[0], layer(x)[0])
            layer.own["up"].copy_(kept)


def test_samples_in_one_piece_are_refused(injected: Injected) -> None:
    injected.open_ranks(torch.tensor([0.0, 1.0]), smallest=2, power=1.0)
    with pytest.raises(AdapterError, match="in one piece"):
        injected.layers["denoiser.a"](torch.randn(1, 6, 5))


def test_training_with_it_changes_the_last_channels_less(make_project: MakeProject, model: Model) -> None:
    def last_channels(*told: str) -> float:
        trainer = Trainer(make_project("train.steps=2", "train.clip=0", *told), model)
        trainer.finish()
        saved, _ = tensorfile.read(trainer.run.checkpoints()[-1].state)
        found = [np.abs(tensorfile.as_float32(one)[:, -1]).sum() for name, one in saved.items() if CHANGED(name)]
        return float(sum(found))

    assert last_channels("adapter.timestep_rank=1") < 0.7 * last_channels()


CHANGED: Callable[[str], bool] = lambda name: name.startswith("exp_avg/") and name.endswith(".up")  # noqa: E731


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (["adapter.timestep_rank=2", "adapter.kind=loha"], "ranks of a LoRA"),
        (["adapter.timestep_rank=32"], "more than adapter.rank"),
        (["adapter.timestep_power=2"], "only with adapter.timestep_rank"),
    ],
)
def test_what_it_cannot_be_with_is_refused(told: list[str], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        build({}, told)
