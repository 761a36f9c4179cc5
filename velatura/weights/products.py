"""Products of a processor with large frozen weights: piece by piece, and convolutions of small maps as one matrix.

Weights that rest in 16 bits are widened a piece at a time, into space that stays in the core's cache, so that memory is
read in 16 bits only. And oneDNN, with which torch convolves, lays a weight out anew at each call, which for large
weights and small maps takes longer than the convolution: there the values under the kernel, side by side, are
multiplied with the weight as it lies (Chellapilla, Puri and Simard 2006, "High performance convolutional neural
networks for document processing"). Both sum in another order than torch does, and are exact to the rounding of fp32.

Shape suffixes: O channels out, N products side by side, K values that one output sums over; B, C, H and W as
everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PIECE = 1 << 18
"""Numbers of a piece: a megabyte, which stays in a core's cache."""

ALIGNED = 16
"""Rows or columns of a piece come in multiples of so many, as processors compute them together."""

SMALLEST = 1 << 20
"""Numbers of a convolution's weight; smaller ones are laid out anew in the cache."""

SHARE, MOST = 1 << 15, 256
"""Numbers of the weight for each place of the map at least, and places of the map at most, for which convolving as one
matrix was faster: with 1280 channels up to maps of 16 x 16, with 640 of 8 x 8."""


Place = tuple[slice, slice]
"""Which rows and columns of a weight (O, K) a piece of it is."""

Pieces = Iterable[tuple[Place, Tensor]]
"""A weight in pieces, each there until the next is asked for."""


def places(outside: int, inside: int) -> Iterator[Place]:
    """A weight (O, K) in pieces, whole along its shorter side, so that what is larger is passed once."""
    if outside >= inside:
        for rows in _slices(outside, inside):
            yield rows, slice(None)
    else:
        for columns in _slices(inside, outside):
            yield slice(None), columns


def _slices(along: int, across: int) -> Iterator[slice]:
    step = max(ALIGNED, PIECE // across // ALIGNED * ALIGNED)
    return (slice(start, start + step) for start in range(0, along, step))


def times(pieces: Pieces, columns_KN: Tensor, out_ON: Tensor) -> None:
    """Add a weight times columns to what is there."""
    for (rows, columns), piece in pieces:
        out_ON[rows].addmm_(piece, columns_KN[columns])


def times_transposed(pieces: Pieces, given_ON: Tensor, out_KN: Tensor) -> None:
    """Add a weight, transposed, times rows to what is there."""
    for (rows, columns), piece in pieces:
        out_KN[columns].addmm_(piece.t(), given_ON[rows])


def whole(weight: Tensor) -> Pieces:
    """A weight in one piece."""
    return [((slice(None), slice(None)), weight.flatten(1))]


def as_matrix(layer: nn.Conv2d, shape: torch.Size, like: Tensor) -> bool:
    """Whether this convolution, of an input of this shape, is faster as a product of matrices."""
    if not convertible(layer) or like.device.type != "cpu" or like.dtype != torch.float32:
        return False
    height, width = mapped(layer, shape)
    count = shape[0] * height * width
    return count <= MOST and layer.weight.numel() >= SHARE * count


def convertible(layer: nn.Conv2d) -> bool:
    """Whether it can be one product: of ungrouped channels, with a large kernel and zeros around."""
    plain = layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    large = layer.weight.numel() >= SMALLEST
    as_it_lies = layer.weight.is_contiguous() or not any(layer.weight.stride())  # or stands in for one in pieces
    return plain and large and as_it_lies and layer.kernel_size != (1, 1) and bool(torch.backends.mkldnn.enabled)


def mapped(layer: nn.Conv2d, shape: torch.Size) -> tuple[int, int]:
    """Height and width of what comes out."""
    found = [
        (side + 2 * around - reach * (kernel - 1) - 1) // stride + 1
        for side, around, reach, kernel, stride in zip(
            shape[-2:], _padding(layer), layer.dilation, layer.kernel_size, layer.stride, strict=True
        )
    ]
    return found[0], found[1]


def convolved(layer: nn.Conv2d, pieces: Pieces, x_BCHW: Tensor) -> Tensor:
    """What the layer makes of its input, as one product."""
    height, width = mapped(layer, x_BCHW.shape)
    columns_BKN = F.unfold(x_BCHW, layer.kernel_size, layer.dilation, _padding(layer), layer.stride)
    columns_KN = columns_BKN.transpose(0, 1).flatten(1)
    out_ON = x_BCHW.new_zeros(layer.out_channels, columns_KN.shape[1])
    if layer.bias is not None:
        out_ON += layer.bias[:, None]
    times(pieces, columns_KN, out_ON)
    return out_ON.view(-1, len(x_BCHW), height, width).transpose(0, 1).contiguous()


def convolved_back(layer: nn.Conv2d, pieces: Pieces, gradient_BCHW: Tensor, into: torch.Size) -> Tensor:
    """The gradient of the layer's input, of shape `into`, from that of what it made."""
    given_ON = gradient_BCHW.transpose(0, 1).flatten(1)
    inside = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
    columns_KN = given_ON.new_zeros(inside, given_ON.shape[1])
    times_transposed(pieces, given_ON, columns_KN)
    columns_BKN = columns_KN.view(inside, into[0], -1).transpose(0, 1)
    return F.fold(columns_BKN, into[-2:], layer.kernel_size, layer.dilation, _padding(layer), layer.stride)


def _padding(layer: nn.Conv2d) -> tuple[int, ...]:
    assert not isinstance(layer.padding, str)
    return layer.padding
