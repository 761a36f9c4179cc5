"""Frozen convolutions of a network at work are computed in the fastest way, and left as they were."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from velatura.weights import products, winograd
from velatura.weights.convolutions import FastConv2d, FastConvolutions, suited
from velatura.weights.quantise import quantise_layer
from velatura.weights.remade import remakable


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def learnt(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What comes out, and the gradient of what went in."""
    x = x.clone().requires_grad_()
    y = network(x)
    y.backward(drawn(*y.shape))
    assert x.grad is not None
    return y.detach(), x.grad


def network() -> nn.Sequential:
    """A convolution for a large map, one that is never worth it, and a large weight for a small map."""
    torch.manual_seed(3)
    made = nn.Sequential(
        nn.Conv2d(64, 64, 3, padding=1),
        nn.Conv2d(64, 8, 1, stride=8),
        nn.Conv2d(8, 40, 3, padding=1),
    )
    return made.requires_grad_(False)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "SMALLEST", 1)
    monkeypatch.setattr(products, "SHARE", 20)


def test_each_goes_its_way_and_the_network_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, ways = network(), drawn(2, 64, 64, 64), []
    expected = learnt(net, x)
    for module, way in ((winograd, "winograd"), (products, "product")):
        for name in ("convolved", "convolved_back"):
            own = getattr(module, name)
            monkeypatch.setattr(module, name, lambda *told, own=own, way=way: ways.append(way) or own(*told))
    with FastConvolutions(net):
        found = learnt(net, x)
    assert ways == ["winograd", "product", "product", "winograd"], "forward, and the way back"
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        assert not torch.equal(a, b)


def test_weights_that_rest_in_16_bits_go_the_same_way_to_the_same_bits() -> None:
    net, x = network(), drawn(1, 64, 64, 64)
    for layer in net:
        layer.weight.copy_(layer.weight.half())
    with FastConvolutions(net):
        expected = learnt(net[0], x)
    quantise_layer(net[0], "half")
    for a, b in zip(learnt(net[0], x), expected, strict=True):
        assert torch.equal(a, b)


def test_afterwards_the_layers_are_what_they_were_also_after_an_error() -> None:
    net = network()
    with pytest.raises(RuntimeError), FastConvolutions(net):
        assert type(net[0]) is FastConv2d
        net(drawn(1, 3, 8, 8))
    assert all(type(layer) is nn.Conv2d for layer in net)


def test_entered_twice_the_outer_one_ends_it() -> None:
    net = network()
    outer, inner = FastConvolutions(net), FastConvolutions(net)
    with outer:
        with inner:
            pass
        assert type(net[0]) is FastConv2d
    assert type(net[0]) is nn.Conv2d


def test_a_layer_whose_weight_rests_elsewhere_by_then_is_left_alone() -> None:
    net, x = network(), drawn(1, 64, 16, 16)
    fast = FastConvolutions(net)
    quantise_layer(net[0], "half")
    kind = type(net[0])
    with fast:
        assert type(net[0]) is kind
        net(x)
    assert type(net[0]) is kind


def test_a_layer_whose_weight_comes_to_rest_elsewhere_meanwhile_stays_so() -> None:
    """As where parts take turns: a network is filled at its first call, when it is at work already."""
    net, x = network(), drawn(1, 64, 16, 16)
    fast = FastConvolutions(net)
    with fast:
        assert remakable(net[0])
        quantise_layer(net[0], "half")
        kind, expected = type(net[0]), net(x)
    assert type(net[0]) is kind and type(net[2]) is nn.Conv2d
    assert torch.isfinite(expected).all()
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-4)


def test_layers_that_are_trained_or_not_in_fp32_stay_as_they_are() -> None:
    assert not suited(nn.Conv2d(64, 64, 3, padding=1))
    assert not suited(nn.Conv2d(64, 64, 3, padding=1, dtype=torch.bfloat16).requires_grad_(False))
    assert suited(nn.Conv2d(64, 64, 3, padding=1).requires_grad_(False))
