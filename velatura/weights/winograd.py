"""Convolutions of large maps on a processor by Winograd's transform: a quarter of the products of the sum itself.

Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", F(4x4, 3x3): the 6 x 6 values that a tile of
4 x 4 outputs is made of, and the 3 x 3 kernel, are taken to 36 places, in each of which the convolution is one product
of matrices. The transforms are those of polynomials evaluated at some points. The usual points 0, 1, -1, 2, -2 lose
twice as much to rounding as those here (as Barabasz et al. 2018, "Error analysis and improving the accuracy of Winograd
convolution for deep neural networks", chose theirs): the result is off by 1e-6 of its size, the sum itself by 2.4e-7.

What comes out lies with its channels last, as the next such convolution reads it fastest.

Shape suffixes: P the 36 places, C channels in, O channels out, k the kernel's sides; B, H and W as everywhere.
"""

from __future__ import annotations

import math
import threading
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

TILE, KERNEL = 4, 3
READ = TILE + KERNEL - 1
"""Values along a side that a tile of outputs is made of."""
PLACES = READ * READ

POINTS = (0.0, 0.625, -0.625, 1.5, -1.5)
"""Where the polynomials are evaluated, and at infinity."""

TOGETHER = 64
"""Tiles at a time: enough for the full speed of a product, few enough to stay in a core's cache."""

LEAST = 1 / 24
"""What 1 / tiles + 1 / channels in + 1 / channels out may come to: transforming kernels, values and outputs takes as
long as some twenty products of each."""

MOST = 1 << 22
"""Numbers of a weight; its transform is four times as large and lies in memory while it is used."""


class Transforms(NamedTuple):
    """What is multiplied from the left, the two sides of a picture at once."""

    values: Tensor
    """(P, 36): of the values that a tile is made of."""
    kernel: Tensor
    """(P, 9)."""
    outputs: Tensor
    """(16, P): from the products to the tile."""


def suits(layer: nn.Conv2d, shape: torch.Size, like: Tensor) -> bool:
    """Whether this convolution, of an input of this shape, is faster so."""
    if like.device.type != "cpu" or like.dtype != torch.float32 or not convertible(layer):
        return False
    tiles = math.ceil(shape[-2] / TILE) * math.ceil(shape[-1] / TILE)
    return 1 / max(tiles, 1) + 1 / layer.in_channels + 1 / layer.out_channels <= LEAST


def convertible(layer: nn.Conv2d) -> bool:
    """Whether it can be computed so: ungrouped 3 x 3 kernels at every place, zeros around the map."""
    sides = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    plain = sides == ((KERNEL, KERNEL), (1, 1), (1, 1), (1, 1)) and layer.groups == 1
    return plain and layer.padding_mode == "zeros" and layer.weight.numel() <= MOST


def convolved(weight_OCkk: Tensor, bias_O: Tensor | None, x_BCHW: Tensor) -> Tensor:
    """The convolution."""
    outside, inside = weight_OCkk.shape[:2]
    turned_COk, kernels_PCO, *space = _lent(
        (inside, outside, KERNEL * KERNEL), (PLACES, inside, outside), *_tile_sizes(inside, outside)
    )
    turned_COk.copy_(weight_OCkk.flatten(2).transpose(0, 1))
    torch.mm(transforms().kernel, turned_COk.flatten(0, 1).t(), out=kernels_PCO.flatten(1))
    made_BHWO = _tiled(kernels_PCO, x_BCHW, *space)
    if bias_O is not None:
        made_BHWO += bias_O
    return made_BHWO.permute(0, 3, 1, 2)


def convolved_back(weight_OCkk: Tensor, gradient_BOHW: Tensor) -> Tensor:
    """The gradient of its input, from that of what it made: convolved with each kernel turned about its middle."""
    outside, inside = weight_OCkk.shape[:2]
    kernels_POC, *space = _lent((PLACES, outside, inside), *_tile_sizes(outside, inside))
    kernel = weight_OCkk.reshape(outside * inside, -1)
    torch.mm(transforms().kernel.flip(1), kernel.t(), out=kernels_POC.flatten(1))
    return _tiled(kernels_POC, gradient_BOHW, *space).permute(0, 3, 1, 2)


@cache
def transforms() -> Transforms:
    """Of `POINTS`, in fp32; the places are scaled by powers of two, so that values stay as large as they are."""
    powers = np.vander(POINTS, READ, increasing=True)
    outputs = np.vstack([powers[:, :TILE], np.eye(TILE)[-1]])
    apart = [math.prod(here - other for other in POINTS if other != here) for here in POINTS]
    kernel = np.vstack([powers[:, :KERNEL] / np.array(apart)[:, None], np.eye(KERNEL)[-1]])
    others = [np.poly([other for other in POINTS if other != here]) for here in POINTS]
    values = np.vstack([np.pad(one[::-1], (0, 1)) for one in others] + [np.poly(POINTS)[::-1]])
    scale = 2.0 ** np.round(np.log2(np.abs(values).sum(1)) / 2)[:, None]
    values, kernel = values / scale, kernel * scale
    with torch.inference_mode(False):
        return Transforms(*(torch.from_numpy(np.kron(one, one)).float() for one in (values, kernel, outputs.T)))


def _tile_sizes(inside: int, outside: int) -> tuple[tuple[int, ...], ...]:
    """Values side by side before and after their transform, products, and outputs, each of `TOGETHER` tiles."""
    return (
        (PLACES, TOGETHER * inside),
        (PLACES, TOGETHER * inside),
        (PLACES, TOGETHER * outside),
        (TILE * TILE, TOGETHER * outside),
    )


def _tiled(kernels_PCO: Tensor, x_BCHW: Tensor, *space: Tensor) -> Tensor:
    """(B, H, W, O), a block of tiles after another."""
    (batch, inside, height, width), outside = x_BCHW.shape, kernels_PCO.shape[-1]
    rows, columns = math.ceil(height / TILE), math.ceil(width / TILE)
    made_BHWO = x_BCHW.new_empty(batch, TILE * rows, TILE * columns, outside)
    across = min(columns, TOGETHER)
    down = max(1, TOGETHER // across)
    for image, top, left in product(range(batch), range(0, rows, down), range(0, columns, across)):
        tall, wide = min(down, rows - top), min(across, columns - left)
        tiles = tall * wide
        raw, values, products, outputs = (
            one.flatten()[: len(one) * tiles * many].view(len(one), -1)
            for one, many in zip(space, (inside, inside, outside, outside), strict=True)
        )
        slab_HWC = _slab(x_BCHW[image], TILE * top, TILE * left, TILE * tall, TILE * wide)
        row, column, _ = slab_HWC.stride()
        beside = slab_HWC.as_strided((READ, READ, tall, wide, inside), (row, column, TILE * row, TILE * column, 1))
        raw.view(beside.shape).copy_(beside)
        torch.mm(transforms().values, raw, out=values)
        torch.bmm(values.view(PLACES, tiles, inside), kernels_PCO, out=products.view(PLACES, tiles, outside))
        torch.mm(transforms().outputs, products, out=outputs)
        region = made_BHWO[image, TILE * top :, TILE * left :][: TILE * tall, : TILE * wide]
        into = region.view(tall, TILE, wide, TILE, outside)
        into.copy_(outputs.view(TILE, TILE, tall, wide, outside).permute(2, 0, 3, 1, 4))
    return made_BHWO[:, :height, :width].contiguous()


def _slab(x_CHW: Tensor, top: int, left: int, tall: int, wide: int) -> Tensor:
    """A stretch of a map with what its tiles read around it, channels last; zeros beyond the map."""
    inside, height, width = x_CHW.shape
    slab_HWC = x_CHW.new_zeros(tall + KERNEL - 1, wide + KERNEL - 1, inside)
    below, right = min(height, top + tall + 1), min(width, left + wide + 1)
    above, before = max(top - 1, 0), max(left - 1, 0)
    part = slab_HWC[above - top + 1 : below - top + 1, before - left + 1 : right - left + 1]
    part.copy_(x_CHW[:, above:below, before:right].permute(1, 2, 0))
    return slab_HWC


class _Space(threading.local):
    """A thread's memory for what is made on the way, used again by the next convolution."""

    held: Tensor = torch.empty(0)


_SPACE = _Space()


def _lent(*shapes: tuple[int, ...]) -> list[Tensor]:
    """Memory of these shapes until this thread asks for the next; what is in it is anything."""
    counts = [math.prod(shape) for shape in shapes]
    if _SPACE.held.numel() < sum(counts):
        _SPACE.held = torch.empty(0)
        with torch.inference_mode(False):  # it is written to in training as well
            _SPACE.held = torch.empty(sum(counts))
    parts = torch.split(_SPACE.held[: sum(counts)], counts)
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
