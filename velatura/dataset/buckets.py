"""Buckets: the few sizes that pictures of any shape are trained at, and the batches of an epoch.

A picture is scaled to cover its bucket and cropped; no batch mixes buckets, none is dropped. Sizes,
choice and rounding are those of kohya-ss/sd-scripts, so that a dataset means the same here as there.

Every size is (width, height) in pixels.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from velatura.errors import DatasetError
from velatura.randomness import permutation

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Fit:
    """How one picture meets its bucket: scaled to `resized`, then cropped to `bucket`."""

    bucket: Size
    resized: Size


@dataclass(frozen=True)
class Bucket:
    """One size, and the pictures (by index) that are trained at it."""

    size: Size
    pictures: tuple[int, ...]


def predefined(area: Size, *, step: int = 64, minimum: int = 256, maximum: int = 1024) -> list[Size]:
    """Every bucket of about the same number of pixels as `area`, in ascending order.

    Args:
        area: the resolution asked for; only its number of pixels counts.
        step: every side is a multiple of it; the latent's and the denoiser's factor divide it.
        minimum: shortest side allowed.
        maximum: longest side allowed.

    Raises:
        ValueError: the numbers leave no bucket.
    """
    if min(*area, step, minimum) <= 0 or maximum < minimum:
        raise ValueError(f"no bucket for {area}, step {step}, sides {minimum} to {maximum}")
    pixels = area[0] * area[1]
    square = math.floor(math.sqrt(pixels) / step) * step
    sizes = {(square, square)} if square else set()
    for width in range(minimum, maximum + 1, step):
        height = min(maximum, pixels // width // step * step)
        if height >= minimum:
            sizes |= {(width, height), (height, width)}
    if not sizes:
        raise ValueError(f"no bucket for {area}, step {step}, sides {minimum} to {maximum}")
    return sorted(sizes)


def nearest(size: Size, buckets: Sequence[Size]) -> Size:
    """The bucket of this very size, else the one nearest in shape; of equals the first."""
    if size in buckets:
        return size
    shape = size[0] / size[1]
    return min(buckets, key=lambda bucket: abs(bucket[0] / bucket[1] - shape))


def cover_size(size: Size, bucket: Size) -> Size:
    """The size of a picture scaled to just cover its bucket."""
    width, height = size
    by_height = width / height > bucket[0] / bucket[1]
    scale = bucket[1] / height if by_height else bucket[0] / width
    return int(width * scale + 0.5), int(height * scale + 0.5)


def fit(size: Size, buckets: Sequence[Size]) -> Fit:
    """The bucket of a picture from a list of buckets; small pictures are scaled up."""
    bucket = nearest(size, buckets)
    return Fit(bucket, cover_size(size, bucket))


def fit_no_upscale(size: Size, area: Size, *, step: int = 64) -> Fit:
    """A bucket made for the picture: never larger than it, and never more pixels than `area`.

    Raises:
        DatasetError: a side would be shorter than one step.
    """
    resized = size if size[0] * size[1] <= area[0] * area[1] else _scaled_down(size, area, step)
    bucket = resized[0] - resized[0] % step, resized[1] - resized[1] % step
    if min(bucket) == 0:
        raise DatasetError(
            f"the picture is {size[0]} x {size[1]} pixels, less than {step} on a side at this resolution",
            fix="crop it wider, leave it out, or allow pictures to be scaled up",
        )
    return Fit(bucket, resized)


def _scaled_down(size: Size, area: Size, step: int) -> Size:
    """The size with about `area` pixels whose one side is a multiple of the step, of the two such
    the one that keeps the shape better; (0, 0) where the picture is too narrow for either."""
    shape = size[0] / size[1]
    width = math.sqrt(area[0] * area[1] * shape)
    height = area[0] * area[1] / width

    def whole_steps(length: float) -> int:
        return int(length + 0.5) // step * step

    wide, tall = whole_steps(width), whole_steps(height)
    height_of_wide, width_of_tall = whole_steps(wide / shape), whole_steps(tall * shape)
    if not (wide and tall and height_of_wide and width_of_tall):
        return 0, 0
    if abs(wide / height_of_wide - shape) < abs(width_of_tall / tall - shape):
        return wide, int(wide / shape + 0.5)
    return int(tall * shape + 0.5), tall


def assign(
    sizes: Iterable[Size],
    *,
    area: Size,
    step: int = 64,
    minimum: int = 256,
    maximum: int = 1024,
    no_upscale: bool = False,
) -> list[Bucket]:
    """Sort pictures, given by size, into buckets; only buckets that hold one, ascending by size.

    `no_upscale` makes the bucket from the picture and, as in kohya, ignores `minimum` and `maximum`.
    """
    listed = [] if no_upscale else predefined(area, step=step, minimum=minimum, maximum=maximum)
    fits = (fit_no_upscale(size, area, step=step) if no_upscale else fit(size, listed) for size in sizes)
    return grouped(found.bucket for found in fits)


def grouped(bucket_of_picture: Iterable[Size], repeats: Iterable[int] | None = None) -> list[Bucket]:
    """Buckets from each picture's bucket size, ascending by size; a picture to be repeated stands in it as often."""
    pictures: dict[Size, list[int]] = defaultdict(list)
    for index, (size, times) in enumerate(zip(bucket_of_picture, repeats or itertools.repeat(1), strict=False)):
        pictures[size] += [index] * times
    return [Bucket(size, tuple(pictures[size])) for size in sorted(pictures)]


Step = tuple[tuple[int, ...], ...]
"""The micro-batches of one optimizer step, each of one bucket: pictures by index."""


def plan_steps(buckets: Sequence[Bucket], *, batch: int, accumulation: int = 1, seed: int, epoch: int) -> list[Step]:
    """The steps of one epoch: all that the buckets hold, in an order that is a function of the arguments.

    Pictures are shuffled inside their bucket and steps among each other, anew in each epoch. A step takes
    `batch * accumulation` pictures of one bucket where it can, the same as one batch of so many would; what is left
    of the buckets is put together in further steps of micro-batches of `batch`, so that none is dropped and no
    micro-batch mixes buckets. The last of them may be short.

    Args:
        buckets: what an epoch holds.
        batch: most pictures of a micro-batch.
        accumulation: most micro-batches of a step; of several processes, times their number, and each takes every
            so-manyth of a step.
        seed: of the run.
        epoch: counted from 0.
    """
    if batch < 1 or accumulation < 1:
        raise ValueError(f"a step holds at least one picture, not {batch} x {accumulation}")
    whole: list[Step] = []
    left: list[tuple[int, ...]] = []
    for bucket in sorted(buckets, key=lambda bucket: bucket.size):
        width, height = bucket.size
        order = permutation(len(bucket.pictures), seed, "order", epoch, width, height)
        shuffled = [bucket.pictures[place] for place in order]
        full = len(shuffled) // (batch * accumulation) * (batch * accumulation)
        micro = [tuple(shuffled[start : start + batch]) for start in range(0, len(shuffled), batch)]
        if accumulation == 1:
            whole += [(one,) for one in micro]
            continue
        whole += [tuple(micro[start : start + accumulation]) for start in range(0, full // batch, accumulation)]
        left += micro[full // batch :]
    whole += [tuple(left[start : start + accumulation]) for start in range(0, len(left), accumulation)]
    return [whole[place] for place in permutation(len(whole), seed, "batches", epoch)]
