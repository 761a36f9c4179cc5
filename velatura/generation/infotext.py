"""How a picture was made, written into its file: A1111's infotext, and Velatura's own record.

    a red house <lora:ink:0.8>
    Negative prompt: blurry
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5, Seed: 7, Size: 128x128, ...

The infotext, in the PNG chunk `parameters`, is what other programs and websites read. The record,
JSON in the chunk `velatura`, holds what it takes to make the picture again. Text that Latin-1 cannot
hold goes into an iTXt chunk, which PNG has for this. From JPEG, WebP and AVIF the infotext is read out
of EXIF's UserComment, where A1111 puts it.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from velatura.errors import FileProblem

NEGATIVE = "Negative prompt:"

FIRST = (
    "Steps",
    "Sampler",
    "Schedule type",
    "CFG scale",
    "Seed",
    "Size",
    "Model hash",
    "Model",
    "VAE hash",
    "VAE",
    "Variation seed",
    "Variation seed strength",
    "Seed resize from",
    "Denoising strength",
    "Conditional mask weight",
    "Clip skip",
    "ENSD",
    "Init image hash",
    "RNG",
    "Tiling",
)
"""A1111's order; settings that are not here follow in the order given, and "Version" is last."""

_NAME = re.compile(r"\w[\w \-/]+")
_SETTING = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_SIZE = re.compile(r"(\d+)x(\d+)")
_FEWEST = 3
"""With fewer settings A1111 takes the line for a part of the prompt."""

_EXIF_BLOCK, _USER_COMMENT = 0x8769, 0x9286
_RECORD_CHUNK, _INFOTEXT_CHUNK = "velatura", "parameters"


@dataclass(frozen=True)
class Infotext:
    """What an infotext says; `str()` writes it, `parse` reads it."""

    prompt: str
    negative_prompt: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    """By A1111's names, values as text."""

    def __str__(self) -> str:
        """As it stands in a file."""
        return write(self.prompt, self.negative_prompt, self.settings)

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels, where they are told."""
        match = _SIZE.fullmatch(self.settings.get("Size", ""))
        return (int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True)
class Embedded:
    """What a picture file says about how it was made."""

    text: str | None
    """The text where A1111 writes its infotext, as it stands there."""
    record: Mapping[str, object] | None
    """Velatura's own."""

    @property
    def infotext(self) -> Infotext | None:
        """The text, read; None for the JSON that SwarmUI writes in its place."""
        return None if self.text is None or self.text.startswith("{") else parse(self.text)


def write(prompt: str, negative_prompt: str = "", settings: Mapping[str, object] | None = None) -> str:
    """The infotext of a picture.

    Args:
        prompt: as the user wrote it, LoRAs included.
        negative_prompt: left out when empty.
        settings: by A1111's names; those that are None are left out, the rest is brought into order.

    Raises:
        ValueError: a name that no reader would recognise, or settings too few to be recognised.
    """
    given = {name: value for name, value in (settings or {}).items() if value is not None}
    for name in given:
        if not _NAME.fullmatch(name):
            raise ValueError(f"infotext cannot name a setting {name!r}")
    if 0 < len(given) < _FEWEST:
        raise ValueError(f"infotext needs {_FEWEST} settings or none, got {', '.join(given)}")
    names = [name for name in FIRST if name in given]
    names += [name for name in given if name not in FIRST and name != "Version"]
    names += ["Version"] if "Version" in given else []
    negative = f"\n{NEGATIVE} {negative_prompt}" if negative_prompt else ""
    line = ", ".join(f"{name}: {quote(given[name])}" for name in names)
    return f"{prompt}{negative}\n{line}".strip()


def parse(text: str) -> Infotext:
    """Read an infotext; whatever is no settings line is prompt, so any text can be read.

    A1111's rules: the last line holds the settings if it has three or more, and every line is
    stripped. Sizes stay as they are ("512x768").
    """
    *lines, last = text.strip().split("\n")
    found = _SETTING.findall(last)
    if len(found) < _FEWEST:
        lines, found = [*lines, last], []
    prompt: list[str] = []
    negative: list[str] = []
    current = prompt
    for line in (line.strip() for line in lines):
        if line.startswith(NEGATIVE):
            current = negative
            line = line.removeprefix(NEGATIVE).strip()
        current.append(line)
    settings = {name: unquote(value) for name, value in found}
    return Infotext(_joined(prompt), _joined(negative), settings)


def quote(value: object) -> str:
    """A value as it stands in the settings line: JSON if it holds a comma, a colon or a line's end.

    Text that would lose its own quotes or spaces when read is written as JSON too.
    """
    text = str(value)
    if any(sign in text for sign in ",:\n\r") or text != text.strip() or text.startswith('"'):
        return json.dumps(text, ensure_ascii=False)
    return text


def unquote(text: str) -> str:
    """The value that `quote` wrote; text that is not quite JSON is taken as it stands."""
    if not (text.startswith('"') and text.endswith('"')):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str) else text


def lora_hashes(hashes: Iterable[tuple[str, str]]) -> str:
    """The setting "Lora hashes" from names and their 12-digit hashes."""
    return ", ".join(f"{re.sub('[:,]', '', name)}: {digits}" for name, digits in hashes)


def read_lora_hashes(value: str) -> dict[str, str]:
    """Names and hashes out of the setting "Lora hashes"."""
    pairs = (item.partition(":") for item in value.split(","))
    return {name.strip(): digits.strip() for name, colon, digits in pairs if colon}


def png_bytes(image: Image.Image, infotext: str, record: Mapping[str, object]) -> bytes:
    """A PNG file that says how it was made.

    Args:
        image: the picture.
        infotext: from `write`.
        record: anything JSON can hold; it must hold nothing private, files travel.

    Raises:
        ValueError: the record holds a number that is not finite.
        TypeError: it holds something that is not JSON.
    """
    chunks = PngInfo()
    # a zero byte would end the chunk's keyword or text early
    chunks.add_text(_INFOTEXT_CHUNK, infotext.replace("\0", ""))
    chunks.add_text(_RECORD_CHUNK, json.dumps(record, allow_nan=False, separators=(",", ":")))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=chunks)
    return buffer.getvalue()


def read(path: Path) -> Embedded:
    """What a picture file says about how it was made; only its header is read.

    Raises:
        FileProblem: it cannot be opened, or it is no picture.
    """
    try:
        with Image.open(path) as image:
            text = image.info.get(_INFOTEXT_CHUNK)
            record = image.info.get(_RECORD_CHUNK)
            if not isinstance(text, str):
                text = _user_comment(image.getexif().get_ifd(_EXIF_BLOCK).get(_USER_COMMENT))
    except (UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise FileProblem("this is not a picture that can be read safely", where=path) from error
    except OSError as error:
        raise FileProblem(f"cannot read this picture: {error.strerror or error}", where=path) from error
    return Embedded(text, _record(record))


def _joined(lines: list[str]) -> str:
    """Lines as one text; like A1111's reader it starts with the first that is not empty."""
    return "\n".join(lines).lstrip("\n")


def _record(text: object) -> Mapping[str, object] | None:
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
