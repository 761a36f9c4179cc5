"""Convolutions by Winograd's transform are those of torch, but for rounding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from velatura.weights import winograd

SIZES = [(1, 1), (4, 4), (5, 7), (12, 80), (33, 20), (8, 300)]
"""Maps smaller than a tile, of whole tiles, with rests, of several blocks of tiles."""


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def off(found: Tensor, expected: Tensor) -> float:
    """The error's share of the result."""
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("last", [False, True])
def test_it_is_the_convolution_itself(height: int, width: int, last: bool) -> None:
    x_BCHW, weight, bias = drawn(2, 24, height, width), drawn(40, 24, 3, 3), drawn(40)
    told = x_BCHW.float().to(memory_format=torch.channels_last) if last else x_BCHW.float()
    found = winograd.convolved(weight.float(), bias.float(), told)
    assert off(found, F.conv2d(x_BCHW, weight, bias, padding=1)) < 3e-6
    assert found.is_contiguous(memory_format=torch.channels_last)
    without = winograd.convolved(weight.float(), None, told)
    assert off(without, F.conv2d(x_BCHW, weight, padding=1)) < 3e-6


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_its_gradient_is_the_convolutions(height: int, width: int) -> None:
    gradient, weight = drawn(2, 40, height, width), drawn(40, 24, 3, 3)
    found = winograd.convolved_back(weight.float(), gradient.float())
    assert off(found, conv2d_input((2, 24, height, width), weight, gradient, padding=1)) < 3e-6


def test_in_exact_numbers_the_transforms_lose_nothing() -> None:
    """What is off is rounding: the 6 x 6 values, the 3 x 3 kernel and the 4 x 4 outputs, one by one."""
    values, kernel, outputs = (one.double() for one in winograd.transforms())
    for place in range(9):
        weight = torch.zeros(9, dtype=torch.float64)
        weight[place] = 1
        read = torch.arange(36, dtype=torch.float64).view(6, 6) ** 2
        found = outputs @ ((values @ read.flatten()) * (kernel @ weight))
        down, across = divmod(place, 3)
        expected = read[down : down + 4, across : across + 4]
        torch.testing.assert_close(found.view(4, 4), expected, rtol=1e-6, atol=1e-3)


def test_memory_that_is_used_again_is_not_what_was_given_out() -> None:
    weight, first, second = drawn(32, 32, 3, 3).float(), drawn(1, 32, 16, 16).float(), drawn(1, 32, 8, 8).float()
    found = winograd.convolved(weight, None, first)
    kept = found.clone()
    winograd.convolved(weight, None, second)
    winograd.convolved_back(weight, first)
    assert torch.equal(found, kept)


def test_what_painting_left_behind_is_of_use_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd._SPACE, "held", torch.empty(0))
    weight, x = drawn(32, 32, 3, 3).float(), drawn(1, 32, 64, 64).float()
    with torch.inference_mode():
        expected = winograd.convolved(weight, None, x)
    assert torch.equal(winograd.convolved(weight, None, x), expected)


def test_only_large_maps_of_many_channels_are_worth_it() -> None:
    def suits(inside: int, outside: int, side: int, dtype: torch.dtype = torch.float32) -> bool:
        layer = nn.Conv2d(inside, outside, 3, padding=1, device="meta")
        return winograd.suits(layer, torch.Size((1, inside, side, side)), torch.empty(0, dtype=dtype))

    assert suits(128, 128, 256) and suits(320, 320, 32)
    assert not suits(320, 320, 8) and not suits(3, 128, 256) and not suits(128, 3, 256)
    assert not suits(128, 128, 256, torch.bfloat16)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(64, 64, 1, device="meta"),
        nn.Conv2d(64, 64, 5, padding=2, device="meta"),
        nn.Conv2d(64, 64, 3, device="meta"),
        nn.Conv2d(64, 64, 3, padding="same", device="meta"),
        nn.Conv2d(64, 64, 3, padding=1, stride=2, device="meta"),
        nn.Conv2d(64, 64, 3, padding=1, dilation=2, device="meta"),
        nn.Conv2d(64, 64, 3, padding=1, groups=2, device="meta"),
        nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular", device="meta"),
        nn.Conv2d(1280, 1280, 3, padding=1, device="meta"),
    ],
)
def test_other_convolutions_are_not_computed_so(layer: nn.Conv2d) -> None:
    assert not winograd.convertible(layer)
