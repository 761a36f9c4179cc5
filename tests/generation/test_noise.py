"""Noise is what A1111 draws from the same seeds: its numbers, and torchsde's for Brownian paths."""

from __future__ import annotations

import itertools
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity import noise as page
from tests.parity import within
from velatura.diffusion import schedules
from velatura.diffusion.objective import Objective
from velatura.errors import SettingsError
from velatura.generation import philox
from velatura.generation.brownian import node_seeds, root_of
from velatura.generation.noise import Seed, SeededNoise, mixed

torch.set_num_threads(1)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "noise.json").read_text(encoding="utf-8"))
SHAPE = (4, 8, 12)
KINDS = {
    "plain": {},
    "varied": {"variations": (11, 12), "strength": 0.3},
    "nearly": {"variations": (7, 8), "strength": 0.3},
    "smaller": {"resized_from": (4, 16)},
    "larger, varied": {"resized_from": (12, 8), "variations": (11, 12), "strength": 0.7},
}
SIGMAS = schedules.karras(Objective.from_betas(), 8)


def drawn(source: str, kind: str, delta: int) -> SeededNoise:
    told = KINDS[kind]
    seeds = [
        Seed(seed, variation, told.get("strength", 0.0))
        for seed, variation in zip((7, 8), told.get("variations", (0, 0)), strict=True)
    ]
    return SeededNoise(seeds, SHAPE, "cpu", source=source, seed_delta=delta, resized_from=told.get("resized_from"))  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [key for key in GOLDEN if key.startswith("philox")])
def test_the_numbers_of_an_nvidia_card_are_those_of_a1111(key: str) -> None:
    seed = int(key.split()[1])
    for draw, expected in enumerate(GOLDEN[key]):
        assert philox.normals(seed, draw, (2, 3)).ravel().tolist() == expected


def test_the_numbers_of_an_nvidia_card_are_normal() -> None:
    numbers = philox.normals(5, 0, (40_000,))
    assert abs(float(numbers.mean())) < 0.02
    assert float(numbers.std()) == pytest.approx(1, abs=0.02)
    assert philox.normals(5, 0, (10,)).tolist() == numbers[:10].tolist(), "a number depends on its place alone"


@pytest.mark.parametrize("key", [key for key in GOLDEN if not key.startswith("philox")])
def test_noise_is_that_of_a1111(key: str) -> None:
    """Two pictures of 8 x 12 latents, three draws, four numbers of each."""
    source, rest = key.split(" ", 1)
    kind, delta = rest.rsplit(" ", 1)
    noise = drawn(source, kind, int(delta))
    assert within(page.ROWS, "RNG source CPU and NV") == 0
    for expected in GOLDEN[key]:
        found = noise.next()
        assert [float(found[place]) for place in ((0, 1, 2, 3), (0, 3, 0, 0), (1, 0, 5, 7), (1, 2, 7, 11))] == expected


def test_what_is_told_changes_the_noise_and_a_delta_only_what_comes_after_the_start() -> None:
    firsts = {kind: drawn("cpu", kind, 0).next() for kind in KINDS}
    for kind, first in firsts.items():
        same = [other for other, noise in firsts.items() if torch.allclose(noise, first, atol=1e-6)]
        assert same == ([kind] if kind not in ("plain", "nearly") else ["plain", "nearly"])
    plain, moved = drawn("cpu", "plain", 0), drawn("cpu", "plain", 31337)
    assert torch.equal(plain.next(), moved.next())
    assert not torch.equal(plain.next(), moved.next())


def test_a_variation_of_none_is_the_seed_and_one_of_all_the_variation() -> None:
    own, other = torch.randn((2, *SHAPE), generator=torch.Generator().manual_seed(0))
    before = own.clone()
    torch.testing.assert_close(mixed(own, other, 0.0), own)
    torch.testing.assert_close(mixed(own, other, 1.0), other)
    assert float(mixed(own, other, 0.5).std()) == pytest.approx(1, abs=0.15), "its spread stays"
    assert torch.equal(own, before), "what is mixed is left as it was"


def test_the_generator_of_a_card_is_refused_where_there_is_none() -> None:
    for device in ("cpu", "mps"):
        with pytest.raises(SettingsError, match="graphics card"):
            SeededNoise([Seed(1)], SHAPE, device, source="gpu")


@pytest.mark.parametrize("together", [False, True])
def test_brownian_noise_is_that_of_torchsde(together: bool) -> None:
    """Its tree as k-diffusion asks it: noise levels in float32, the larger first, by the root of their distance."""
    torchsde = pytest.importorskip("torchsde")
    seeds = [7, 2**33]
    low, high = torch.tensor(SIGMAS[-2]), torch.tensor(SIGMAS[0])
    ours = SeededNoise([Seed(seed) for seed in seeds], SHAPE, "cpu").path(SIGMAS[-2], SIGMAS[0], together=together)
    shape = (2, *SHAPE) if together else SHAPE
    if together:
        seeds = [int(torch.randint(0, 2**63 - 1, [], generator=torch.Generator().manual_seed(seeds[-1])))]
    trees = [torchsde.BrownianTree(low, torch.zeros(shape), high, entropy=seed) for seed in seeds]
    asked = [*itertools.pairwise(SIGMAS[:-1]), (SIGMAS[0], math.sqrt(SIGMAS[0] * SIGMAS[1]))]
    assert within(page.ROWS, "Noise of the stochastic samplers (DPM++ SDE and its kin)") == 0
    for sigma, following in asked:
        near, far = torch.tensor(following), torch.tensor(sigma)
        with warnings.catch_warnings(action="ignore"):  # of the ends, rounded
            expected = torch.stack([tree(near, far) for tree in trees]) * -1 / (far - near).abs().sqrt()
        assert torch.equal(ours(sigma, following), expected[0] if together else expected)


def test_a_path_is_one_however_finely_it_is_seen() -> None:
    path = SeededNoise([Seed(7)], SHAPE, "cpu").path(0.03, 14.6)
    whole = path(10.0, 2.0) * math.sqrt(8)
    parts = path(10.0, 5.0) * math.sqrt(5) + path(5.0, 2.0) * math.sqrt(3)
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-4)
    assert float(path(14.6, 0.03).std()) == pytest.approx(1, abs=0.15)
    assert not torch.allclose(path(10.0, 5.0), path(5.0, 2.0), atol=0.1)


def test_noise_levels_are_counted_to_a_millionth() -> None:
    """A schedule computed in float32 may differ in the last digit; the path then differs by what the page says."""
    path = SeededNoise([Seed(7)], SHAPE, "cpu").path(0.03, 14.6)
    expected, found = path(1.5, 1.0), path(1.5, 1.0 + 2e-6)
    allowed = within(page.ROWS, "The same, where a schedule differs in the last digit of float32")
    assert 0 < float((expected - found).abs().max()) < allowed


@pytest.mark.parametrize("seed", [0, 7, 2**33 + 5, 2**64 - 1])
def test_the_seeds_of_a_tree_are_those_that_numpy_spawns(seed: int) -> None:
    """Also where a node's number takes two words, as in the lowest levels under the sigma of 4519 of a v base."""
    places = [(), (0, 1), (5, 3), (2**20 - 3, 21), (2**32, 33), (2**40 + 9, 41)]
    spawned = [np.random.SeedSequence(seed, spawn_key=place, pool_size=24).generate_state(4)[0] for place in places]
    other = root_of(seed + 1)
    found = [node_seeds([root_of(seed), other], place) for place in places]
    assert [mine for mine, _ in found] == spawned
    assert len({number for both in found for number in both}) == 2 * len(places)
