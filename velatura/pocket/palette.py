"""The colour words that captions use, and the arithmetic of paint: mixing, lightening, a little jitter.

The eleven words are the basic colour terms of English, set well apart in RGB: what a person
types is what the small text encoder has to tell apart.
"""

from __future__ import annotations

import numpy as np

from velatura.pocket.scene import Colour

COLOURS: dict[str, Colour] = {
    "red": (214, 38, 38),
    "orange": (246, 130, 30),
    "yellow": (252, 212, 48),
    "green": (50, 152, 70),
    "blue": (38, 94, 214),
    "purple": (126, 60, 178),
    "pink": (252, 144, 194),
    "brown": (122, 76, 42),
    "black": (32, 32, 36),
    "white": (250, 248, 243),
    "grey": (140, 145, 152),
}

HAIR: dict[str, Colour] = {
    "black": (38, 34, 38),
    "brown": (110, 66, 36),
    "blonde": (240, 204, 104),
    "red": (196, 80, 34),
    "grey": (168, 170, 178),
    "pink": (244, 132, 184),
    "blue": (66, 106, 216),
}

SKIN: tuple[Colour, ...] = ((252, 220, 194), (240, 194, 156), (206, 148, 104), (150, 98, 66), (122, 80, 56))

WHITE: Colour = (255.0, 255.0, 255.0)
SHADOW: Colour = (20.0, 20.0, 44.0)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Blend two colours; `share` is the second one's part, 0 to 1."""
    keep = 1 - share
    return (
        first[0] * keep + second[0] * share,
        first[1] * keep + second[1] * share,
        first[2] * keep + second[2] * share,
    )


def lighten(colour: Colour, share: float) -> Colour:
    """Mix with white."""
    return mix(colour, WHITE, share)


def darken(colour: Colour, share: float) -> Colour:
    """Mix with a cold near-black."""
    return mix(colour, SHADOW, share)


def shade(colour: Colour, share: float) -> Colour:
    """The colour with less light on it: darker, its hue and saturation kept."""
    return (colour[0] * (1 - share), colour[1] * (1 - share), colour[2] * (1 - 0.85 * share))


def luminance(colour: Colour) -> float:
    """Perceived brightness, 0 to 255 (Rec. 601 weights)."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def accent(colour: Colour, share: float) -> Colour:
    """The same colour one step apart: darker, or lighter where it is too dark to get darker."""
    return lighten(colour, share) if luminance(colour) < 60 else darken(colour, share)


def jitter(colour: Colour, rng: np.random.Generator, spread: float = 7.0) -> Colour:
    """The colour as mixed on another day: lighter or darker by a normal draw, its hue moved less."""
    moved = np.asarray(colour) + rng.normal(0.0, spread) + rng.normal(0.0, spread / 2, 3)
    red, green, blue = np.clip(moved, 0.0, 255.0)
    return (float(red), float(green), float(blue))
