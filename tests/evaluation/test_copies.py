"""Copies are found, plain or mirrored; new pictures of the same style are let through."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from velatura.evaluation import copies
from velatura.evaluation.copies import Nearest
from velatura.evaluation.metrics.pixels import Picture

Draw = Callable[..., Picture]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("count", [4, 12])
def test_a_picture_known_by_heart_is_flagged_with_its_original(
    draw: Draw, disturb: Draw, count: int, mirrored: bool
) -> None:
    training = [draw(index, strength=1.0) for index in range(count)]
    repeated = [disturb(draw(index, strength=1.0, mirrored=mirrored), seed=index) for index in range(count)]

    found = copies.nearest(repeated, training)

    assert [one.index for one in found] == list(range(count))
    assert all(one.flagged for one in found)


def test_new_scenes_of_the_same_style_are_seldom_flagged(draw: Draw) -> None:
    flagged = []
    for start in (0, 1000):
        detector = copies.calibrate(
            [draw(start + index, strength=1.0) for index in range(16)],
            held_out=[draw(start + 100 + index, strength=1.0) for index in range(4)],
        )
        flagged += [
            one.flagged for one in detector.nearest([draw(start + 500 + index, strength=1.0) for index in range(25)])
        ]

    assert np.mean(flagged) <= 0.06


def test_a_picture_of_another_size_is_still_recognised(draw: Draw) -> None:
    from PIL import Image

    training = [draw(index) for index in range(6)]
    enlarged = np.asarray(Image.fromarray(training[2]).resize((250, 250)))

    (found,) = copies.nearest([enlarged], training)

    assert found.index == 2 and found.flagged and found.near_exact


def test_a_set_that_holds_a_picture_twice_still_finds_copies_of_others(draw: Draw, disturb: Draw) -> None:
    training = [draw(index) for index in range(8)]
    training.append(training[0])

    (found,) = copies.nearest([disturb(training[3])], training)

    assert found.index == 3 and found.flagged


def test_a_single_training_picture_is_enough_to_find_its_copy(draw: Draw, disturb: Draw) -> None:
    other, same = copies.nearest([draw(9), disturb(draw(1))], [draw(1)])

    assert same.flagged and not other.flagged


def test_likeness_is_that_to_the_nearest_training_picture_mirrored_or_not(draw: Draw) -> None:
    training = [draw(index) for index in range(5)]

    found = copies.likeness([draw(3), draw(4)[:, ::-1], draw(400)], training)

    for name, values in found.items():
        assert values.shape == (3,), name
        assert values[:2] == pytest.approx(1), name
        assert values[2] < 0.95, name


def test_an_even_picture_is_like_nothing(draw: Draw) -> None:
    (found,) = copies.nearest([np.full((64, 64, 3), 90, dtype=np.uint8)], [draw(index) for index in range(6)])

    assert not found.flagged


def test_without_training_pictures_there_is_nothing_to_calibrate() -> None:
    with pytest.raises(ValueError, match="no training pictures"):
        copies.calibrate([])


def found(*flags: bool, index: int = 0) -> list[Nearest]:
    return [Nearest(index, {"hash": 0.9}, flag) for flag in flags]


def test_the_rate_is_that_of_provoked_pictures_where_there_are_any() -> None:
    check = copies.copy_check(
        found(False, False), base=found(True, False), provoked=found(True, True, True, False, index=5)
    )

    assert check is not None
    assert (check.flagged, check.total, check.base_rate) == (3, 4, 0.5)
    assert check.repeated == (5,)
    assert check.interval[0] < 0.75 < check.interval[1]


def test_what_captions_alone_make_alike_is_told_from_what_was_trained_on(draw: Draw, disturb: Draw) -> None:
    training = [draw(index, strength=1.0) for index in range(12)]
    held_out = [draw(100 + index, strength=1.0) for index in range(4)]
    detector = copies.calibrate(training, held_out=held_out)
    told = [disturb(picture, seed=index) for index, picture in enumerate(held_out)]
    elsewhere = [draw(200 + index, strength=1.0) for index in range(4)]
    by_heart = [disturb(picture, seed=index) for index, picture in enumerate(training[:4])]

    assert detector.by_caption(told, held_out) == [True] * 4
    assert detector.by_caption(elsewhere, held_out) == [False] * 4
    # A set of near duplicates: what is held out hardly differs from what was learnt by heart.
    twins = [disturb(picture, seed=20 + index) for index, picture in enumerate(training[:4])]
    assert detector.by_caption(training[:4], twins) == [False] * 4
    assert detector.by_caption(by_heart, held_out) == [False] * 4
    assert detector.by_caption([], []) == []


def test_the_rate_that_captions_explain_is_a_cautious_one() -> None:
    found = [Nearest(0, {"hash": 0.9}, flagged=True)] * 16

    def rate(by_caption: list[bool]) -> float:
        check = copies.copy_check(found, by_caption=by_caption)
        assert check is not None
        return check.caption_rate

    assert rate([]) == rate([False] * 4) == 0
    assert 0 < rate([True, False, False, False]) < 0.1
    assert rate([True, True, True, False]) == pytest.approx(copies.wilson(3, 4)[0])
    assert rate([True] * 4) < 0.6


def test_near_exact_copies_count_only_where_nobody_asked_for_them() -> None:
    exact = [Nearest(0, {"hash": 1.0}, True, near_exact=True)]

    asked = copies.copy_check(found(False), provoked=exact)
    unasked = copies.copy_check(exact)

    assert asked is not None and unasked is not None
    assert (asked.near_exact, unasked.near_exact) == (0, 1)


def test_wilson_gives_the_textbook_interval() -> None:
    np.testing.assert_allclose(copies.wilson(1, 10), (0.0179, 0.4042), atol=5e-4)
    np.testing.assert_allclose(copies.wilson(0, 10), (0, 0.2775), atol=5e-4)
