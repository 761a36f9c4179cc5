"""Caption files: text in whatever encoding an editor left it, one caption per line.

A caption that is empty is a caption ("say nothing of this picture"); a caption that is missing is None.
A file that cannot be read is an error, never an empty caption.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from velatura.errors import DatasetError

SUFFIXES = (".txt", ".caption")
"""Endings of caption files; where a picture has both, the first is read."""

MAX_BYTES = 1_000_000
"""A larger file is not a caption."""

_MOST = 1 << 16
"""Bytes that nearly every caption has fewer of; room is made for as many as are asked for."""

_MARKS = (  # UTF-32 before UTF-16, whose mark it begins with
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ANY_MARK = tuple(mark for mark, _ in _MARKS)


@dataclass(frozen=True)
class CaptionFile:
    """The captions of one file, at least one, and a remark where the encoding had to be guessed."""

    captions: tuple[str, ...]
    note: str | None = None


def read_captions(path: Path) -> CaptionFile:
    """Every line that is not blank is one caption; a file without any holds the empty caption.

    Raises:
        DatasetError: the file cannot be read, is not text, or is far too large.
    """
    try:
        data = _beginning(path)
    except OSError as error:
        raise DatasetError(f"the caption cannot be read ({error.strerror})", where=path) from None
    if len(data) > MAX_BYTES:
        raise DatasetError("the file is too large for a caption", where=path, fix="keep a few lines of text")
    text, note = decode(data, path)
    return CaptionFile(lines_of(text), note)


def lines_of(text: str) -> tuple[str, ...]:
    """The captions in the text of a file."""
    # Not splitlines(): that also breaks at form feeds and other separators inside a line.
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return tuple(filter(None, map(str.strip, text.split("\n")))) or ("",)


def _beginning(path: Path) -> bytes:
    """The file, or more of it than a caption may have."""
    # Without a file object, which would take four times as long, and there may be ten thousand captions.
    data = b""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        while len(data) <= MAX_BYTES and (more := os.read(handle, _MOST)):
            data += more
    finally:
        os.close(handle)
    return data


def decode(data: bytes, path: Path) -> tuple[str, str | None]:
    """Text from bytes: by its byte order mark, as UTF-8, as unmarked UTF-16, last as Windows-1252.

    Returns:
        The text, and a remark where the encoding was guessed.
    """
    for mark, encoding in _MARKS if data.startswith(_ANY_MARK) else ():
        if data.startswith(mark):
            try:
                return data[len(mark) :].decode(encoding), None
            except UnicodeDecodeError:
                raise _not_text(path) from None
    if 0 not in data:
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode("utf-8"), None
    for encoding in _wide_encodings(data) if 0 in data else ("cp1252",):
        with contextlib.suppress(UnicodeDecodeError):
            text = data.decode(encoding)
            # A wrong guess shows in control characters, which nobody types.
            if not re.search(r"[\x00-\x08\x0e-\x1f]", text):
                return text, f"is not UTF-8; it was read as {encoding}, save it as UTF-8 to be sure"
    raise _not_text(path)


def with_trigger(caption: str, trigger: str | None) -> str:
    """The caption with the trigger word in front, unless it says it already (in any case of letters)."""
    trigger = (trigger or "").strip()
    if not trigger:
        return caption
    if re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", caption, flags=re.IGNORECASE):
        return caption
    return f"{trigger}, {caption}" if caption.strip() else trigger


def with_class(caption: str, trigger: str, words: str) -> str:
    """The caption with the words of the class in the trigger's place, said once where the caption says them too."""
    stands = rf"(?<!\w){re.escape(trigger.strip())}(?!\w)"
    doubled = rf"{stands},?\s+(?={re.escape(words)}(?!\w))"
    shorter = re.sub(doubled, "", caption, flags=re.IGNORECASE)
    return re.sub(stands, lambda _: words, shorter, flags=re.IGNORECASE)


def _wide_encodings(data: bytes) -> tuple[str, ...]:
    """UTF-16 without a mark: the zero bytes of its spaces and Latin letters all lie on one side."""
    if len(data) % 2 == 0 and 0 not in data[0::2]:
        return ("utf-16-le",)
    if len(data) % 2 == 0 and 0 not in data[1::2]:
        return ("utf-16-be",)
    return ()


def _not_text(path: Path) -> DatasetError:
    return DatasetError("the caption is not text", where=path, fix="save it as UTF-8")
