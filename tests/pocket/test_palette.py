"""Colours: words far apart, and paint that mixes as it should."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from velatura.pocket.palette import COLOURS, accent, darken, jitter, lighten, luminance, mix, shade


def test_colour_words_are_far_apart() -> None:
    for first, second in combinations(COLOURS, 2):
        assert np.linalg.norm(np.subtract(COLOURS[first], COLOURS[second])) > 75, (first, second)


def test_a_mix_lies_between_its_colours() -> None:
    assert mix((0, 0, 0), (200, 100, 50), 0.25) == (50, 25, 12.5)


def test_light_and_shadow_move_the_brightness_their_way() -> None:
    for colour in COLOURS.values():
        assert luminance(lighten(colour, 0.2)) > luminance(colour)
        assert luminance(shade(colour, 0.2)) < luminance(colour)


def test_an_accent_stands_out_from_black_as_well() -> None:
    assert luminance(accent(COLOURS["black"], 0.3)) > luminance(COLOURS["black"]) + 30
    assert accent(COLOURS["red"], 0.3) == darken(COLOURS["red"], 0.3)


def test_jitter_stays_near_the_word_and_within_range() -> None:
    rng = np.random.default_rng(0)
    for word, colour in COLOURS.items():
        for _ in range(50):
            moved = jitter(colour, rng)
            assert 0 <= min(moved) <= max(moved) <= 255
            assert min(COLOURS, key=lambda w: float(np.linalg.norm(np.subtract(moved, COLOURS[w])))) == word
