from __future__ import annotations

import numpy as np
import pytest

from velatura.adapters.algebra.sketch import sketch


@pytest.mark.parametrize("power", [0.0, 0.5, 2.0])
def test_the_error_is_stated_exactly_and_near_the_optimum(power: float) -> None:
    draw = np.random.default_rng(0)
    fall = np.arange(1, 61) ** -power
    left, right = (np.linalg.qr(draw.standard_normal((length, 60)))[0] for length in (90, 70))
    matrix = (left * fall @ right.T).astype(np.float32)

    found = sketch(matrix, 12)

    true = np.linalg.norm(matrix - found.up.astype(np.float64) @ found.down) / np.linalg.norm(matrix)
    best = np.sqrt(np.sum(fall[12:] ** 2) / np.sum(fall**2))
    assert found.error == pytest.approx(true, abs=1e-5)
    assert best <= true * (1 + 1e-6) and true < 1.02 * best + 1e-6


def test_a_matrix_of_that_rank_is_reached_exactly_and_the_same_again() -> None:
    draw = np.random.default_rng(0)
    matrix = (draw.standard_normal((50, 4)) @ draw.standard_normal((4, 30))).astype(np.float32)

    one, again = sketch(matrix, 4, label="x"), sketch(matrix, 4, label="x")

    np.testing.assert_array_equal(one.up, again.up)
    assert np.linalg.norm(matrix - one.up @ one.down) < 1e-5 * np.linalg.norm(matrix) and one.error < 1e-3


def test_nothing_becomes_nothing() -> None:
    found = sketch(np.zeros((5, 7), np.float32), 3)

    assert found.error == 0 and not np.any(found.up @ found.down)
