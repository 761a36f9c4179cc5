"""What a first pass has painted, brought to the size of the second: latents and pictures, A1111's ways.

Shape suffixes: B batch, C latent channels, H and W latent height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image
from torch import Tensor
from torch.nn import functional

INTERPOLATIONS: Mapping[str, Mapping[str, Any]] = {
    "Latent": {"mode": "bilinear", "antialias": False},
    "Latent (antialiased)": {"mode": "bilinear", "antialias": True},
    "Latent (bicubic)": {"mode": "bicubic", "antialias": False},
    "Latent (bicubic antialiased)": {"mode": "bicubic", "antialias": True},
    "Latent (nearest)": {"mode": "nearest", "antialias": False},
    "Latent (nearest-exact)": {"mode": "nearest-exact", "antialias": False},
}
"""What torch is told."""

Upscaler = Callable[[Image.Image], Image.Image]
"""What makes a picture larger, by a factor of its own."""

RESAMPLINGS = {
    "Lanczos": Image.Resampling.LANCZOS,
    "Nearest": Image.Resampling.NEAREST,
    "None": Image.Resampling.LANCZOS,
}
"""A1111's own; "None" is one Lanczos where "Lanczos" goes by a multiple of 8 pixels."""


def upscaled_latents(latents_BCHW: Tensor, height: int, width: int, upscaler: str) -> Tensor:
    """Latents at another size, counted in latents."""
    larger: Tensor = functional.interpolate(latents_BCHW, size=(height, width), **INTERPOLATIONS[upscaler])
    return larger


def upscaled_picture(image: Image.Image, width: int, height: int, upscaler: str) -> Image.Image:
    """A picture at another size, in pixels.

    As A1111 does it, "Lanczos" and "Nearest" go to multiples of 8 pixels first where they make it larger, and from
    there by Lanczos.
    """
    scale = max(width / image.width, height / image.height)
    if scale > 1 and upscaler != "None":
        image = scaled(image, scale, resized_by(upscaler, scale))
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)


def resized_by(upscaler: str, scale: float) -> Upscaler:
    """An upscaler without a model, for a scale."""

    def upscale(image: Image.Image) -> Image.Image:
        return image.resize((int(image.width * scale), int(image.height * scale)), RESAMPLINGS[upscaler])

    return upscale


def scaled(image: Image.Image, scale: float, upscale: Upscaler) -> Image.Image:
    """A picture so many times as large, in multiples of 8 pixels: A1111's way with upscalers.

    One that enlarges too little is asked again, three times at most, and what is too much or too little is set right
    by Lanczos.
    """
    rounded = tuple(max(8, int(side * scale // 8 * 8)) for side in image.size)
    for _ in range(3):
        if image.width >= rounded[0] and image.height >= rounded[1]:
            break
        image = upscale(image)
    return image if image.size == rounded else image.resize((rounded[0], rounded[1]), Image.Resampling.LANCZOS)


def cropped(latents_BCHW: Tensor, crop_x: int, crop_y: int) -> Tensor:
    """Latents without so many columns and rows, the odd one taken from the right and below."""
    height, width = latents_BCHW.shape[-2:]
    return latents_BCHW[..., crop_y // 2 : height - (crop_y + 1) // 2, crop_x // 2 : width - (crop_x + 1) // 2]
