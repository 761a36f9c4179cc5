"""Textures for the autoencoder: reproducible and of many kinds."""

from __future__ import annotations

import numpy as np
import pytest

from velatura.pocket.textures import MAKERS, Maker, texture


def test_a_texture_is_the_same_for_the_same_seed() -> None:
    assert texture(3).tobytes() == texture(3).tobytes()
    assert texture(3).tobytes() != texture(4).tobytes()
    assert (texture(3, 64).mode, texture(3, 64).size) == ("RGB", (64, 64))


def test_the_shares_of_all_kinds_add_up() -> None:
    assert sum(share for _, share in MAKERS) == pytest.approx(1)


@pytest.mark.parametrize("maker", [maker for maker, _ in MAKERS])
def test_every_kind_makes_pictures_that_differ_within_and_among_themselves(maker: Maker) -> None:
    pictures = [np.asarray(maker(np.random.default_rng(seed), 64), np.float32) for seed in range(8)]

    assert np.median([picture.std(axis=(0, 1)).max() for picture in pictures]) > 5
    assert all(np.abs(pictures[0] - other).mean() > 5 for other in pictures[1:])
