"""A denoiser compiled block by block, and laid out with channels last."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from velatura import tensorfile
from velatura.errors import RecipeError
from velatura.family import Model
from velatura.recipe import TrainSettings
from velatura.training.pace import Faster, channels_last, freed_memory_kept
from velatura.weights import products

from .test_loop import MakeProject, Trainer


@pytest.fixture
def trainer(make_project: MakeProject, model: Model) -> Callable[..., Trainer]:
    return lambda *settings: Trainer(make_project("train.steps=2", "train.batch=1", "train.clip=0", *settings), model)


def averages(trained: Trainer) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    saved, _ = tensorfile.read(trained.run.checkpoints()[-1].state)
    return {name: tensorfile.as_float32(one) for name, one in saved.items() if name.startswith("exp_avg/")}


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch looks at one itself
def test_a_compiled_denoiser_trains_the_same(trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and differentiated by torch's compiler; without its code generator, which takes minutes, and but for two
    blocks, one with attention, as each takes seconds."""
    plain, compile_ = trainer("train.steps=1"), torch.compile
    plain.finish()
    called = []

    def counting(function: object) -> object:
        called.append(function)
        if len(called) not in (2, 9):
            return function
        return compile_(function, backend="aot_eager")  # type: ignore[call-overload]

    monkeypatch.setattr(torch, "compile", counting)
    other = trainer("train.steps=1", "train.compile=true")
    other.finish()
    assert len(called) == 9, "each block of the denoiser"
    for name, one in averages(plain).items():
        assert np.allclose(averages(other)[name], one, atol=1e-6 + 1e-4 * np.abs(one).max()), name
    blocks = other.model.parts["denoiser"].modules()
    assert all(block._compiled_call_impl is None for block in blocks), "painting is not compiled"


def test_weights_that_are_not_in_place_are_not_compiled(model: Model) -> None:
    quantised = replace(model, policy=replace(model.policy, quantised="int8"))
    with pytest.raises(RecipeError, match="weights are all in place"):
        Faster(quantised, compiled=True)


def test_channels_last_is_a_layout_and_changes_no_number(model: Model) -> None:
    denoiser = model.parts["denoiser"]
    before = {name: one.clone() for name, one in denoiser.state_dict().items()}
    channels_last(model, TrainSettings(channels_last=True))
    weight = denoiser.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    assert all(torch.equal(one, before[name]) for name, one in denoiser.state_dict().items())
    denoiser.to(memory_format=torch.contiguous_format)
    with pytest.raises(RecipeError, match="no convolutions"):
        channels_last(replace(model, parts={"denoiser": torch.nn.Linear(2, 2)}), TrainSettings(channels_last=True))


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"),
    reason="of the GNU C library",
)
def test_memory_that_a_step_frees_is_there_for_the_next_one_without_the_system() -> None:
    import resource

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(4):
            torch.ones(16 << 20)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    pages = 4 * (64 << 20) // 4096
    with freed_memory_kept():
        faults()
        assert faults() < pages / 50
    assert faults() > pages / 4, "afterwards all is as it was"


def test_large_convolutions_of_small_maps_are_products_of_matrices(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, used = trainer("train.steps=1"), []
    plain.finish()
    monkeypatch.setattr(products, "SMALLEST", 1)
    monkeypatch.setattr(products, "SHARE", 1)
    made = products.convolved
    monkeypatch.setattr(products, "convolved", lambda layer, *told: used.append(layer) or made(layer, *told))
    other = trainer("train.steps=1")
    other.finish()
    assert len(used) > 10 and all(type(layer) is torch.nn.Conv2d for layer in used), "afterwards as they were"
    for name, one in averages(plain).items():
        assert np.allclose(averages(other)[name], one, atol=1e-6 + 1e-4 * np.abs(one).max()), name
