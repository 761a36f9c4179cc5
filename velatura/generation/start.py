"""What painting begins with in the place of noise alone: latents of which a share is painted anew.

A1111's arithmetic. Of `steps` steps only the last int(steps * denoising) + 1 are taken, from the noise level
where they begin; with `exact_steps`, and in the second pass of a high-resolution fix, the schedule is made so
long that just `steps` of them remain. Denoising 1 counts as 0.999. The latents are the mean of what the
autoencoder says, where A1111 draws from around it: the same picture gives the same latents.

Shape suffixes: B batch, C latent channels, H and W latent height and width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from velatura.errors import SettingsError, nearest
from velatura.family import Model
from velatura.generation.upscale import upscaled_latents

FULL = 0.999
"""Denoising is at most this."""

RESIZE_MODES = ("stretch", "crop", "fill", "latent")
"""How a picture of other proportions is made to fit: A1111's Just resize, Crop and resize, Resize and fill,
Just resize (latent upscale)."""


@dataclass(frozen=True)
class Start:
    """Latents to begin with, and how much of them is painted anew."""

    latents_BCHW: Tensor
    """Clean, as the denoiser knows them; one for all pictures, or one for each."""
    denoising: float = 0.75
    """0 to 1: how much noise they are given."""
    exact_steps: bool = False
    """Take as many steps as are asked for, and not that share of them."""
    mask_HW: Tensor | None = None
    """How much of each latent is painted anew, 0 to 1 (`latent_mask`); what is not comes out as it was; none: all."""
    content: Literal["as it is", "noise", "nothing"] = "as it is"
    """What stands where the mask is when painting begins."""
    beside_BCHW: Tensor | None = None
    """What an inpainting base is told of the picture (`ModelFamily.masked`); none: all of it is masked."""

    def of(self, first: int, count: int) -> Tensor:
        """Those of some of the pictures."""
        if len(self.latents_BCHW) == 1:
            return self.latents_BCHW.expand(count, -1, -1, -1)
        return self.latents_BCHW[first : first + count]


@dataclass(frozen=True)
class Held:
    """What a mask keeps as it was, all the way."""

    latents_BCHW: Tensor
    mask_HW: Tensor
    """How much of each latent is painted anew, 0 to 1."""

    @classmethod
    def of(cls, start: Start | None, clean_BCHW: Tensor | None, noise_BCHW: Tensor) -> Held | None:
        """What painting begins with where a part is painted anew; none where all of it is.

        Args:
            clean_BCHW: the picture's latents.
            noise_BCHW: the first noise of every picture, of variance 1.
        """
        if start is None or start.mask_HW is None or clean_BCHW is None:
            return None
        mask_HW, clean_BCHW = start.mask_HW.to(noise_BCHW), clean_BCHW.to(noise_BCHW)
        if start.content == "noise":
            clean_BCHW = clean_BCHW * (1 - mask_HW) + noise_BCHW * mask_HW
        elif start.content == "nothing":
            clean_BCHW = clean_BCHW * (1 - mask_HW)
        return cls(clean_BCHW, mask_HW)

    def __call__(self, latents_BCHW: Tensor) -> Tensor:
        """These latents where the mask is, and what was there elsewhere."""
        return latents_BCHW * self.mask_HW + self.latents_BCHW * (1 - self.mask_HW)


def latent_mask(mask: Image.Image, height: int, width: int, *, soft: bool = False) -> Tensor:
    """A grey mask as latents know it, (H, W), 0 to 1.

    Args:
        soft: keep the greys; else each latent is painted anew or is not, as in A1111.
    """
    small = mask.convert("L").resize((width, height), Image.Resampling.BICUBIC)
    found = torch.from_numpy(np.array(small, dtype=np.float32)) / 255
    return found if soft else found.round()


def levels(
    schedule: Callable[[int], tuple[float, ...]], steps: int, *, denoising: float, exact_steps: bool
) -> tuple[float, ...]:
    """The noise levels that remain of a schedule; the latents are noised to the first.

    Args:
        schedule: steps -> noise levels.
        steps: as asked for.
        denoising: 0 to 1.
        exact_steps: so many steps are taken, whatever the denoising.

    Raises:
        SettingsError: the denoising is not in range, or leaves no schedule.
    """
    if not 0 <= denoising <= 1:
        raise SettingsError(f"denoising {denoising:g} is not possible", fix="use a number from 0 to 1")
    share = min(denoising, FULL)
    if not exact_steps:
        return _rest(schedule(steps), steps - int(share * steps) - 1)
    if share == 0:
        raise SettingsError(
            f"denoising 0 cannot be done in {steps} steps: nothing is painted anew", fix="use more than 0"
        )
    whole = int(steps / share)
    try:
        return _rest(schedule(whole), whole - steps)
    except SettingsError as error:
        raise SettingsError(
            f"{steps} steps at denoising {denoising:g} are the last of {whole}, and {error.what}",
            fix="use more denoising, fewer steps or another schedule",
        ) from error


def _rest(sigmas: tuple[float, ...], place: int) -> tuple[float, ...]:
    """The noise levels from a place on; one step at least, also of schedules that end above 0 and so are shorter."""
    return sigmas[min(place, len(sigmas) - 2) :]


def fitted(image: Image.Image, width: int, height: int, mode: str = "stretch") -> Image.Image:
    """A picture brought to a size, by Lanczos, in A1111's arithmetic.

    Args:
        mode: of `RESIZE_MODES`. `stretch` may distort, `crop` covers the size and cuts what is over, `fill` fits
            into it and repeats the outermost pixels; `latent` leaves the picture as it is.

    Raises:
        SettingsError: an unknown mode.
    """
    check_mode(mode)
    if mode == "latent" or image.size == (width, height):
        return image
    if mode == "stretch":
        return image.resize((width, height), Image.Resampling.LANCZOS)
    wider = width / height > image.width / image.height
    across = wider if mode == "crop" else not wider
    if width / height == image.width / image.height:
        inner = width, height
    elif across:
        inner = width, max(1, image.height * width // image.width)
    else:
        inner = max(1, image.width * height // image.height), height
    small = image if inner == image.size else image.resize(inner, Image.Resampling.LANCZOS)
    left, top = width // 2 - inner[0] // 2, height // 2 - inner[1] // 2
    placed = Image.new("RGB", (width, height))
    if mode == "fill":
        _fill(placed, small, left, top)
    placed.paste(small, (left, top))
    return placed


def _fill(canvas: Image.Image, small: Image.Image, left: int, top: int) -> None:
    """Draw a picture's borders out to the canvas's sides; a border is what Pillow makes of a box without area."""
    (width, height), (inner_width, inner_height) = canvas.size, small.size
    if inner_width < width:
        for place, x, count in ((0, 0, left), (left + inner_width, inner_width, width - left - inner_width)):
            if count:
                canvas.paste(small.resize((count, height), box=(x, 0, x, height)), (place, 0))
    if inner_height < height:
        for place, y, count in ((0, 0, top), (top + inner_height, inner_height, height - top - inner_height)):
            if count:
                canvas.paste(small.resize((width, count), box=(0, y, width, y)), (0, place))


def check_mode(mode: str) -> None:
    """Refuse what is no way of fitting a picture.

    Raises:
        SettingsError: it is none.
    """
    if mode not in RESIZE_MODES:
        close = nearest(mode, list(RESIZE_MODES))
        fix = f"did you mean {close}?" if close else f"choose from {', '.join(RESIZE_MODES)}"
        raise SettingsError(f"there is no resize mode {mode!r}", fix=fix)


@torch.inference_mode()
def encoded_picture(model: Model, image: Image.Image, width: int, height: int, *, mode: str = "stretch") -> Tensor:
    """The latents of a picture at a size, (1, C, H, W), on the model's device.

    Args:
        image: RGB; see `dataset.images.open_image` for one that is upright, in sRGB and without transparency.

    Raises:
        SettingsError: an unknown mode.
    """
    latents = encoded(model, fitted(image, width, height, mode))
    if mode != "latent":
        return latents
    return upscaled_latents(latents, height // model.latent_factor, width // model.latent_factor, "Latent")


@torch.inference_mode()
def encoded(model: Model, image: Image.Image) -> Tensor:
    """The latents of a picture as it is, (1, C, H, W); what a last latent would hold in part is cut off."""
    step = model.latent_factor * model.patch
    width, height = max(step, image.width // step * step), max(step, image.height // step * step)
    if (width, height) != image.size:
        image = fitted(image, width, height, "crop") if min(image.size) < step else image.crop((0, 0, width, height))
    return model.family.encode_images(model, pixels_of(image)).to(model.policy.device)


def pixels_of(image: Image.Image) -> Tensor:
    """A picture as networks know it, (1, 3, H, W), -1 to 1."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 127.5 - 1
