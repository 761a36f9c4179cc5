"""Products with large frozen weights: piece by piece and as one matrix they are what torch makes of the whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from velatura.weights import products, remade
from velatura.weights.convolutions import FastConvolutions
from velatura.weights.products import as_matrix, convertible
from velatura.weights.quantise import quantise_layer


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of a test are large, and in several pieces."""
    torch.set_num_threads(1)
    monkeypatch.setattr(products, "SMALLEST", 1)
    monkeypatch.setattr(products, "SHARE", 1)
    monkeypatch.setattr(products, "PIECE", 16 * 9 * 20)
    monkeypatch.setattr(products, "ALIGNED", 4)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def learnt(layer: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """What comes out, and the gradient of what went in."""
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(drawn(*y.shape))  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return y.detach(), x.grad


def equal(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.is_contiguous()
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


CONVOLUTIONS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (3, 2), "padding": (0, 1), "bias": False},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
]


@pytest.mark.parametrize("rests", ["in fp32", "in 16 bits"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("told", CONVOLUTIONS)
def test_a_convolution_as_one_matrix_is_the_same(told: dict[str, object], count: int, rests: str) -> None:
    layer = nn.Conv2d(20, 56, **told).requires_grad_(False)  # type: ignore[arg-type]
    layer.weight.copy_(layer.weight.half())
    x_BCHW = drawn(count, 20, 5, 7)
    expected = learnt(layer, x_BCHW)
    if rests == "in 16 bits":
        quantise_layer(layer, "half")
    else:
        FastConvolutions(layer).__enter__()
    assert as_matrix(layer, x_BCHW.shape, x_BCHW)
    equal(learnt(layer, x_BCHW), expected)


@pytest.mark.parametrize(("inside", "outside"), [(60, 203), (203, 60)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_piece_by_piece_is_the_same(inside: int, outside: int, bias: bool) -> None:
    layer = nn.Linear(inside, outside, bias=bias).requires_grad_(False)
    layer.weight.copy_(layer.weight.half())
    x_BLD = drawn(2, 9, inside)
    expected = learnt(layer, x_BLD)
    quantise_layer(layer, "half")
    kept = remade.stored(layer)
    assert kept is not None
    assert [min(piece.shape) for _, piece in kept.pieces(layer.weight.shape)] == [48, 48, 48, 48, 11]
    equal(learnt(layer, x_BLD), expected)


def test_a_piece_takes_no_more_room_than_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    lent: list[int] = []
    own = remade.lent_space
    monkeypatch.setattr(
        "velatura.weights.quantise.lent_space", lambda shape, *told: lent.append(shape.numel()) or own(shape, *told)
    )
    layer = nn.Linear(60, 203).requires_grad_(False)
    quantise_layer(layer, "half")
    learnt(layer, drawn(4, 60))
    assert sum(lent) == 2 * 60 * 203 and max(lent) <= products.PIECE


def test_space_that_painting_was_lent_is_of_use_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remade, "_LENT", remade._Lent())
    layer = nn.Linear(60, 203).requires_grad_(False)
    quantise_layer(layer, "half")
    with torch.inference_mode():
        expected = layer(drawn(4, 60))
    assert torch.equal(layer(drawn(4, 60)), expected)


def test_only_large_weights_and_small_maps_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Conv2d(8, 8, 3, padding=1).requires_grad_(False)
    small, large = drawn(1, 8, 2, 2), drawn(1, 8, 32, 32)
    assert as_matrix(layer, small.shape, small)
    assert not as_matrix(layer, large.shape, large)
    assert not as_matrix(layer, small.shape, small.double())
    monkeypatch.setattr(products, "SHARE", 200)
    assert not as_matrix(layer, small.shape, small)
    monkeypatch.setattr(products, "SHARE", 1)
    monkeypatch.setattr(products, "SMALLEST", 1000)
    assert not as_matrix(layer, small.shape, small)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 1),
        nn.Conv2d(8, 8, 3, padding="same"),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(8, 8, 3, padding=1).to(memory_format=torch.channels_last),
    ],
)
def test_other_convolutions_stay_as_they_are(layer: nn.Conv2d) -> None:
    assert not convertible(layer)


def test_the_columns_are_those_of_the_kernel() -> None:
    """Written out for one place of the map, against a convolution that was left as it is."""
    layer = nn.Conv2d(2, 3, 3, bias=False).requires_grad_(False)
    x_BCHW = drawn(1, 2, 3, 3)
    found = products.convolved(layer, products.whole(layer.weight), x_BCHW)
    assert found.shape == (1, 3, 1, 1)
    torch.testing.assert_close(found.flatten(), (layer.weight * x_BCHW).sum((1, 2, 3)))
    torch.testing.assert_close(found, F.conv2d(x_BCHW, layer.weight))
