"""Words on pictures and sheets, in whatever script: Pillow's own typeface knows English only, and not even an é.

So a text is set in the first typeface that has all of its letters: Pillow's own, then those that systems come with.
Where none has them all, the one that has most is taken, and what it lacks becomes an ellipsis.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont

GAP = "\N{HORIZONTAL ELLIPSIS}"
"""In the place of letters that a typeface lacks."""

FILES = (
    # Linux: European scripts, then Chinese, Japanese and Korean, then others
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "FreeSans.ttf"),
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "NotoSansCJKjp-Regular.otf", "DroidSansFallbackFull.ttf"),
    *("wqy-microhei.ttc", "wqy-zenhei.ttc", "NotoSansThai-Regular.ttf", "NotoSansDevanagari-Regular.ttf"),
    # Windows
    *("segoeui.ttf", "tahoma.ttf", "msyh.ttc", "YuGothM.ttc", "malgun.ttf", "Nirmala.ttf", "LeelawUI.ttf"),
    # macOS, and signs that are no letters
    *("Arial Unicode.ttf", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Apple Symbols.ttf", "seguisym.ttf"),
)
"""Names under which Pillow looks in the system's folders of typefaces."""

_NO_LETTER = "\U0010fffe"


def typeface(text: str, size: int) -> Font:
    """The first typeface of this size, in pixels, that has all letters of a text, or the one that has most."""
    signs = set(_composed(text))
    best, most = _own(size), -1
    for font in _at_hand(size):
        known = sum(_has(font, sign) for sign in signs)
        if known == len(signs):
            return font
        if known > most:
            best, most = font, known
    return best


def shown(text: str, font: Font) -> str:
    """What of a text a typeface can show, with an ellipsis for each gap."""
    plain = "".join(sign if _has(font, sign) else GAP for sign in _composed(text))
    while GAP * 2 in plain:
        plain = plain.replace(GAP * 2, GAP)
    return plain


def direction(font: Font) -> str | None:
    """For Pillow: a line begins on the left, whatever its letters, or .png would stand in front of a Hebrew name."""
    return "ltr" if font.layout_engine == ImageFont.Layout.RAQM else None  # the other engine knows one direction only


def lacks(text: str, font: Font) -> bool:
    """Whether a typeface lacks letters of a text."""
    return not all(_has(font, sign) for sign in _composed(text))


def _composed(text: str) -> str:
    """Letters and their accents as one sign each, as typefaces have them, and without signs that show nothing."""
    whole = unicodedata.normalize("NFC", text)
    return "".join(sign for sign in whole if unicodedata.category(sign) != "Cf" and not "\ufe00" <= sign <= "\ufe0f")


def _at_hand(size: int) -> Iterator[Font]:
    yield _own(size)
    for name in FILES:
        path = _found(name)
        if path is not None:
            yield _font(path, size)


@cache
def _own(size: int) -> Font:
    font = ImageFont.load_default(size)
    assert isinstance(font, Font)
    return font


@cache
def _font(path: str, size: int) -> Font:
    return ImageFont.truetype(path, size)


@cache
def _found(name: str) -> str | None:
    """The file of a typeface, as Pillow finds it; None where there is none that it can read."""
    try:
        return str(ImageFont.truetype(name, 14).path)
    except OSError:
        return None


@cache
def _has(font: Font, sign: str) -> bool:
    """Whether a sign is drawn, and not the box that stands for those that are missing."""
    if sign.isspace():
        return True
    if unicodedata.category(sign) in ("Cc", "Cs", "Cn"):
        return False
    drawn, missing = font.getmask(sign), font.getmask(_NO_LETTER)
    return (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))
