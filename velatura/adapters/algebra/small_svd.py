"""The singular value decomposition of scale * up @ down at the cost of its rank.

The product of (m, r) and (r, n) has no more than r singular values, and all about them is in two matrices of r x r,
the Gram matrices of the factors. Neither the product nor a QR decomposition is needed. With W the lengths of up's
columns times the scale, and `unit` these columns at length 1:

    unit^T unit = H H^T                          so Q = unit H^-T has orthonormal columns
    product = Q (H^T W down)
    H^T W down down^T W H = P S^2 P^T            so Q P are its left singular vectors, S its singular values

Squaring costs digits, so this is worked out in float64 from fp32 values. H is the Cholesky factor, which costs a tenth
of an eigen-decomposition; where channels are zero or alike there is none, and H comes from that. What is kept
is the projection of the product onto its first k left singular vectors, (Q P_k)(Q P_k)^T product: the singular values
cancel out of it, so small ones do no harm.

Source: Eckart & Young 1936 for the optimum; Golub & Van Loan, Matrix Computations, 8.6 for the way by Gram matrices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Matrix64 = NDArray[np.float64]

NEGLIGIBLE = 1e-13
"""Of the largest eigenvalue of a Gram matrix of channels of length 1: what float64 cannot tell from zero."""

INDEPENDENT = 1e-3
"""What is left of a channel's length beside the others for Cholesky's way to be as good as the other."""

ZERO = 1e-9
"""Of the largest singular value: below it they are noise, and taken for zero."""


@dataclass(frozen=True, eq=False)
class SmallSvd:
    """A product's singular values, and the two small matrices by which its factors become the truncated ones."""

    values: NDArray[np.float64]
    """(r,), falling; zeros at the end where the product has a lower rank."""
    left: Matrix
    """(r, r): the columns of up @ left[:, :k] are orthogonal, each as long as the root of its singular value."""
    right: Matrix
    """(r, r): the rows of right[:k] @ down likewise."""

    @property
    def energy(self) -> float:
        """Sum of squares of the product's elements."""
        return float(np.square(self.values).sum())


def decompose(up: Matrix, down: Matrix, *, scale: float = 1.0) -> SmallSvd:
    """The singular values of scale * up @ down, and what its truncations are made with.

    Args:
        up: (m, r), finite.
        down: (r, n), finite.
        scale: any number.
    """
    up_gram, down_gram = gram(up.T), gram(down)
    lengths = np.sqrt(up_gram.diagonal())
    # Brought near 1 first, since squares of squares of what fp32 can hold are beyond float64.
    size = abs(scale) * float(lengths.max(initial=0.0)) * math.sqrt(float(down_gram.diagonal().max(initial=0.0))) or 1.0
    per_length, weights = _inverse(lengths), lengths * (scale / size)
    half, back = _halves(up_gram * np.outer(per_length, per_length))
    across = half.T * weights
    squares, turns = np.linalg.eigh(across @ down_gram @ across.T)
    found, turns = np.sqrt(np.maximum(squares[::-1], 0.0)), turns[:, ::-1]
    found[found <= ZERO * found.max(initial=0.0)] = 0.0
    halves, root = np.sqrt(found), math.sqrt(size)
    rank = up.shape[1]
    values, left, right = np.zeros(rank), np.zeros((rank, rank), np.float32), np.zeros((rank, rank), np.float32)
    values[: len(found)] = found * size
    left[:, : len(found)] = per_length[:, None] * (back @ (turns * halves * root))
    right[: len(found)] = (turns * _inverse(halves) * root).T @ across
    return SmallSvd(values, left, right)


def truncated(up: Matrix, down: Matrix, svd: SmallSvd, keep: int) -> tuple[Matrix, Matrix]:
    """The factors of the nearest product of rank `keep`, (m, keep) and (keep, n), balanced, the scale in them."""
    return up @ svd.left[:, :keep], svd.right[:keep] @ down


def _halves(unit_gram: Matrix64) -> tuple[Matrix64, Matrix64]:
    """H with H H^T = the matrix, (r, k), and H^-T, (r, k), for k independent channels."""
    try:
        lower = np.asarray(np.linalg.cholesky(unit_gram), np.float64)
    except np.linalg.LinAlgError:
        lower = np.zeros_like(unit_gram)
    if lower.diagonal().min(initial=1.0) > INDEPENDENT:
        return lower, np.asarray(np.linalg.inv(lower), np.float64).T
    eigenvalues, basis = np.linalg.eigh(unit_gram)
    kept = eigenvalues > NEGLIGIBLE * max(float(eigenvalues[-1]), 0.0)
    roots, basis = np.sqrt(eigenvalues[kept]), basis[:, kept]
    return basis * roots, basis / roots


def gram(rows: Matrix) -> Matrix64:
    """All products of rows with rows, (r, r), in float64."""
    exact = rows.astype(np.float64)
    product: Matrix64 = exact @ exact.T
    return product


def _inverse(lengths: Matrix64) -> Matrix64:
    """1 / length; 0 for what has none."""
    return np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
