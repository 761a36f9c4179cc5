"""The twelve demo styles: the same picture every time, at any size, and no two alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from velatura.pocket.compose import compose
from velatura.pocket.scene import Facts, Scene, Shape, Thing
from velatura.pocket.styles import STYLES

NAMES = ["pencil", "ink", "watercolour", "pixel", "neon", "paper", "stipple", "woodcut", "contour", "pastel"]
NAMES += ["blueprint", "mosaic"]
SEEDS = (3, 11, 42)


def pixels(picture: Image.Image) -> NDArray[np.float32]:
    return np.asarray(picture.convert("RGB")).astype(np.float32)


def ball(colour: tuple[float, float, float], *, background: bool = False) -> Scene:
    """One large disc on a pale sky."""
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    disc = Shape(np.stack([0.5 + 0.3 * np.cos(turn), 0.5 + 0.3 * np.sin(turn)], 1), colour, "round", True, background)
    facts = Facts(things=(Thing("ball", "red"),), setting="green hills")
    return Scene(5, facts, "a red ball", ((200, 220, 240), (225, 235, 245)), shapes=[disc])


def signature(name: str) -> NDArray[np.float64]:
    """How a style looks on average: colour, contrast, saturation, and what neighbouring pixels do."""
    rows = []
    for seed in SEEDS:
        picture = pixels(STYLES[name].paint(compose(seed), size=128))
        grey = picture.mean(2)
        steps = np.abs(np.diff(grey, axis=1))
        still, gentle, hard = (steps < 0.7).mean(), ((steps >= 0.7) & (steps < 6)).mean(), (steps > 30).mean()
        saturation = (picture.max(2) - picture.min(2)).mean()
        rows.append([*picture.mean((0, 1)), grey.std(), saturation, steps.mean(), still, gentle, hard])
    return np.mean(rows, axis=0)


def test_the_table_holds_the_twelve_styles_under_their_own_names() -> None:
    assert sorted(STYLES) == sorted(NAMES)
    assert all(name == style.name for name, style in STYLES.items())


def test_triggers_are_short_and_unlike_each_other_and_descriptions_are_sentences() -> None:
    assert len({style.trigger for style in STYLES.values()}) == len(STYLES)
    for style in STYLES.values():
        assert 1 <= len(style.trigger.split()) <= 5
        assert style.description.endswith(".")
        assert style.description.count(".") == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_scene_is_painted_the_same_every_time(name: str) -> None:
    first = STYLES[name].paint(compose(7), size=128)
    again = STYLES[name].paint(compose(7), size=128)

    assert first.tobytes() == again.tobytes()


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"pixel", "neon"}))
def test_the_same_shapes_under_another_seed_are_another_drawing(name: str) -> None:
    scene = compose(7)

    here, there = (STYLES[name].paint(replace(scene, seed=seed), size=128) for seed in (7, 8))

    assert np.abs(pixels(here) - pixels(there)).mean() > 0.3


@pytest.mark.parametrize("size", [64, 128, 192])
@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_rgb_and_as_large_as_asked(name: str, size: int) -> None:
    picture = STYLES[name].paint(compose(7), size=size)

    assert picture.mode == "RGB"
    assert picture.size == (size, size)


@pytest.mark.parametrize("name", NAMES)
def test_a_larger_picture_is_the_same_drawing(name: str) -> None:
    scene = compose(11)
    small = pixels(STYLES[name].paint(scene, size=128))
    reduced = pixels(STYLES[name].paint(scene, size=256).reduce(2))
    other = pixels(STYLES[name].paint(compose(12), size=128))

    assert np.abs(small - reduced).mean() < 0.45 * np.abs(small - other).mean()


def test_no_two_styles_look_alike() -> None:
    signatures = np.stack([signature(name) for name in NAMES])
    spread = signatures.std(0)
    apart = np.linalg.norm((signatures[:, None] - signatures[None]) / spread, axis=2)
    np.fill_diagonal(apart, np.inf)

    closest = np.unravel_index(apart.argmin(), apart.shape)
    assert apart.min() > 0.8, f"{NAMES[closest[0]]} and {NAMES[closest[1]]} look alike"


@pytest.mark.parametrize("name", NAMES)
def test_what_the_scene_shows_changes_the_picture_where_it_is(name: str) -> None:
    scene = ball((205, 40, 40))
    with_ball = pixels(STYLES[name].paint(scene, size=128))
    without = pixels(STYLES[name].paint(replace(scene, shapes=[]), size=128))

    difference = np.abs(with_ball - without).mean(2)

    assert difference[34:94, 34:94].mean() > 12
    assert difference[34:94, 34:94].mean() > 2 * difference[:10].mean()


@pytest.mark.parametrize("name", [name for name, style in STYLES.items() if style.coloured])
@pytest.mark.parametrize(("colour", "channel"), [((205, 40, 40), 0), ((40, 150, 60), 1), ((40, 80, 210), 2)])
def test_coloured_styles_keep_the_colour_of_things(name: str, colour: tuple[float, float, float], channel: int) -> None:
    picture = pixels(STYLES[name].paint(ball(colour), size=128))

    inside = picture[40:88, 40:88].mean((0, 1))

    assert inside.argmax() == channel
    assert inside[channel] > 1.15 * np.delete(inside, channel).max()


@pytest.mark.parametrize("name", [name for name, style in STYLES.items() if not style.coloured])
def test_monochrome_styles_use_one_ink_whatever_the_colours(name: str) -> None:
    picture = pixels(STYLES[name].paint(compose(3), size=128)).reshape(-1, 3)
    centred = picture - picture.mean(0)

    strengths = np.linalg.svd(centred, compute_uv=False)

    assert strengths[0] > 5 * strengths[1]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_finer_than_the_small_autoencoder_can_keep(name: str) -> None:
    """Single-pixel noise would show as energy that a 2 pixel average removes."""
    picture = pixels(STYLES[name].paint(compose(3), size=128))
    averaged = picture.reshape(64, 2, 64, 2, 3).mean((1, 3)).repeat(2, 0).repeat(2, 1)

    assert np.sqrt(np.mean((picture - averaged) ** 2)) < 0.62 * picture.mean(2).std() + 6
