"""The second pass of a high-resolution fix: what it is told, and the size it is brought to (no torch).

Names and arithmetic are A1111's.
"""

from __future__ import annotations

from dataclasses import dataclass

from velatura.errors import SettingsError, nearest

LATENT_UPSCALERS = (
    "Latent",
    "Latent (antialiased)",
    "Latent (bicubic)",
    "Latent (bicubic antialiased)",
    "Latent (nearest)",
    "Latent (nearest-exact)",
)
"""These work on the latents."""

PICTURE_UPSCALERS = ("Lanczos", "Nearest", "None")
"""These work on the decoded picture, which is then encoded again."""

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
