"""Painting a part of a picture anew: what is taken out of it, what painting begins with, how the result goes back.

With "whole picture" all of it is painted, and laid back where the mask is white. With "only masked" the part around
the mask is cut out, painted at a size of its own, and put back at its place. The picture keeps its size in both.
Arithmetic and names are A1111's (`masking`); its mask belongs to the picture as it was brought to the painted size,
ours to the picture as it is.

Shape suffixes: B batch, C channels, H and W height and width.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from velatura.dataset.images import open_alpha, open_image
from velatura.errors import SettingsError
from velatura.family import Model
from velatura.generation.masking import Region, blurred, filled, firm, grey, grown, lay_over, region
from velatura.generation.parts import Inpaint
from velatura.generation.start import Start, encoded, fitted, latent_mask, pixels_of

CONTENTS: Mapping[str, Any] = {"latent noise": "noise", "latent nothing": "nothing"}
"""A fill that is done to latents -> what `Start` calls it."""

SHAPE_TOLERANCE = 0.02
"""A mask of another size belongs to its picture if its proportions differ by no more than this share."""


def mask_of(told: Inpaint, size: tuple[int, int]) -> Image.Image:
    """The mask of a picture of a size, grey, before its edges are blurred.

    Raises:
        DatasetError: its file cannot be read.
        SettingsError: it is of other proportions than the picture, or a box lies outside of it.
    """
    mask = Image.new("L", size)
    if isinstance(told.mask, bytes):
        mask = Image.open(io.BytesIO(told.mask)).convert("L")
    elif told.mask is not None:
        mask = _opened(told.mask, size)
    mask = grey(mask, hard=not told.soft)
    draw = ImageDraw.Draw(mask)
    for left, top, right, bottom in told.boxes:
        if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
            raise SettingsError(
                f"the box {left:g},{top:g},{right:g},{bottom:g} is not in the picture of {size[0]} x {size[1]} pixels",
                fix="write left,top,right,bottom",
            )
        draw.rectangle((left, top, right - 1, bottom - 1), fill=255)
    return mask


def check_mask(mask: Image.Image, told: Inpaint) -> None:
    """Refuse a mask with nothing in it.

    Raises:
        SettingsError: it is black all over, or white and inverted.
    """
    if mask.getextrema() == ((255, 255) if told.invert else (0, 0)):
        raise SettingsError(
            f"the mask is {'white' if told.invert else 'black'} all over, so there is nothing to paint",
            where=told.mask if isinstance(told.mask, Path) else None,
            fix="leave --invert out" if told.invert else "draw in white what is to be painted anew",
        )


def _opened(path: Path, size: tuple[int, int]) -> Image.Image:
    """A mask's transparency where it has some, else its brightness, at the picture's size."""
    alpha = open_alpha(path)
    mask = alpha if alpha is not None and alpha.getextrema() != (255, 255) else open_image(path).convert("L")
    if mask.size == size:
        return mask
    if abs((mask.width / mask.height) / (size[0] / size[1]) - 1) > SHAPE_TOLERANCE:
        raise SettingsError(
            f"the mask is {mask.width} x {mask.height} pixels and the picture {size[0]} x {size[1]}",
            where=path,
            fix="draw it on the picture, or on one of the same proportions",
        )
    return mask.resize(size, Image.Resampling.BILINEAR)


def mask_bytes(mask: Image.Image) -> bytes:
    """A mask as a small PNG file; one bit a pixel where it is black and white."""
    hard = not any(mask.histogram()[1:255])
    buffer = io.BytesIO()
    (mask.convert("1", dither=Image.Dither.NONE) if hard else mask).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


@dataclass(frozen=True)
class Patch:
    """A part of a picture, as it is painted."""

    image: Image.Image
    """At the size that it is painted in."""
    mask: Image.Image
    """The same of the mask, its edges blurred."""
    part: Region
    """Where it goes."""
    overlay: Image.Image
    """How much of what is painted goes there: grey, of the part's size."""
    back: str = "crop"
    """How what is painted is made to fit."""

    def begun(self, fill: str) -> Image.Image:
        """The picture that painting begins with.

        Args:
            fill: of `parts.FILLS`.
        """
        return self.image if fill == "original" else filled(self.image, self.mask)

    def lay(self, whole: Image.Image, painted: Image.Image) -> None:
        """Put what was painted into the picture."""
        lay_over(whole, fitted(painted, *self.part.size, self.back), self.overlay, self.part)


def patch(image: Image.Image, mask: Image.Image, told: Inpaint, painted: tuple[int, int]) -> Patch:
    """The part of a picture that is painted, for a mask of its size.

    Args:
        image: RGB.
        mask: from `mask_of`.
        told: how it is painted.
        painted: width and height to paint in.

    Raises:
        SettingsError: nothing of the picture is to be painted.
    """
    soft = blurred(grey(mask, hard=False, invert=told.invert), told.blur)
    if told.area == "only masked":
        return cut_out(image, soft, padding=told.padding, painted=painted)
    whole = Region(0, 0, *image.size)
    region(soft, 0)  # says where there is nothing
    return Patch(fitted(image, *painted), fitted(soft, *painted), whole, firm(soft), back="stretch")


def cut_out(
    image: Image.Image, mask: Image.Image, *, padding: int, painted: tuple[int, int], at: tuple[int, int] = (0, 0)
) -> Patch:
    """The part of a picture around what is not black, brought to the size that it is painted in.

    Args:
        image: RGB.
        mask: of the picture, or of a window of it, its edges blurred.
        padding: pixels around it that are in view.
        painted: width and height.
        at: left and top of the window.

    Raises:
        SettingsError: the mask is black all over.
    """
    part = grown(region(mask, padding, at=at, whole=image.size), painted, image.size)
    overlay = Image.new("L", part.size)
    overlay.paste(mask, (at[0] - part.left, at[1] - part.top))
    return Patch(
        fitted(image.crop(part), *painted, "fill"), fitted(overlay, *painted, "fill").convert("L"), part, overlay
    )


@torch.inference_mode()
def begin_with(
    model: Model, one: Patch, *, denoising: float, exact_steps: bool = False, fill: str = "original", soft: bool = False
) -> Start:
    """What painting a part begins with.

    Args:
        model: the base.
        one: the part.
        denoising: how much of what is masked is painted anew, 0 to 1.
        exact_steps: take as many steps as are asked for.
        fill: of `parts.FILLS`.
        soft: keep the mask's greys.
    """
    image = one.begun(fill)
    latents = encoded(model, image)
    height, width = latents.shape[-2:]
    beside = None
    if model.extra_channels:
        pixels_1CHW, mask_1HW = pixels_of(image), torch.from_numpy(np.array(one.mask, dtype=np.float32))[None] / 255
        mask_1HW = mask_1HW if soft else mask_1HW.round()
        beside = model.family.masked(model, pixels_1CHW * (1 - mask_1HW[:, None]), mask_1HW)
    return Start(
        latents,
        denoising,
        exact_steps,
        latent_mask(one.mask, height, width, soft=soft),
        CONTENTS.get(fill, "as it is"),
        beside,
    )
