"""From any mode and colour profile that Pillow can read to 8-bit sRGB.

Pillow's own `convert` clips 16-bit greys to white, ignores embedded profiles and paints what is
transparent in whatever colour lies beneath; a training picture must look as it does in a viewer.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from velatura.errors import DatasetError

WHITE = (255, 255, 255)

_MODE_OF_SPACE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
"""The Pillow mode that a profile of each colour space applies to."""


def to_srgb(image: Image.Image, *, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """The picture as 8-bit RGB in sRGB, transparency flattened on `background`.

    Raises:
        DatasetError: pixel values without a known range (32-bit and floating-point files).
    """
    profile = image.info.get("icc_profile")
    colours, alpha = _apart(_eight_bits(image))
    colours = _through_profile(colours, profile)
    if alpha is None:
        return colours
    flat = Image.new("RGB", colours.size, background)
    flat.paste(colours, mask=alpha)
    return flat


def alpha_of(image: Image.Image) -> Image.Image | None:
    """How opaque the picture is, as 8-bit grey; None where it cannot be transparent."""
    return _apart(_eight_bits(image))[1]


def profile_name(profile: bytes | None) -> str:
    """What an embedded colour profile calls itself; "" where there is none or it is broken."""
    if not profile:
        return ""
    try:
        return (ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.profile_description or "unnamed").strip()
    except (ImageCms.PyCMSError, OSError, ValueError):
        return ""


def _eight_bits(image: Image.Image) -> Image.Image:
    """Greys of more than 8 bits scaled to L, or to LA where one value stands for transparent."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;"):
        return image
    values = np.asarray(image)
    lowest, highest = float(values.min()), float(values.max())
    top = 1.0 if image.mode == "F" else 65535.0
    if not (lowest >= 0.0 and highest <= top):
        raise DatasetError(
            f"the picture holds values from {lowest:g} to {highest:g}, and where white lies is not said",
            fix="save it as an 8-bit or 16-bit PNG",
        )
    scaled = np.multiply(values, 255.0 / top, dtype=np.float32)
    greys = Image.fromarray(np.rint(scaled).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        alpha = Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))
        return Image.merge("LA", (greys, alpha))
    return greys


def _apart(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours in a mode that a profile can apply to, and alpha where the picture has any."""
    if image.has_transparency_data:
        layered = image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
        alpha = layered.getchannel("A")
        if layered.mode == "LA":
            return layered.getchannel("L"), alpha
        return layered.convert("RGB"), alpha
    if image.mode == "1":
        return image.convert("L"), None
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image, None
    return image.convert("RGB"), None


def _through_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB in sRGB. A profile that is broken or made for another kind of picture is left aside, as viewers do."""
    srgb = ImageCms.createProfile("sRGB")
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # None is only returned when converting in place
        return converted
    if not profile:
        return image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODE_OF_SPACE.get(source.profile.xcolor_space.strip())
        if mode == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        is_srgb = "srgb" in (source.profile.profile_description or "").lower()
        if mode != image.mode or is_srgb:
            return image.convert("RGB")
        converted = ImageCms.profileToProfile(
            image,
            source,
            srgb,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image.convert("RGB")
    assert converted is not None
    return converted
