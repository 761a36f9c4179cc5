"""Everyday renderings: reproducible, different from each other, true to the scene's colours."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from velatura.pocket.compose import compose
from velatura.pocket.palette import COLOURS
from velatura.pocket.renderings import EVERYDAY, rendering_words
from velatura.pocket.scene import Thing

HELD_OUT = ("pencil", "ink", "watercolour", "pixel", "neon", "paper", "stipple", "woodcut", "pastel", "blueprint",
            "mosaic", "contour")  # fmt: skip


@pytest.mark.parametrize("name", EVERYDAY)
def test_a_rendering_gives_the_same_picture_every_time(name: str) -> None:
    first, second = (EVERYDAY[name](compose(4)) for _ in range(2))

    assert (first.mode, first.size) == ("RGB", (128, 128))
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != EVERYDAY[name](compose(5)).tobytes()


@pytest.mark.parametrize("name", EVERYDAY)
@pytest.mark.parametrize("size", [32, 192])
def test_a_rendering_has_the_size_asked_for(name: str, size: int) -> None:
    assert EVERYDAY[name](compose(4), size=size).size == (size, size)


def test_no_two_renderings_look_alike() -> None:
    pictures = {name: np.asarray(render(compose(11)), np.float32) for name, render in EVERYDAY.items()}

    for first, second in combinations(pictures, 2):
        assert np.abs(pictures[first] - pictures[second]).mean() > 2, (first, second)


@pytest.mark.parametrize("name", EVERYDAY)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_wall_keeps_the_colour_of_its_word(name: str, colour: str) -> None:
    """In the upper corners, where there is nothing but wall, the nearest colour word is the wall's."""
    scene = compose(2, things=[Thing("mug", "white" if colour != "white" else "red")], background=colour, unseen=None)
    pixels = np.asarray(EVERYDAY[name](scene), np.float32)
    wall = np.median(pixels[24:40, 4:24].reshape(-1, 3), axis=0)

    assert min(COLOURS, key=lambda word: float(np.abs(wall - COLOURS[word]).sum())) == colour


def test_words_for_renderings_name_no_style_kept_for_training() -> None:
    words = {rendering_words(name, np.random.default_rng(seed)) for name in EVERYDAY for seed in range(30)}

    assert len(words) >= 2 * len(EVERYDAY)
    assert not any(style in word for word in words for style in HELD_OUT)
