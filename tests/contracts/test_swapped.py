"""Blocks that wait in the host's memory: every family computes what it computes without, forward and backward."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests import tiny
from tests.contracts.test_families import adapter, told
from velatura import randomness
from velatura.adapters.lora import Injected, LayerSpec, inject
from velatura.bases import FAMILIES
from velatura.family import Model, load_base
from velatura.weights import swap as swapping
from velatura.weights.quantise import quantise
from velatura.weights.remade import stored, weight_of
from velatura.weights.swap import blocks_of, swap


@pytest.fixture(scope="module", params=list(FAMILIES))
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.set_num_threads(1)
    return load_base(tiny.BASES[request.param](tmp_path_factory.mktemp(request.param)))


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that a block leaves is full of NaN: whatever is read of it afterwards shows."""
    leave = swapping._Block.leave

    def spoilt(block: swapping._Block) -> None:
        for copies in block.copies or ():
            for copy in copies:
                copy.fill_(torch.nan if copy.is_floating_point() else 77)
        leave(block)

    monkeypatch.setattr(swapping._Block, "leave", spoilt)


def injected(model: Model) -> Injected:
    layers = {name: weights for name, weights in adapter(model, ["attention"]).items() if name.startswith("denoiser")}
    made = inject(model.trainable_parts, [LayerSpec(name, one.rank, one.alpha) for name, one in layers.items()], seed=0)
    made.load(layers)
    return made


def computed(model: Model, beside: Injected) -> list[Tensor]:
    """A prediction, the gradient of every adapter's halves and of the latents."""
    for parameter in beside.parameters():
        parameter.grad = None
    side = model.resolution // model.latent_factor
    latents_BCHW = randomness.normal((2, model.latent_channels, side, side), 1, "latents").requires_grad_()
    sigma_B = torch.full((2,), 0.7, dtype=torch.float64)
    prediction = model.family.predict(model, latents_BCHW, sigma_B, told(model, "a red boat", "a cat"))
    prediction.square().mean().backward()  # type: ignore[no-untyped-call]
    gradients = [one.grad for one in (latents_BCHW, *beside.parameters())]
    assert all(one is not None and bool(one.any()) for one in gradients)
    return [prediction.detach(), *(one for one in gradients if one is not None)]


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    return len(found) == len(expected) and all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_at_every_split_predictions_and_gradients_are_exactly_the_same(loaded: Model, checkpointing: bool) -> None:
    network: Any = loaded.parts["denoiser"]
    blocks = blocks_of(network)
    assert len(blocks) >= 4
    with injected(loaded) as beside:
        plain = computed(loaded, beside)
        if checkpointing:
            network.enable_gradient_checkpointing()
            network.train()
        try:
            for count in range(len(blocks) + 1):
                with swap(network, blocks, count, device="cpu") as swapped:
                    assert len(swapped.traffic.blocks) == count
                    for _ in range(2):  # once before it is known which block follows which, once after
                        assert same(computed(loaded, beside), plain), count
                        assert len(swapped.present) <= 2
        finally:
            network.disable_gradient_checkpointing()
            network.eval()
        assert same(computed(loaded, beside), plain)


def test_adapters_may_come_after_and_painting_needs_no_gradients(loaded: Model) -> None:
    network = loaded.parts["denoiser"]
    with injected(loaded) as beside:
        plain = computed(loaded, beside)
    with swap(network, blocks_of(network), 3, device="cpu") as swapped, injected(loaded) as beside:
        with torch.no_grad():
            side = loaded.resolution // loaded.latent_factor
            latents_BCHW = randomness.normal((2, loaded.latent_channels, side, side), 1, "latents")
            sigma_B = torch.full((2,), 0.7, dtype=torch.float64)
            painted = loaded.family.predict(loaded, latents_BCHW, sigma_B, told(loaded, "a red boat", "a cat"))
        assert torch.equal(painted, plain[0])
        assert same(computed(loaded, beside), plain)
        assert swapped.resting > 0


def test_the_next_block_is_on_its_way_before_it_is_asked_for(loaded: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    network = loaded.parts["denoiser"]
    awaited: list[int] = []
    fetch = swapping._Traffic.fetch

    def noted(traffic: swapping._Traffic, number: int, layer: int) -> tuple[Tensor, ...]:
        if traffic.blocks[number].copies is None:
            awaited.append(number)
        return fetch(traffic, number, layer)

    monkeypatch.setattr(swapping._Traffic, "fetch", noted)
    blocks = blocks_of(network)
    with injected(loaded) as beside, swap(network, blocks, len(blocks), device="cpu"):
        computed(loaded, beside)
        assert awaited
        computed(loaded, beside)
        awaited.clear()
        computed(loaded, beside)
        assert len(awaited) <= 1  # where training has skipped blocks that no gradient passes through


def test_what_is_stored_of_quantised_layers_is_swapped(loaded: Model, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    network = loaded.parts["denoiser"]
    before = {name: one for name, one in network.state_dict().items()}
    quantise(network, "int8", smallest=0)
    try:
        with injected(loaded) as beside:
            plain = computed(loaded, beside)
            blocks = blocks_of(network)
            for count in (1, len(blocks)):
                with swap(network, blocks, count, device="cpu"):
                    assert same(computed(loaded, beside), plain)
            assert same(computed(loaded, beside), plain)
    finally:
        unquantised(network, before)


def unquantised(network: nn.Module, weights: dict[str, Tensor]) -> None:
    from velatura.weights.remade import plain

    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and stored(layer) is not None:
            plain(layer, weights[f"{name}.weight"])


def living() -> tuple[int, int]:
    """How many tensors there are, and their bytes."""
    gc.collect()
    sizes = [one.untyped_storage().nbytes() for one in gc.get_objects() if issubclass(type(one), Tensor)]
    return len(sizes), sum(sizes)


def test_a_hundred_switches_leave_nothing_behind(loaded: Model) -> None:
    network = loaded.parts["denoiser"]
    blocks = blocks_of(network)

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]

    def switch() -> None:
        with swap(network, blocks, len(blocks), device="cpu"):
            for layer in layers:
                weight_of(layer)

    weights = {name: tensor.data_ptr() for name, tensor in network.state_dict().items()}
    switch()
    before = living()
    for _ in range(100):
        switch()
    assert living() == before
    assert {name: tensor.data_ptr() for name, tensor in network.state_dict().items()} == weights


def test_what_is_forgotten_while_it_is_swapped_is_gone_at_once() -> None:
    gc.disable()
    try:
        network = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8)) for _ in range(3))).requires_grad_(False)
        swapped = swap(network, list(network), 3, device="cpu")
        network(torch.ones(1, 8))
        watched = [weakref.ref(one) for block in swapped.traffic.blocks for rests in block.rests for one in rests]
        assert len(watched) == 3
        del network, swapped
        assert all(one() is None for one in watched)
    finally:
        gc.enable()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_graphics_card_the_stream_of_copies_changes_nothing() -> None:
    network = nn.Sequential(*(nn.Sequential(nn.Linear(2048, 2048), nn.GELU()) for _ in range(6)))
    network.requires_grad_(False).to("cuda")
    x = torch.randn(64, 2048, device="cuda", requires_grad=True)
    expected = torch.autograd.grad(network(x).sum(), x)[0]
    for count in range(7):
        with swap(network, list(network), count, device="cuda"):
            for _ in range(5):
                assert torch.equal(torch.autograd.grad(network(x).sum(), x)[0], expected)


def test_a_stand_in_gives_nan_where_it_is_read_and_fails_where_it_is_written_to(loaded: Model) -> None:
    network = loaded.parts["denoiser"]
    blocks = blocks_of(network)
    layer = next(one for one in blocks[-1].modules() if isinstance(one, nn.Linear))
    own, shape = layer.weight.clone(), layer.weight.shape
    with swap(network, blocks, 1, device="cpu"):
        assert layer.weight.shape == shape
        assert bool(layer.weight.isnan().all())
        assert torch.equal(weight_of(layer), own)
        with pytest.raises(RuntimeError), torch.no_grad():
            layer.weight.copy_(own)
    assert torch.equal(layer.weight, own)
