"""How the tensors of a network are called, and how they lie, in files that are not written by diffusers.

One module for each network that several families share; a family's own denoiser has its names in the family.
"""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Where one tensor of a network lies in its part's files."""

    key: str
    """Without the part's prefix."""
    pointwise: bool = False
    """There it is a convolution of 1 x 1, (out, in, 1, 1), and here a linear layer, (out, in)."""
    rows: tuple[int, int] | None = None
    """It is these rows, first and one past the last, of a fused tensor."""
    transposed: bool = False
    """There the axes of a matrix are the other way round."""
    halves_swapped: bool = False
    """There the second half of the rows comes first."""
