"""A frozen base in 8 or 4 bits: how far every family's predictions and adapters' gradients are from the plain ones."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor, nn

from tests.contracts.test_swapped import computed, injected, living
from tests.contracts.test_swapped import loaded as loaded
from velatura.adapters.lora import LoraLayer
from velatura.errors import MissingExtra
from velatura.family import Model
from velatura.weights.quantise import Kind, nbytes, packed, quantise
from velatura.weights.remade import Layer, plain, remake, stored, weight_of

KINDS: tuple[Kind, ...] = ("int8", "int4", "fp8")

WEIGHTS = {"int8": 0.008, "int4": 0.1, "fp8": 0.03}
"""Error of a normally distributed weight, as a share of its size."""

PREDICTION = {"int8": 0.03, "int4": 0.35, "fp8": 0.12}
GRADIENT = {"int8": 0.06, "int4": 0.65, "fp8": 0.24}
"""Errors as shares of the size, at random weights: those of a trained network are smaller."""


@pytest.fixture(autouse=True)
def package() -> None:
    pytest.importorskip("bitsandbytes")


def share(found: list[Tensor], expected: list[Tensor]) -> float:
    """The error of several tensors together, as a share of their size."""
    error = sum(float((a - b).square().sum()) for a, b in zip(found, expected, strict=True))
    return float(error / sum(float(b.square().sum()) for b in expected)) ** 0.5


def linears(network: nn.Module) -> dict[str, nn.Linear]:
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Linear)}


def layers(network: nn.Module) -> dict[str, Layer]:
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}


def restore(network: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, layer in layers(network).items():
        if stored(layer) is not None:
            plain(layer, weights[f"{name}.weight"])


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_and_gradients_are_near_the_plain_ones_and_those_of_the_weights_multiplied_out(
    loaded: Model, kind: Kind
) -> None:
    network = loaded.parts["denoiser"]
    weights = dict(network.state_dict())
    with injected(loaded) as beside:
        expected = computed(loaded, beside)
    done = quantise(network, kind, smallest=0)
    assert len(done.layers) > 10
    with injected(loaded) as beside:
        found = computed(loaded, beside)
    assert 0 < share(found[:1], expected[:1]) < PREDICTION[kind]
    assert 0 < share(found[1:], expected[1:]) < GRADIENT[kind]
    multiplied = {f"{name}.weight": weight_of(layer) for name, layer in layers(network).items()}
    restore(network, multiplied)
    with injected(loaded) as beside:
        dense = computed(loaded, beside)
    for name, layer in layers(network).items():
        plain(layer, weights[f"{name}.weight"])
    assert share(found, dense) < 1e-6
    with injected(loaded) as beside:
        assert all(torch.equal(a, b) for a, b in zip(computed(loaded, beside), expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_is_stored_in_so_many_bits_with_so_much_error(kind: Kind, dtype: torch.dtype) -> None:
    weight = torch.randn(256, 320, generator=torch.Generator().manual_seed(0)).to(dtype)
    kept = packed(weight, kind)
    made = kept.weight()
    assert (made.dtype, made.shape) == (dtype, weight.shape)
    assert share([made.float()], [weight.float()]) < WEIGHTS[kind]
    assert 8 * kept.nbytes / weight.numel() == {"int8": 8.25, "int4": 4.5, "fp8": 8 + 32 / 320}[kind]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_numbers_that_fp8_has_are_kept_exactly_and_small_rows_do_not_vanish(dtype: torch.dtype) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    every = every[every.isfinite()]
    weight = torch.stack([every, every.flip(0), torch.zeros_like(every), every / 2**20, every * 2**5]).to(dtype)
    held = weight if dtype != torch.float16 else weight[:3]  # fp16 has neither so small numbers nor so large ones
    assert torch.equal(packed(held, "fp8").weight(), held)

    small = (torch.randn(4, 256, generator=torch.Generator().manual_seed(0)) * 1e-5).to(dtype)
    assert share([packed(small, "fp8").weight().float()], [small.float()]) < 0.04


def test_in_fp8_convolutions_rest_too(loaded: Model) -> None:
    network = loaded.parts["denoiser"]
    weights = dict(network.state_dict())
    done = set(quantise(network, "fp8", smallest=0).layers)
    inside = {name for name, one in layers(network).items() if isinstance(one, nn.Conv2d)} - {"conv_in", "conv_out"}
    assert inside <= done and not {"conv_in", "conv_out"} & done
    restore(network, weights)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_beside_a_quantised_layer_trains_as_beside_the_weight_multiplied_out(kind: Kind) -> None:
    generator = torch.Generator().manual_seed(0)
    found = []
    for dense in (False, True):
        layer = nn.Linear(96, 80).requires_grad_(False)
        layer.weight.copy_(torch.randn(80, 96, generator=generator.manual_seed(1)))
        layer.bias.copy_(torch.randn(80, generator=generator))
        kept = packed(layer.weight.detach(), kind)
        if dense:
            plain(layer, kept.weight())
        else:
            remake(layer, kept, dtype=torch.float32, device="cpu")
        beside = LoraLayer(layer, rank=3, alpha=2.0)
        with torch.no_grad():
            for parameter in (beside.down, beside.up):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        x = torch.randn(2, 7, 96, generator=generator).requires_grad_()
        y = beside(x)
        y.square().mean().backward()
        found.append([one for one in (y.detach(), x.grad, beside.down.grad, beside.up.grad) if one is not None])
    assert len(found[0]) == 4
    assert share(found[0], found[1]) < 1e-6


def test_small_and_sensitive_layers_keep_their_weights(loaded: Model) -> None:
    network = loaded.parts["denoiser"]
    weights = dict(network.state_dict())
    assert quantise(network, "int4").layers == ()  # all layers of a tiny network are small
    everything = set(linears(network))
    done = quantise(network, "int4", smallest=0)
    kept = everything - set(done.layers)
    assert kept
    assert all("embed" in name or "time_emb_proj" in name or "out" in name or "final" in name for name in kept)
    for name in done.layers:
        numbers, _ = stored(linears(network)[name]).tensors  # type: ignore[union-attr]
        modulates = ".norm" in name or "adaLN" in name
        assert (numbers.numel() < weights[f"{name}.weight"].numel()) != modulates, name
    restore(network, weights)
    assert quantise(network, "int8", smallest=0, passed_over=("",)).layers == ()


def test_it_says_how_many_bytes_there_were_and_are() -> None:
    network = nn.Sequential(nn.Linear(512, 512), nn.LayerNorm(512), nn.Linear(512, 16)).requires_grad_(False)
    done = quantise(network, "int8", smallest=10_000)
    small = 4 * (512 + 512 + 512 + 16 * 512 + 16)
    assert done.before == 4 * 512 * 512 + small
    assert done.after == 512 * 512 * 8.25 / 8 + small == nbytes(network)


def test_what_is_trained_is_not_quantised() -> None:
    assert quantise(nn.Sequential(nn.Linear(512, 512)), "int8").layers == ()


def test_quantising_and_going_back_a_hundred_times_leaves_nothing_behind() -> None:
    network = nn.Sequential(nn.Linear(64, 64)).requires_grad_(False)
    weights = dict(network.state_dict())

    def switch(times: int) -> tuple[int, int]:
        for _ in range(times):
            quantise(network, "int4", smallest=0)
            network(torch.ones(1, 64))
            restore(network, weights)
        return living()

    assert switch(100) == switch(1)


def test_without_the_package_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtra, match=r"velatura\[quantise\]"):
        quantise(nn.Sequential(), "int8")
