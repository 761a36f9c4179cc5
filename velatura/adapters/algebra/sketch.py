"""The best low-rank approximation of a large matrix, from a few products with random vectors, and its exact error.

The matrix is multiplied by a random one a little wider than the rank asked for; an orthonormal basis of that reaches
its strongest directions, and the decomposition within the basis is a small one. Two further products with the matrix
and its transpose sharpen the basis where the spectrum falls slowly. The error is not estimated: what is left is worked
out in full.

Source: Halko, Martinsson & Tropp 2011, arXiv:0909.4061, algorithms 4.4 and 5.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from velatura import randomness
from velatura.adapters.algebra.small_svd import Matrix, gram

OVERSAMPLED = 10
POWERS = 2


@dataclass(frozen=True, eq=False)
class Sketch:
    """A matrix as two factors, and what is lost by it."""

    up: Matrix
    """(m, k)."""
    down: Matrix
    """(k, n)."""
    energy: float
    """Square of the matrix's Frobenius norm."""
    lost: float
    """Square of the Frobenius norm of what is left."""

    @property
    def error(self) -> float:
        """Relative Frobenius norm of what is left, from 0 to 1."""
        return math.sqrt(self.lost / self.energy) if self.energy else 0.0


def sketch(matrix: Matrix, rank: int, *, seed: int = 0, label: str = "") -> Sketch:
    """The matrix as the nearest product of a rank, or very nearly; balanced factors.

    Args:
        matrix: (m, n), finite.
        label: what the random vectors are drawn for.
    """
    rank = min(rank, *matrix.shape)
    width = min(rank + OVERSAMPLED, *matrix.shape)
    draw = randomness.generator(seed, "sketch", label)
    basis = _orthonormal(matrix @ draw.standard_normal((matrix.shape[1], width), dtype=np.float32))
    for _ in range(POWERS):
        basis = _orthonormal(matrix @ _orthonormal(matrix.T @ basis))
    within = basis.T @ matrix
    squares, turns = np.linalg.eigh(gram(within))
    values, turns = np.sqrt(np.maximum(squares[::-1][:rank], 0.0)), turns[:, ::-1][:, :rank]
    halves = np.sqrt(values)
    inverse = np.divide(1.0, halves, out=np.zeros_like(halves), where=halves > 0)
    up = basis @ (turns * halves).astype(np.float32)
    down = (turns * inverse).T.astype(np.float32) @ within
    return Sketch(up, down, _energy(matrix), _energy(matrix - up @ down))


def _energy(matrix: Matrix) -> float:
    return float(np.square(matrix, dtype=np.float64).sum())


def _orthonormal(columns: Matrix) -> Matrix:
    basis: Matrix = np.linalg.qr(columns)[0]
    return basis
