"""A spectrum as a picture: a row for each block, with its share of the change and how its singular values fall."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from velatura.adapters.algebra.spectrum import BlockSpectrum, Spectrum
from velatura.lettering import shown, typeface

ROW, MARGIN, LABEL, BAR, GAP, FALL = 26, 28, 70, 300, 150, 520
"""Pixels: height of a row, border, and the columns' widths."""

PAPER, INK, FAINT, BARS, ALARM = (250, 249, 246), (34, 34, 38), (140, 138, 132), (46, 92, 138), (190, 60, 40)

DEEP = ((250, 249, 246), (198, 214, 222), (120, 164, 190), (46, 92, 138), (20, 36, 66))
"""Colours from a singular value that is nothing beside the largest to the largest."""

DECADES = 3.0
"""Powers of ten that the colours span."""

TITLE_LETTERS = 70


def draw(found: Spectrum, *, title: str) -> Image.Image:
    """The picture, about 1150 pixels wide and as high as there are blocks."""
    top = MARGIN + 64
    height = top + ROW * len(found.blocks) + MARGIN + 66
    image = Image.new("RGB", (2 * MARGIN + LABEL + BAR + GAP + FALL, height), PAPER)
    pen = ImageDraw.Draw(image)
    plain, small = ImageFont.load_default(14), ImageFont.load_default(12)
    name = title if len(title) <= TITLE_LETTERS else f"{title[:TITLE_LETTERS]}..."
    large = typeface(name, 19)
    pen.text((MARGIN, MARGIN - 6), shown(name, large), fill=INK, font=large)
    bars, falls = MARGIN + LABEL, MARGIN + LABEL + BAR + GAP
    pen.text((bars, top - 26), "share of the change", fill=FAINT, font=small)
    rank = max((block.rank for block in found.blocks), default=1)
    pen.text((falls, top - 26), f"singular values, 1st to {_ordinal(rank)}", fill=FAINT, font=small)
    most = max((block.share for block in found.blocks), default=0.0) or 1.0
    for place, block in enumerate(found.blocks):
        y = top + ROW * place
        pen.text((MARGIN, y + 4), block.block, fill=ALARM if block.unwell else INK, font=plain)
        length = round(BAR * block.share / most)
        pen.rectangle((bars, y + 5, bars + max(length, 1), y + ROW - 6), fill=BARS)
        pen.text((bars + length + 8, y + 5), f"{block.share:.1%}  {_layers(block)}", fill=FAINT, font=small)
        _fall(image, block, (falls, y + 3), rank)
        if block.rank_90:
            x = falls + round(FALL * block.rank_90 / rank)
            pen.line((x, y + 2, x, y + ROW - 4), fill=ALARM, width=2)
    _legend(image, pen, (MARGIN, height - MARGIN - 44), small, found)
    return image


def png(found: Spectrum, *, title: str) -> bytes:
    """The picture as a PNG file."""
    buffer = io.BytesIO()
    draw(found, title=title).save(buffer, format="PNG")
    return buffer.getvalue()


def _layers(block: BlockSpectrum) -> str:
    return f"{block.layers} layer{'s' if block.layers != 1 else ''}"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _fall(image: Image.Image, block: BlockSpectrum, at: tuple[int, int], rank: int) -> None:
    """A strip whose colour is the logarithm of each singular value beside the largest."""
    if not len(block.fall) or block.fall[0] <= 0:
        return
    depth = 1 + np.log10(np.maximum(block.fall, 10.0**-DECADES)) / DECADES
    stops = np.linspace(0, 1, len(DEEP))
    colours = np.stack([np.interp(depth, stops, [colour[channel] for colour in DEEP]) for channel in range(3)], axis=1)
    strip = Image.fromarray(colours.round().astype(np.uint8)[None], "RGB")
    width = max(1, round(FALL * len(block.fall) / rank))
    image.paste(strip.resize((width, ROW - 7), Image.Resampling.NEAREST), at)


def _legend(
    image: Image.Image,
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    found: Spectrum,
) -> None:
    x, y = at
    ramp = np.linspace(1, 0, 120)
    stops = np.linspace(0, 1, len(DEEP))
    colours = np.stack([np.interp(ramp, stops, [colour[channel] for colour in DEEP]) for channel in range(3)], axis=1)
    strip = Image.fromarray(colours.round().astype(np.uint8)[None], "RGB").resize((120, 12))
    image.paste(strip, (x, y + 4))
    pen.text((x + 130, y + 2), "the block's largest to a thousandth of it", fill=FAINT, font=font)
    pen.line((x + 400, y + 2, x + 400, y + 18), fill=ALARM, width=2)
    pen.text((x + 410, y + 2), "so many directions carry 90 % of the change", fill=FAINT, font=font)
    counts = Counter(layer.health for layer in found.unwell)
    listed = ", ".join(f"{health} {count}" for health, count in sorted(counts.items()))
    text = f"layers that are not well: {listed}; their blocks are red" if counts else "every layer is well"
    pen.text((x, y + 24), text, fill=ALARM if counts else FAINT, font=font)
