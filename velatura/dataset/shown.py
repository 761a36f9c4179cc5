"""Buckets as they are seen before training: where each picture goes, what is cut away, which batches are short."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from velatura.dataset.buckets import Bucket, Size
from velatura.dataset.images import open_image
from velatura.dataset.prepared import Prepared
from velatura.dataset.scan import Picture
from velatura.dataset.sheet import CELL, GAP, INK, LINE, MARKS, PAPER, label, numbered, write
from velatura.errors import counted


@dataclass(frozen=True)
class Cut:
    """One picture in its bucket."""

    name: str
    bucket: Size
    resized: Size
    lost: float
    """Share of the picture that is cut away, 0 to 1."""
    scale: float
    """How much it is enlarged (above 1) or made smaller."""
    held_out: bool = False


def cuts(prepared: Sequence[Prepared]) -> list[Cut]:
    """What becomes of every picture, largest loss first."""
    found = [
        Cut(
            one.picture.name,
            one.bucket,
            one.resized,
            1 - one.bucket[0] * one.bucket[1] / (one.resized[0] * one.resized[1]),
            one.resized[0] / one.picture.width,
            one.held_out,
        )
        for one in prepared
    ]
    return sorted(found, key=lambda one: -one.lost)


def short_batches(epoch: Sequence[Bucket], *, batch: int) -> dict[Size, int]:
    """Bucket -> pictures in its last batch, where that is not full; it is trained, and counts as a step."""
    return {one.size: rest for one in epoch if (rest := len(one.pictures) % batch)}


def picture(prepared: Sequence[Prepared], *, columns: int = 6) -> Image.Image:
    """Every picture, bucket by bucket, with what is cut away in grey."""
    by_bucket = _by_bucket(prepared)
    rows = sum(-(-len(group) // columns) for group in by_bucket.values())
    height = GAP + rows * (CELL + LINE + GAP) + len(by_bucket) * (LINE + GAP)
    sheet = Image.new("RGB", (GAP + columns * (CELL + GAP), height), PAPER)
    draw, numbers = ImageDraw.Draw(sheet), numbered(in_order(prepared))
    y = GAP
    for size, group in by_bucket.items():
        told = f"{size[0]} x {size[1]}: {counted(len(group), 'picture')}"
        write(draw, (GAP, y), told, INK, size=16, width=sheet.width)
        y += LINE + GAP // 2
        for place, one in enumerate(group):
            x = GAP + place % columns * (CELL + GAP)
            if place and place % columns == 0:
                y += CELL + LINE + GAP
            shown = _cut_shown(one)
            sheet.paste(shown, (x + (CELL - shown.width) // 2, y + (CELL - shown.height) // 2))
            lost = 1 - one.bucket[0] * one.bucket[1] / (one.resized[0] * one.resized[1])
            held = ", held out" if one.held_out else ""
            text = f"{label(one.picture.name, numbers)}  -{lost:.0%}{held}"
            write(draw, (x, y + CELL + 2), text, INK, size=13, width=CELL)
        y += CELL + LINE + GAP + GAP // 2
    return sheet


def in_order(prepared: Sequence[Prepared]) -> list[Picture]:
    """The pictures as they stand on the sheet."""
    return [one.picture for group in _by_bucket(prepared).values() for one in group]


def _by_bucket(prepared: Sequence[Prepared]) -> dict[Size, list[Prepared]]:
    found: dict[Size, list[Prepared]] = defaultdict(list)
    for one in prepared:
        found[one.bucket].append(one)
    return dict(sorted(found.items()))


def _cut_shown(one: Prepared) -> Image.Image:
    """The whole picture, grey and pale outside of what is trained."""
    shown = ImageOps.contain(open_image(one.picture.path, at_least=CELL), (CELL, CELL), Image.Resampling.LANCZOS)
    across, down = shown.width / one.resized[0], shown.height / one.resized[1]
    left, top = (one.resized[0] - one.bucket[0]) // 2 * across, (one.resized[1] - one.bucket[1]) // 2 * down
    box = round(left), round(top), round(left + one.bucket[0] * across), round(top + one.bucket[1] * down)
    pale = ImageEnhance.Brightness(ImageOps.grayscale(shown).convert("RGB")).enhance(0.55)
    pale.paste(shown.crop(box), box[:2])
    ImageDraw.Draw(pale).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=MARKS["warning"], width=2)
    return pale
