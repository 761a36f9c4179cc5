"""The second pass of a high-resolution fix: to which size, and how the first pass is brought there.

Names and arithmetic are A1111's. Latent upscalers work on the latents; the others on the decoded picture,
which is then encoded again.

Shape suffixes: B batch, C latent channels, H and W latent height and width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor
from torch.nn import functional

from velatura.errors import SettingsError, nearest

LATENT_UPSCALERS: Mapping[str, Mapping[str, Any]] = {
    "Latent": {"mode": "bilinear", "antialias": False},
    "Latent (antialiased)": {"mode": "bilinear", "antialias": True},
    "Latent (bicubic)": {"mode": "bicubic", "antialias": False},
    "Latent (bicubic antialiased)": {"mode": "bicubic", "antialias": True},
    "Latent (nearest)": {"mode": "nearest", "antialias": False},
    "Latent (nearest-exact)": {"mode": "nearest-exact", "antialias": False},
}
"""What torch is told."""

PICTURE_UPSCALERS = {
    "Lanczos": Image.Resampling.LANCZOS,
    "Nearest": Image.Resampling.NEAREST,
    "None": Image.Resampling.LANCZOS,
}
"""A1111's own; "None" is one Lanczos where "Lanczos" goes by a multiple of 8 pixels."""

UPSCALERS = (*LATENT_UPSCALERS, *PICTURE_UPSCALERS)


@dataclass(frozen=True)
class Hires:
    """A second pass, larger, that begins with what the first has painted."""

    scale: float = 2.0
    """Of both sides; where neither `width` nor `height` is given."""
    width: int = 0
    """Pixels; 0: follows from the height."""
    height: int = 0
    """Pixels; 0: follows from the width."""
    steps: int = 0
    """All of which are taken; 0: as many as in the first pass."""
    denoising: float = 0.7
    upscaler: str = "Latent"
    sampler: str | None = None
    """This, and what follows: None for that of the first pass."""
    scheduler: str | None = None
    cfg_scale: float | None = None
    prompt: str | None = None
    negative_prompt: str | None = None


@dataclass(frozen=True)
class Target:
    """Where a second pass goes, in pixels."""

    width: int
    """Of the first pass brought larger."""
    height: int
    crop_x: int = 0
    """Latents that are then cut off, half of them on each side."""
    crop_y: int = 0

    def size(self, factor: int) -> tuple[int, int]:
        """Width and height of the picture that comes out, where a latent is so many pixels wide."""
        return (self.width // factor - self.crop_x) * factor, (self.height // factor - self.crop_y) * factor


def target(width: int, height: int, hires: Hires, *, factor: int = 8) -> Target:
    """The size that a first pass of a size is brought to.

    A scale is taken of each side, rounded down to pixels; of one side given the other follows, rounded down; two
    sides are covered, and what is over is cut off the latents.

    Raises:
        SettingsError: there is none.
    """
    if hires.width < 0 or hires.height < 0 or not 0 < hires.scale < float("inf"):
        raise SettingsError("a second pass needs a scale or a size", fix="write --hires 2 or --hires-to 1024x1536")
    if not hires.width and not hires.height:
        return Target(int(width * hires.scale), int(height * hires.scale))
    by_width = Target(hires.width, hires.width * height // width)
    by_height = Target(hires.height * width // height, hires.height)
    if not hires.height:
        return by_width
    if not hires.width:
        return by_height
    covering = by_width if width / height < hires.width / hires.height else by_height
    crop = (covering.width - hires.width) // factor, (covering.height - hires.height) // factor
    return Target(covering.width, covering.height, *crop)


def check_upscaler(name: str) -> None:
    """Refuse an unknown upscaler.

    Raises:
        SettingsError: it is unknown.
    """
    if name not in UPSCALERS:
        close = nearest(name, list(UPSCALERS))
        fix = f"did you mean {close!r}?" if close else f"known are {', '.join(UPSCALERS)}"
        raise SettingsError(f"there is no upscaler {name!r}", fix=fix)


def upscaled_latents(latents_BCHW: Tensor, height: int, width: int, upscaler: str) -> Tensor:
    """Latents at another size, counted in latents."""
    larger: Tensor = functional.interpolate(latents_BCHW, size=(height, width), **LATENT_UPSCALERS[upscaler])
    return larger


def upscaled_picture(image: Image.Image, width: int, height: int, upscaler: str) -> Image.Image:
    """A picture at another size, in pixels.

    As A1111 does it, "Lanczos" and "Nearest" go to multiples of 8 pixels first where they make it larger, and from
    there by Lanczos.
    """
    resampling, lanczos = PICTURE_UPSCALERS[upscaler], Image.Resampling.LANCZOS
    scale = max(width / image.width, height / image.height)
    if scale > 1 and upscaler != "None":
        rounded = tuple(max(8, int(side * scale // 8 * 8)) for side in image.size)
        for _ in range(3):
            if image.width >= rounded[0] and image.height >= rounded[1]:
                break
            image = image.resize((int(image.width * scale), int(image.height * scale)), resampling)
        if image.size != rounded:
            image = image.resize((rounded[0], rounded[1]), lanczos)
    return image if image.size == (width, height) else image.resize((width, height), lanczos)


def cropped(latents_BCHW: Tensor, crop_x: int, crop_y: int) -> Tensor:
    """Latents without so many columns and rows, the odd one taken from the right and below."""
    height, width = latents_BCHW.shape[-2:]
    return latents_BCHW[..., crop_y // 2 : height - (crop_y + 1) // 2, crop_x // 2 : width - (crop_x + 1) // 2]
