"""The noise of a sample: offsets, coarser layers and what is put in beside, by their formulae."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from velatura import randomness
from velatura.recipe import ObjectiveSettings
from velatura.training.noise import disturbed, drawn

CLEAN = randomness.normal((4, 24, 40), 3, "clean") + torch.tensor([2.0, -1.0, 0.0, 0.5]).view(4, 1, 1)

AT: dict[str, int] = {"seed": 5, "step": 7, "place": 2}


def noise(**told: Any) -> torch.Tensor:
    return drawn(CLEAN, ObjectiveSettings(**told), **AT)


def test_without_being_told_it_is_plain_noise() -> None:
    assert torch.equal(noise(), randomness.normal((4, 24, 40), 5, "noise", 7, 2))
    assert torch.equal(disturbed(noise(), ObjectiveSettings(), **AT), noise())


def test_an_offset_moves_each_channel_as_a_whole() -> None:
    moved = noise(noise_offset=0.1) - noise()
    expected = 0.1 * randomness.normal((4, 1, 1), 5, "noise offset", 7, 2)
    assert torch.allclose(moved, expected.expand_as(moved), atol=1e-6)
    assert float(moved.abs().max()) > 0.02


def test_an_adaptive_offset_grows_with_the_channels_mean_and_is_never_below_zero() -> None:
    drawn_C11 = randomness.normal((4, 1, 1), 5, "noise offset", 7, 2)
    mean_C11 = CLEAN.mean(dim=(1, 2), keepdim=True).abs()
    for adaptive in (0.05, -0.08):
        moved = noise(noise_offset=0.1, noise_offset_adaptive=adaptive) - noise()
        strength = (0.1 + adaptive * mean_C11).clamp(min=0)
        assert torch.allclose(moved, (strength * drawn_C11).expand_as(moved), atol=1e-6)
    assert float(strength.min()) == 0.0


def test_a_random_offset_is_between_none_and_the_whole() -> None:
    whole = noise(noise_offset=0.1) - noise()
    shares = []
    for step in range(200):
        told = ObjectiveSettings(noise_offset=0.1, noise_offset_random=True)
        at = {**AT, "step": step}
        moved = drawn(CLEAN, told, **at) - drawn(CLEAN, ObjectiveSettings(), **at)
        full = 0.1 * randomness.normal((4, 1, 1), 5, "noise offset", step, 2)
        shares.append(float(moved[0, 0, 0] / full[0, 0, 0]))
    assert whole.shape == moved.shape
    assert (min(shares) > -1e-3, max(shares) < 1.001, 0.4 < np.mean(shares) < 0.6) == (True, True, True)


def by_the_script(iterations: int, discount: float) -> torch.Tensor:
    """kohya-ss/sd-scripts' pyramid_noise_like, its draws exchanged for ours."""
    found = noise()[None].clone()
    _, _, height, width = found.shape
    draw = randomness.generator(5, "multires", 7, 2)
    for i in range(iterations):
        r = draw.random() * 2 + 2
        small = max(1, int(height / (r**i))), max(1, int(width / (r**i)))
        layer = randomness.normal((4, *small), 5, "multires", 7, 2, i)[None]
        found += F.interpolate(layer, size=(height, width), mode="bilinear") * discount**i
        if 1 in small:
            break
    return (found / found.std())[0]


def test_coarser_layers_are_added_as_kohya_adds_them() -> None:
    for iterations, discount in ((1, 0.3), (3, 0.3), (10, 0.8)):
        found = noise(multires_iterations=iterations, multires_discount=discount)
        assert torch.allclose(found, by_the_script(iterations, discount), atol=1e-5)
        assert float(found.std()) == float(torch.tensor(1.0)) or abs(float(found.std()) - 1) < 1e-5
    coarse = F.avg_pool2d(noise(multires_iterations=6, multires_discount=0.8)[None], 8).std()
    assert float(coarse) > 3 * float(F.avg_pool2d(noise()[None], 8).std())


def test_what_is_put_in_besides_is_not_what_is_to_be_predicted() -> None:
    told = ObjectiveSettings(input_perturbation=0.1)
    put_in = disturbed(noise(), told, **AT)
    assert torch.allclose(put_in - noise(), 0.1 * randomness.normal((4, 24, 40), 5, "perturbation", 7, 2), atol=1e-6)
    assert torch.equal(drawn(CLEAN, told, **AT), noise())
    varied = ObjectiveSettings(input_perturbation=0.1, input_perturbation_random=True)
    found = [
        float((disturbed(noise(), varied, seed=5, step=step, place=2) - noise()).std()) / 0.1 for step in range(100)
    ]
    assert 0 <= min(found) < 0.2 < 0.8 < max(found) < 1.1


def test_the_draws_of_another_place_are_others() -> None:
    told = ObjectiveSettings(noise_offset=0.1, multires_iterations=4, input_perturbation=0.1)
    one = drawn(CLEAN, told, seed=5, step=7, place=2)
    for at in ({"seed": 6}, {"step": 8}, {"place": 3}):
        assert not torch.allclose(one, drawn(CLEAN, told, **{**AT, **at}), atol=0.1)
