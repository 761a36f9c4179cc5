"""Picture files that say how they were made: A1111's infotext where A1111 puts it, and Velatura's own record.

    PNG               the chunk `parameters`, and JSON in the chunk `velatura`
    JPEG, WebP, AVIF  EXIF's UserComment, UTF-16 with the big end first, and JSON in EXIF's MakerNote

The record holds what it takes to make the picture again. Text that Latin-1 cannot hold goes into an iTXt chunk,
which PNG has for this. Equal pictures with equal texts are equal files.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from velatura.errors import FileProblem, SettingsError, nearest
from velatura.generation.infotext import Infotext, parse

FORMATS: Mapping[str, str] = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "avif": "AVIF"}
"""Name ending -> what Pillow calls it."""

QUALITY = 90

_EXIF_BLOCK, _USER_COMMENT, _MAKER_NOTE, _MAKE, _MODEL = 0x8769, 0x9286, 0x927C, 0x010F, 0x0110
_LONG, _UNDEFINED = 4, 7
"""Types of values in TIFF."""
_EXIF_ROOM = 65_000
"""Bytes that JPEG has for EXIF, and some to spare."""
_UNICODE, _OURS = b"UNICODE\0", b"velatura\0"
_WORDS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME"})
"""Chunks of a PNG that say something of it."""
_RECORD_CHUNK, _INFOTEXT_CHUNK = "velatura", "parameters"


@dataclass(frozen=True)
class Embedded:
    """What a picture file says about how it was made."""

    text: str | None
    """The text where A1111 writes its infotext, as it stands there."""
    record: Mapping[str, object] | None
    """Velatura's own."""
    chunks: Mapping[str, str] = field(default_factory=dict)
    """Other texts by their names: what other programs write."""

    @property
    def infotext(self) -> Infotext | None:
        """The text, read; None for the JSON that SwarmUI writes in its place."""
        return None if self.text is None or self.text.startswith("{") else parse(self.text)


def check_format(form: str, quality: int = QUALITY) -> None:
    """Refuse what is no form of file.

    Raises:
        SettingsError: it is none, or the quality is not from 1 to 100.
    """
    if form not in FORMATS:
        close = nearest(form, list(FORMATS))
        fix = f"did you mean {close}?" if close else f"choose from {', '.join(FORMATS)}"
        raise SettingsError(f"pictures cannot be written as {form!r}", fix=fix)
    if not 1 <= quality <= 100:
        raise SettingsError(f"the quality {quality} is not possible", fix="use 1 to 100")


def to_bytes(
    image: Image.Image,
    infotext: str = "",
    record: Mapping[str, object] | None = None,
    *,
    form: str = "png",
    quality: int = QUALITY,
) -> bytes:
    """A picture file; it says how it was made where that is given.

    Args:
        infotext: from `infotext.write`.
        record: anything JSON can hold; it must hold nothing private, files travel.
        form: of `FORMATS`.
        quality: of forms that lose something; WebP loses nothing at 100.

    Raises:
        FileProblem: there is more to say than the form has room for; see `check_room`.
        ValueError: the record holds a number that is not finite.
        TypeError: it holds something that is not JSON.
    """
    told: dict[str, Any] = {}
    if record is not None and form == "png":
        chunks = PngInfo()
        chunks.add_text(_INFOTEXT_CHUNK, _writable(infotext))
        chunks.add_text(_RECORD_CHUNK, _json(record))
        told["pnginfo"] = chunks
    elif record is not None:
        check_room(form, infotext, record)
        told["exif"] = _exif(infotext, record)
    if form != "png":
        told["quality"] = quality
    if form == "webp":
        told["lossless"] = quality == 100
    buffer = io.BytesIO()
    image.save(buffer, format=FORMATS[form], **told)
    return buffer.getvalue()


def check_room(form: str, infotext: str, record: Mapping[str, object]) -> None:
    """Refuse what a form of file has no room for.

    Raises:
        FileProblem: it has none.
    """
    if form == "jpg" and (size := 2 * len(infotext) + len(_json(record))) > _EXIF_ROOM:
        raise FileProblem(
            f"JPEG has no room for what is to be said of this picture: {size} bytes, and 65000 fit",
            fix="write png or webp",
        )


def read(path: Path) -> Embedded:
    """What a picture file says about how it was made; only its header is read.

    Raises:
        FileProblem: it cannot be opened, or it is no picture.
    """
    try:
        with Image.open(path) as image:
            chunks = {
                key: value for key, value in image.info.items() if isinstance(key, str) and isinstance(value, str)
            }
            exif = image.getexif()
            block = exif.get_ifd(_EXIF_BLOCK)
            texts = [exif.get(tag) for tag in (_MAKE, _MODEL)]
    except (UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise FileProblem("this is not a picture that can be read safely", where=path) from error
    except OSError as error:
        raise FileProblem(f"cannot read this picture: {error.strerror or error}", where=path) from error
    text, record = chunks.pop(_INFOTEXT_CHUNK, None), chunks.pop(_RECORD_CHUNK, None)
    if text is None:
        text = _user_comment(block.get(_USER_COMMENT))
    note = block.get(_MAKER_NOTE)
    if record is None and isinstance(note, bytes) and note.startswith(_OURS):
        record = note.removeprefix(_OURS).decode("utf-8", errors="replace")
    return Embedded(text, _read_json(record), chunks | _comfy_exif(texts))


def without_words(png: bytes) -> bytes:
    """A whole PNG file with its picture alone: no texts, no EXIF, no date; the pixels are not touched."""
    kept, place = [png[:8]], 8
    while place < len(png):
        length = int.from_bytes(png[place : place + 4], "big") + 12
        if png[place + 4 : place + 8] not in _WORDS:
            kept.append(png[place : place + length])
        place += length
    return b"".join(kept)


def _exif(infotext: str, record: Mapping[str, object]) -> bytes:
    """EXIF with both texts, as UNDEFINED bytes: piexif, by which A1111 reads it, takes no other type for a comment."""
    texts = (
        (_MAKER_NOTE, _OURS + _json(record).encode()),
        (_USER_COMMENT, _UNICODE + _writable(infotext).encode("utf-16-be")),
    )
    block = 8 + _directory_size(1)
    place = block + _directory_size(len(texts))
    entries, data = [], b""
    for tag, text in texts:
        entries.append((tag, _UNDEFINED, len(text), place + len(data)))
        data += text + b"\0" * (len(text) % 2)
    header = b"Exif\0\0MM\0*" + struct.pack(">I", 8)
    return header + _directory([(_EXIF_BLOCK, _LONG, 1, block)]) + _directory(entries) + data


def _directory(entries: Sequence[tuple[int, int, int, int]]) -> bytes:
    """A directory of TIFF: tag, type, count and place of each entry, and no further directory."""
    packed = b"".join(struct.pack(">HHII", *entry) for entry in entries)
    return struct.pack(">H", len(entries)) + packed + bytes(4)


def _directory_size(entries: int) -> int:
    return 2 + 12 * entries + 4


def _comfy_exif(texts: list[object]) -> dict[str, str]:
    """What ComfyUI writes into WebP: "workflow:{...}" and "prompt:{...}" in EXIF's Make and Model."""
    pairs = [text.partition(":") for text in texts if isinstance(text, str)]
    return {name.lower(): rest for name, _, rest in pairs if name.lower() in ("prompt", "workflow")}


def _json(record: Mapping[str, object]) -> str:
    return json.dumps(record, allow_nan=False, separators=(",", ":"))


def _writable(text: str) -> str:
    """Without zero bytes, which would end a chunk's text early, and without halves of characters."""
    return text.replace("\0", "").encode("utf-8", errors="replace").decode()


def _read_json(text: object) -> Mapping[str, object] | None:
    if not isinstance(text, str):
        return None
    try:
        record = json.loads(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _user_comment(comment: object) -> str | None:
    """Text out of EXIF's UserComment: eight bytes that name the encoding, then the text."""
    if not isinstance(comment, bytes) or len(comment) <= 8:
        return comment if isinstance(comment, str) and comment else None
    label, body = comment[:8], comment[8:]
    if not label.startswith(b"UNICODE"):
        return body.decode("utf-8", errors="replace").strip("\0 ") or None
    # UTF-16 of either byte order and without a mark: most text has more Latin letters than not,
    # and their zero byte comes first in big-endian text.
    order = "utf-16-be" if body[::2].count(0) >= body[1::2].count(0) else "utf-16-le"
    return body.decode(order, errors="replace").strip("\0 \ufeff") or None
