"""The dataset as trained: per picture its bucket, its captions with the trigger word, and its side of the split.

Pictures come in the order of their content, not of their names, so that renaming a file changes
nothing in a training.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import MappingProxyType

from PIL import Image

from velatura import randomness
from velatura.dataset import masks, telling
from velatura.dataset.buckets import Bucket, Fit, Size, fit, fit_no_upscale, grouped, predefined
from velatura.dataset.fingerprint import content
from velatura.dataset.images import Geometry, cover_resize, open_image
from velatura.dataset.scan import Dataset, Picture
from velatura.dataset.split import Split
from velatura.errors import DatasetError
from velatura.recipe import FolderSettings

USUAL = FolderSettings()
NO_LISTS: telling.Lists = MappingProxyType({})


@dataclass(frozen=True)
class Prepared:
    """One picture as trained: scaled to `resized`, cut to `bucket`, told by `captions`."""

    picture: Picture
    bucket: Size
    resized: Size
    captions: tuple[str, ...]
    """What is there, as it is told where nothing is left to chance."""
    held_out: bool
    repeats: int = 1
    """How often an epoch holds it."""
    of_class: bool = False
    """A picture of the class, trained beside the set to keep what the base knows (regularisation)."""
    rules: FolderSettings = USUAL
    """How it is told, turned and cut."""
    side: int = 0
    """Of the square of the training area that its bucket is one of, in pixels."""
    wordings: tuple[tuple[str, ...], ...] = ()
    """Of each caption those that a step may tell; none: the caption itself."""

    @property
    def spoken(self) -> tuple[tuple[str, ...], ...]:
        """Of each caption, what a step may tell."""
        return self.wordings or tuple((caption,) for caption in self.captions)


def prepare(
    dataset: Dataset,
    *,
    area: Size,
    step: int = 64,
    minimum: int = 256,
    maximum: int = 1024,
    no_upscale: bool = False,
    rules: FolderSettings = USUAL,
    lists: telling.Lists = NO_LISTS,
    seed: int = 0,
    split: Split | None = None,
) -> tuple[Prepared, ...]:
    """Decide how every picture is trained, in an order that depends on content alone.

    Args:
        dataset: what was scanned.
        area, step, minimum, maximum, no_upscale: the buckets, see `velatura.dataset.buckets`.
        rules: how its captions are told, and how often each picture; one without captions is told by the trigger alone.
        lists: what wildcards stand for.
        seed: of what is drawn.
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
        written = picture.captions or ("",)
        told = tuple(telling.told(caption, rules, lists, seed=seed) for caption in written)
        spoken = tuple(telling.wordings(caption, rules, lists, seed=seed) for caption in written)
        prepared.append(
            Prepared(
                picture,
                found.bucket,
                found.resized,
                told,
                index in held_out,
                picture.repeats * rules.repeats,
                rules=rules,
                side=area[0],
                wordings=() if spoken == tuple((one,) for one in told) else spoken,
            )
        )
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


Window = tuple[int, int] | None
"""Left and top of what is cut of a scaled picture; None: its middle."""


def windows(prepared: Prepared, *, seed: int) -> tuple[Window, ...]:
    """Where the windows of a picture begin.

    Several are spread over its length, one drawn from each of equal parts of it.
    """
    spare = tuple(length - side for length, side in zip(prepared.resized, prepared.bucket, strict=True))
    if prepared.rules.crops == 1 or prepared.held_out or max(spare) == 0:
        return (None,)
    count = prepared.rules.crops
    draw = randomness.generator(seed, "crops", prepared.picture.sha256, *prepared.bucket)
    along = [(number + float(draw.random())) / count for number in range(count)]
    return tuple(dict.fromkeys((int(share * (spare[0] + 1)), int(share * (spare[1] + 1))) for share in along))


def load(prepared: Prepared, window: Window = None) -> tuple[Image.Image, Geometry]:
    """The picture's pixels at its bucket's size, and where they come from.

    Args:
        prepared: the picture.
        window: what is cut.

    Raises:
        DatasetError: the file has gone, or changed its size, since it was scanned.
    """
    image = open_image(prepared.picture.path)
    if image.size != (prepared.picture.width, prepared.picture.height):
        raise DatasetError("the picture has changed since the dataset was read", where=prepared.picture.path)
    return cover_resize(image, *prepared.bucket, resized=prepared.resized, window=window)


def origin_of(prepared: Prepared, window: Window = None) -> Geometry:
    """Where the pixels of a window come from, as `load` tells it, without reading them."""
    picture, (across, down) = prepared.picture, prepared.bucket
    left, top = window or tuple((side - cut) // 2 for side, cut in zip(prepared.resized, prepared.bucket, strict=True))
    return Geometry((picture.height, picture.width), (top, left), (down, across))


def load_mask(prepared: Prepared, told: str, window: Window = None) -> Image.Image | None:
    """How much each part counts, 8-bit grey, cut as the picture is; None where every part counts the same.

    Args:
        prepared: the picture.
        window: as of `load`.
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
    return cover_resize(mask, *prepared.bucket, resized=prepared.resized, window=window)[0]


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
                **({"wordings": [list(one) for one in one.wordings]} if one.wordings else {}),
                **({"mask": one.picture.mask_sha256} if one.picture.mask_sha256 else {}),
                **({"repeats": one.repeats} if one.repeats > 1 else {}),
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for one in prepared
    ]
