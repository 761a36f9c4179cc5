"""The style score follows the true strength, and says when it cannot."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy import stats

from velatura.evaluation import style
from velatura.evaluation.metrics.pixels import Picture
from velatura.evaluation.style import Features, StyleScore

STRENGTHS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
Set = Callable[[int, int, float], Features]


@pytest.fixture(name="features", scope="module")
def _features(draw: Callable[..., Picture]) -> Set:
    @cache
    def make(first: int, count: int, strength: float) -> Features:
        return style.describe([draw(first + index, strength=strength) for index in range(count)], side=64)

    return make


def joined(*parts: Features) -> Features:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def score(features: Set, strength: float, *, held_out: int = 4) -> StyleScore:
    """Captions of ten of the real pictures are painted, those held out first."""
    real = features(100, 12, 1.0)
    real = joined(real, features(200, held_out, 1.0)) if held_out else real
    sources = [*range(12, 12 + held_out), *range(10 - held_out)]
    return style.score_features(real, sources, features(300, 10, 0.0), features(300, 10, strength), held_out=held_out)


def test_the_base_scores_zero_and_the_style_itself_about_one(features: Set) -> None:
    assert score(features, 0.0).score == 0
    assert score(features, 1.0).score == pytest.approx(1, abs=0.15)


def test_the_real_pictures_score_one_whatever_they_show(features: Set) -> None:
    real, few = features(100, 12, 1.0), [0, 1, 2]
    theirs = {name: rows[few] for name, rows in real.items()}

    assert style.score_features(real, few, features(100, 3, 0.0), theirs).score == pytest.approx(1)


def test_a_picture_counts_once_however_many_paintings_there_are_of_it(features: Set) -> None:
    real = features(100, 12, 1.0)
    once = style.score_features(real, range(4), features(300, 4, 0.0), features(300, 4, 0.5))
    often = style.score_features(
        real, [*range(4), *range(4)], joined(*[features(300, 4, 0.0)] * 2), joined(*[features(300, 4, 0.5)] * 2)
    )

    assert often.score == pytest.approx(once.score, abs=0.05)


def test_the_score_rises_with_the_true_strength(features: Set) -> None:
    scores = [score(features, strength).score for strength in STRENGTHS]

    assert stats.spearmanr(STRENGTHS, scores).statistic == pytest.approx(1)


def test_the_same_holds_without_held_out_pictures_and_the_score_says_so(features: Set) -> None:
    found = score(features, 1.0, held_out=0)

    assert found.held_out == 0
    assert found.score == pytest.approx(1, abs=0.2)


def test_pictures_average_to_the_score_and_the_interval_holds_it(features: Set) -> None:
    found = score(features, 0.5)

    assert found.score is not None and found.interval is not None
    assert len(found.per_image) == 10
    assert np.mean(found.per_image) == pytest.approx(found.score)
    assert found.interval[0] < found.score < found.interval[1]


def test_the_interval_covers_the_truth_about_as_often_as_it_says(features: Set) -> None:
    whole = features(2000, 40, 1.0)
    base, generated = features(3000, 40, 0.0), features(3000, 40, 0.6)
    random = np.random.default_rng(5)
    found = []
    for _ in range(25):
        real, ours = random.choice(40, 20, replace=False), random.choice(40, 10, replace=False)
        found.append(
            style.score_features(
                {name: rows[real] for name, rows in whole.items()},
                range(10),
                {name: rows[ours] for name, rows in base.items()},
                {name: rows[ours] for name, rows in generated.items()},
            )
        )
    truth = np.mean([one.score for one in found if one.score is not None])

    inside = [one.interval[0] <= truth <= one.interval[1] for one in found if one.interval is not None]
    assert len(inside) == 25
    assert np.mean(inside) >= 0.8


def test_a_base_that_already_paints_so_is_told_apart_by_nothing(features: Set) -> None:
    found = style.score_features(features(100, 16, 1.0), range(10), features(300, 10, 1.0), features(300, 10, 1.0))

    assert found.score is None
    assert set(found.families.values()) == {None}


def test_a_family_that_does_not_tell_the_style_apart_is_dropped_alone() -> None:
    random = np.random.default_rng(1)

    def features(palette: float, edges: float, count: int) -> Features:
        return {
            "palette": palette + random.normal(0, 1, (count, 20)),
            "edges": edges + random.normal(0, 1, (count, 20)),
        }

    found = style.score_features(features(9, 5, 18), range(8), features(0, 5, 8), features(4.5, 5, 8))

    assert found.families["edges"] is None
    assert found.score == found.families["palette"] == pytest.approx(0.5, abs=0.1)


def test_paintings_that_do_not_pair_up_are_refused(features: Set) -> None:
    real = features(100, 12, 1.0)
    with pytest.raises(ValueError, match="pair up"):
        style.score_features(real, range(10), features(300, 8, 0.0), features(300, 10, 0.5))
    with pytest.raises(ValueError, match="pair up"):
        style.score_features(real, range(8), features(300, 10, 0.0), features(300, 10, 0.5))
    with pytest.raises(ValueError, match="two real pictures"):
        style.score_features(features(100, 1, 1.0), [0], features(300, 1, 0.0), features(300, 1, 0.5))


def test_burnt_pictures_are_noticed_and_sound_ones_are_not(draw: Callable[..., Picture]) -> None:
    references = [draw(100 + index, strength=1.0) for index in range(8)]
    base = [draw(300 + index) for index in range(6)]
    sound = [draw(300 + index, strength=1.0) for index in range(6)]
    burnt = [np.clip((image.astype(float) - 128) * 2.5 + 128, 0, 255).astype(np.uint8) for image in base]

    assert style.overbake(references, base, base, side=64) <= 0
    assert style.overbake(references, base, sound, side=64) < 1.5
    assert style.overbake(references, base, burnt, side=64) > 3
