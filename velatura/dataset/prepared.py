"""The dataset as trained: per picture its bucket, its captions with the trigger word, and its side of the split.

Pictures come in the order of their content, not of their names, so that renaming a file changes
nothing in a training.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from PIL import Image

from velatura.dataset import masks
from velatura.dataset.buckets import Bucket, Fit, Size, fit, fit_no_upscale, grouped, predefined
from velatura.dataset.captions import with_trigger
from velatura.dataset.fingerprint import content
from velatura.dataset.images import Geometry, cover_resize, open_image
from velatura.dataset.scan import Dataset, Picture
from velatura.dataset.split import Split
from velatura.errors import DatasetError


@dataclass(frozen=True)
class Prepared:
    """One picture as trained: scaled to `resized`, its centre cut to `bucket`, told by `captions`."""

    picture: Picture
    bucket: Size
    resized: Size
    captions: tuple[str, ...]
    held_out: bool
    repeats: int = 1
    """How often an epoch holds it."""
    of_class: bool = False
    """A picture of the class, trained beside the set to keep what the base knows (regularisation)."""


def prepare(
    dataset: Dataset,
    *,
    area: Size,
    step: int = 64,
    minimum: int = 256,
    maximum: int = 1024,
    no_upscale: bool = False,
    trigger: str | None = None,
    split: Split | None = None,
) -> tuple[Prepared, ...]:
    """Decide how every picture is trained, in an order that depends on content alone.

    Args:
        dataset: what was scanned.
        area, step, minimum, maximum, no_upscale: the buckets, see `velatura.dataset.buckets`.
        trigger: put in front of captions that lack it; a picture without captions is told by it alone.
        split: from `hold_out`; None holds nothing out.

    Raises:
        DatasetError: a picture is too small for any bucket.
        ValueError: the numbers leave no bucket.
    """
    listed = [] if no_upscale else predefined(area, step=step, minimum=minimum, maximum=maximum)
    held_out = set(split.held_out) if split else set()

    def fitted(picture: Picture) -> Fit:
        size = picture.width, picture.height
        try:
            return fit_no_upscale(size, area, step=step) if no_upscale else fit(size, listed)
        except DatasetError as error:
            raise DatasetError(error.what, where=picture.path, fix=error.fix) from None

    prepared = []
    for index, picture in sorted(enumerate(dataset.pictures), key=lambda item: (content(item[1]), item[1].name)):
        found = fitted(picture)
        told = tuple(with_trigger(caption, trigger) for caption in picture.captions or ("",))
        prepared.append(Prepared(picture, found.bucket, found.resized, told, index in held_out, picture.repeats))
    return tuple(prepared)


def regularising(prepared: Iterable[Prepared], own: int) -> tuple[Prepared, ...]:
    """Pictures of the class, as many in an epoch as of the set, which has `own`, repeats counted.

    They are taken in order, each as often as it is to be repeated, until there are enough; the rest is left out. Where
    there are too few, they are repeated once more in their order until there are enough. Source: kohya-ss/sd-scripts.
    """
    taken: list[Prepared] = []
    total = 0
    for one in prepared:
        if total >= own:
            break
        taken.append(replace(one, of_class=True))
        total += one.repeats
    missing = max(0, own - total)
    return tuple(
        replace(one, repeats=one.repeats + missing // len(taken) + (place < missing % len(taken)))
        for place, one in enumerate(taken)
    )


def epoch(prepared: Iterable[Prepared]) -> list[Bucket]:
    """What an epoch holds: in each bucket the pictures, by place, as often as they are repeated."""
    every = list(prepared)
    return grouped((one.bucket for one in every), (one.repeats for one in every))


def load(prepared: Prepared) -> tuple[Image.Image, Geometry]:
    """The picture's pixels at its bucket's size, and where they come from.

    Raises:
        DatasetError: the file has gone, or changed its size, since it was scanned.
    """
    image = open_image(prepared.picture.path)
    if image.size != (prepared.picture.width, prepared.picture.height):
        raise DatasetError("the picture has changed since the dataset was read", where=prepared.picture.path)
    return cover_resize(image, *prepared.bucket, resized=prepared.resized)


def load_mask(prepared: Prepared, told: str) -> Image.Image | None:
    """How much each part counts, 8-bit grey, cut as the picture is; None where every part counts the same.

    Args:
        prepared: the picture.
        told: `masks` for its mask in masks/, `alpha` for its transparency where it has no mask, `off`.

    Raises:
        DatasetError: the mask cannot be read any more, or has another shape than the picture.
    """
    picture = prepared.picture
    if told == "off":
        return None
    if picture.mask is not None:
        mask = masks.read(picture.mask, (picture.width, picture.height))
    elif told == "alpha" and (alpha := masks.from_alpha(picture.path)) is not None:
        mask = alpha
    else:
        return None
    return cover_resize(mask, *prepared.bucket, resized=prepared.resized)[0]


def lines(prepared: Iterable[Prepared]) -> list[str]:
    """One JSON object per picture for `dataset.jsonl`, without line ends."""
    return [
        json.dumps(
            {
                "name": one.picture.name,
                "sha256": one.picture.sha256,
                "bucket": list(one.bucket),
                "captions": list(one.captions),
                "split": "held out" if one.held_out else "class" if one.of_class else "train",
                **({"mask": one.picture.mask_sha256} if one.picture.mask_sha256 else {}),
                **({"repeats": one.repeats} if one.repeats > 1 else {}),
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for one in prepared
    ]
