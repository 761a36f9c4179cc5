"""Hints made of pictures without a network: edges, scribbles, a coarse version. No torch.

    canny      edges, white on black: OpenCV's Canny on the colours, thresholds 100 and 200
    scribble   fat strokes, white on black: the difference of two blurs (XDoG), threshold 32
    tile       the picture itself, made coarser where threshold_a is above 1: so many times
    invert     a drawing in black on white as white on black

As in A1111's ControlNet extension, whose names they bear in an infotext. OpenCV comes with the extra `vision`.
Sources: Canny 1986; Winnemoeller et al. 2012 for XDoG; sd-webui-controlnet's annotators for the constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from velatura.dataset.faces import opencv
from velatura.errors import SettingsError, nearest

Pixels = NDArray[np.uint8]

MODULES = {"canny": "canny", "scribble": "scribble_xdog", "tile": "tile_resample", "invert": "invert", "none": "none"}
"""Our name -> A1111's."""

THRESHOLDS: Mapping[str, tuple[tuple[float, float, float], ...]] = {
    "none": (),
    "invert": (),
    "canny": ((100, 1, 255), (200, 1, 255)),
    "scribble": ((32, 1, 64),),
    "tile": ((1, 1, 8),),
}
"""Preprocessor -> its thresholds: what is usual, the least and the most."""

NARROW, WIDE = 0.5, 5.0
"""Sigmas of the blurs between which a scribble's strokes lie."""


def check(name: str, low: float | None = None, high: float | None = None) -> None:
    """Refuse what is no preprocessor, or a threshold that it has not.

    Raises:
        SettingsError: it is none, or out of range.
    """
    if name not in THRESHOLDS:
        close = nearest(name, [*THRESHOLDS, *MODULES.values()])
        close = next((ours for ours, theirs in MODULES.items() if theirs == close), close)
        fix = f"did you mean {close!r}?" if close else f"known are {', '.join(THRESHOLDS)}; other hints are given made"
        raise SettingsError(f"there is no preprocessor {name!r}", fix=fix)
    own = THRESHOLDS[name]
    for place, (called, value) in enumerate((("threshold_a", low), ("threshold_b", high))):
        if value is None:
            continue
        if place >= len(own):
            raise SettingsError(f"the preprocessor {name!r} has no {called}", fix=f"leave {called} out")
        usual, least, most = own[place]
        if not least <= value <= most:
            raise SettingsError(
                f"{called} of {name!r} cannot be {value:g}", fix=f"use {least:g} to {most:g}; {usual:g} is usual"
            )


def thresholds(name: str, low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """Both thresholds, the usual one where none is told; None where the preprocessor has none."""
    usual = [one[0] for one in THRESHOLDS[name]]
    told = [value if value is not None else usual[place] for place, value in enumerate((low, high)[: len(usual)])]
    first, second = (*told, None, None)[:2]
    return first, second


def hint(image: Image.Image, name: str, low: float | None = None, high: float | None = None) -> Image.Image:
    """The hint that a preprocessor makes of a picture, of its size.

    Raises:
        SettingsError: there is no such preprocessor, or it has no such threshold.
        MissingExtra: it needs OpenCV.
    """
    check(name, low, high)
    rgb = image.convert("RGB")
    first, second = thresholds(name, low, high)
    made: Mapping[str, Callable[[], Image.Image]] = {
        "none": lambda: rgb,
        "invert": lambda: ImageOps.invert(rgb),
        "canny": lambda: _canny(rgb, first or 0, second or 0),
        "scribble": lambda: _scribble(rgb, first or 0),
        "tile": lambda: _tile(rgb, first or 1),
    }
    return made[name]()


def _canny(image: Image.Image, low: float, high: float) -> Image.Image:
    edges: Pixels = opencv().Canny(np.array(image), low, high)
    return Image.fromarray(edges).convert("RGB")


def _scribble(image: Image.Image, threshold: float) -> Image.Image:
    """Strokes where a narrow blur is darker than a wide one in every colour, by more than half the threshold."""
    library, levels = opencv(), np.array(image, dtype=np.float32)
    narrow, wide = (library.GaussianBlur(levels, (0, 0), sigma) for sigma in (NARROW, WIDE))
    # rounded as there; but twice as dark is not counted modulo 256, which there leaves holes in the darkest strokes
    darker = 255 - (255 - np.min(wide - narrow, axis=2)).clip(0, 255).astype(np.uint8)
    strokes = np.where(2 * darker.astype(np.int16) > threshold, 255, 0).astype(np.uint8)
    return Image.fromarray(strokes).convert("RGB")


def _tile(image: Image.Image, times: float) -> Image.Image:
    """Made smaller by areas, and brought back to its size."""
    if times <= 1:
        return image
    width, height = (max(1, int(side / times)) for side in image.size)
    library = opencv()
    small = library.resize(np.array(image), (width, height), interpolation=library.INTER_AREA)
    return Image.fromarray(small).resize(image.size, Image.Resampling.LANCZOS)
