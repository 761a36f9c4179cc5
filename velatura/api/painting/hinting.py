"""What a ControlNet sees of a picture, as a file to be looked at (no torch)."""

from __future__ import annotations

import io
from pathlib import Path

from velatura.dataset.images import open_image
from velatura.errors import SettingsError
from velatura.files import write_bytes
from velatura.generation import control, preprocess
from velatura.sheets import axes


def write_hint(
    picture: Path,
    kind: str,
    out: Path | None = None,
    *,
    low: float | None = None,
    high: float | None = None,
    size: str | None = None,
    fit: str = "crop",
) -> Path:
    """Make a hint of a picture and write it; returns its place.

    Args:
        picture: the file.
        kind: a preprocessor of `generation.preprocess`.
        out: the PNG to write; none: beside the picture, under a name that is free.
        low: its first threshold; none: the usual one.
        high: its second.
        size: "WxH" of the picture to paint; none: the picture's own.
        fit: how the picture is brought to it.

    Raises:
        DatasetError: the picture cannot be read.
        SettingsError: there is no such preprocessor, threshold, size or fit, or the file is there already.
        MissingExtra: it needs OpenCV.
    """
    from velatura.generation.start import fitted

    preprocess.check(kind, low, high)
    if fit not in control.FITS:
        raise SettingsError(f"a picture cannot be made to fit by {fit!r}", fix=f"use {', '.join(control.FITS)}")
    place = out or picture.with_name(f"{picture.stem}-{kind}.png")
    if place.exists():
        raise SettingsError("this file is there already", where=place, fix="name another with --out")
    image = open_image(picture)
    width, height = axes.size(size) if size else image.size
    buffer = io.BytesIO()
    preprocess.hint(fitted(image, width, height, fit), kind, low, high).save(buffer, "PNG")
    write_bytes(place, buffer.getvalue())
    return place
