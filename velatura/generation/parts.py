"""Which part of a picture is painted anew, and how: what is told, in A1111's words (no torch)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from velatura.errors import SettingsError, nearest

AREAS = ("whole picture", "only masked")

FILLS = ("fill", "original", "latent noise", "latent nothing")
"""What stands where the mask is white when painting begins: colours from around it, the picture, noise, nothing."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels; right and bottom are outside."""


@dataclass(frozen=True)
class Inpaint:
    """Which part of a picture is painted anew, and how; defaults are A1111's."""

    mask: Path | bytes | None = None
    """A picture, or the bytes of one: white or opaque is painted anew."""
    boxes: tuple[Box, ...] = ()
    """Rectangles that are painted anew besides."""
    invert: bool = False
    """Paint anew what these leave."""
    soft: bool = False
    """Keep the mask's greys all the way; else each latent is painted anew or is not."""
    blur: float = 4
    """Sigma of the mask's edges, in pixels."""
    area: str = "whole picture"
    """Of `AREAS`."""
    padding: int = 32
    """Pixels around the mask that are in view where only the masked part is painted."""
    fill: str = "original"
    """Of `FILLS`: what stands where the mask is when painting begins."""

    @property
    def words(self) -> dict[str, object]:
        """What A1111 writes of it."""
        masked = self.area == "only masked"
        return {
            "Mask mode": "Inpaint not masked" if self.invert else None,
            "Mask blur": f"{self.blur:g}" if self.blur else None,
            "Inpaint area": "Only masked" if masked else None,
            "Masked area padding": self.padding if masked else None,
            "Masked content": None if self.fill == "original" else self.fill,
        }


def check(told: Inpaint) -> None:
    """Refuse what cannot be.

    Raises:
        SettingsError: no part, an unknown area or fill, or numbers below 0.
    """
    for name, value, known in (("area", told.area, AREAS), ("fill", told.fill, FILLS)):
        if value not in known:
            close = nearest(value, list(known))
            fix = f"did you mean {close!r}?" if close else f"choose from {', '.join(known)}"
            raise SettingsError(f"there is no {name} {value!r} for inpainting", fix=fix)
    if told.mask is None and not told.boxes:
        raise SettingsError("it is not said which part is to be painted anew", fix="name a mask, or draw a box")
    if told.blur < 0 or told.padding < 0:
        raise SettingsError("a mask's blur and padding are 0 or more")
