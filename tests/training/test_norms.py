"""The size of a LoRA's changes, and its limit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from velatura.adapters.lora import Injected, LayerSpec, inject
from velatura.training import norms


@pytest.fixture
def injected() -> Injected:
    parts = {"denoiser": nn.ModuleDict({"a": nn.Linear(5, 7), "b": nn.Conv2d(3, 4, 3)})}
    found = inject(parts, [LayerSpec("denoiser.a", 2, 3.0), LayerSpec("denoiser.b", 2, 1.0)], seed=1)
    with torch.no_grad():
        for one in found.parameters():
            one.copy_(torch.linspace(-1, 2, one.numel()).reshape(one.shape))
    return found


def dense(injected: Injected, name: str) -> torch.Tensor:
    layer = injected.layers[name]
    up, down = (layer.own[which].detach().flatten(1) for which in ("up", "down"))
    return up @ down * (layer.alpha / layer.rank)


def test_the_norm_is_that_of_the_whole_change(injected: Injected) -> None:
    for name, layer in injected.layers.items():
        assert norms.norm(layer) == pytest.approx(float(dense(injected, name).norm()), rel=1e-5)  # type: ignore[arg-type]


def test_larger_changes_are_shrunk_to_the_limit_and_smaller_ones_left(injected: Injected) -> None:
    before = {name: dense(injected, name) for name in injected.layers}
    sizes = {name: float(one.norm()) for name, one in before.items()}
    most = sum(sizes.values()) / 2
    norms.limit(injected, most)
    for name, one in before.items():
        expected = one * min(1.0, most / sizes[name])
        torch.testing.assert_close(dense(injected, name), expected)
    assert min(sizes.values()) < most < max(sizes.values())
