"""The dense decomposition in float64 is the oracle, QR the second one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from velatura.adapters.algebra.small_svd import decompose, truncated

Array = NDArray[np.float32]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def pairs() -> dict[str, tuple[Array, Array]]:
    up, down = normal(60, 12), normal(12, 40)
    zeroed, doubled, nearly = up.copy(), up.copy(), up.copy()
    zeroed[:, 3:7] = 0
    doubled[:, 3:7] = up[:, 7:11]
    nearly[:, 3:7] = up[:, 7:11] + 1e-6 * normal(60, 4)
    uneven = (10.0 ** np.linspace(-12, 12, 12)).astype(np.float32)
    falling = (2.0 ** -np.arange(0, 36, 3)).astype(np.float32)
    return {
        "random": (up, down),
        "some channels zero": (zeroed, down),
        "channels alike": (doubled, down),
        "channels nearly alike": (nearly, down),
        "channels of very unequal length": (up * uneven, down / uneven[:, None]),
        "falling to nothing": (up, down * falling[:, None]),
        "more channels than rows": (normal(6, 12), down),
        "very small": (up * np.float32(1e-18), down * np.float32(1e-15)),
    }


@pytest.mark.parametrize("name", pairs())
@pytest.mark.parametrize("scale", [1.0, -0.25])
def test_the_truncation_is_the_dense_ones(name: str, scale: float) -> None:
    up, down = pairs()[name]
    product = scale * up.astype(np.float64) @ down
    left, values, right = np.linalg.svd(product, full_matrices=False)

    found = decompose(up, down, scale=scale)

    same = min(len(values), 12)
    np.testing.assert_allclose(found.values[:same], values[:same], atol=3e-7 * values[0], rtol=0)
    for keep in (1, 4, 12):
        one, other = truncated(up, down, found, keep)
        best = (left[:, :keep] * values[:keep]) @ right[:keep]
        assert np.linalg.norm(one.astype(np.float64) @ other - best) <= 2e-6 * np.linalg.norm(best)
        assert np.linalg.norm(best - product) > 1e-4 * np.linalg.norm(product) or keep >= 4


def test_qr_of_both_factors_gives_the_same_values() -> None:
    up, down = normal(60, 12).astype(np.float64), normal(12, 40).astype(np.float64)
    both = np.linalg.qr(up)[1] @ np.linalg.qr(down.T)[1].T

    np.testing.assert_allclose(
        decompose(up.astype(np.float32), down.astype(np.float32)).values, np.linalg.svd(both)[1], rtol=1e-6
    )


def test_the_factors_are_balanced() -> None:
    up, down = normal(60, 12) * np.float32(1e-4), normal(12, 40) * np.float32(1e3)

    one, other = truncated(up, down, found := decompose(up, down), 5)

    np.testing.assert_allclose(np.linalg.norm(one, axis=0), np.sqrt(found.values[:5]), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(other, axis=1), np.sqrt(found.values[:5]), rtol=1e-5)


@pytest.mark.parametrize("zero", ["up", "down", "scale"])
def test_a_layer_that_does_nothing_has_no_singular_values(zero: str) -> None:
    up, down = normal(60, 12) * (zero != "up"), normal(12, 40) * (zero != "down")

    found = decompose(up, down, scale=0.0 if zero == "scale" else 1.0)

    assert not found.values.any() and found.energy == 0
    assert not np.any(truncated(up, down, found, 3)[0] @ truncated(up, down, found, 3)[1])
