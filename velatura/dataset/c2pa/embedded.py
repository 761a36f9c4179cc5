"""Where picture files keep their manifest store: the bytes, whatever the format.

    JPEG        APP11 segments, the store cut into pieces of up to 64 kB, in order
    PNG         a chunk caBX
    WebP        a RIFF chunk C2PA
    TIFF, DNG   tag 0xCD41
    AVIF, HEIC  a box "uuid" of C2PA's own, purpose "manifest"

Formats are known by how files begin, not by their names. What is too large, cut off or not there is None.

Sources: C2PA Technical Specification 2.2, appendix A; ISO/IEC 18477-3 (the segments of JPEG); Adobe TIFF 6.0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LARGEST = 32 << 20
"""Bytes of a store that are read. Most have some kB, and those of many ingredients some MB of small pictures."""

MOST_PARTS = 100_000
"""Segments, chunks, boxes or directory entries that are looked at."""

_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_TAG = 0xCD41
_BYTES, _UNDEFINED = 1, 7


def store_of(path: Path) -> bytes | None:
    """The manifest store in a picture file, None where there is none that can be read."""
    try:
        with path.open("rb") as file:
            return _store(file, file.read(12))
    except (OSError, ValueError, OverflowError, struct.error):  # offsets beyond what files have, too
        return None


def _store(file: BinaryIO, begins: bytes) -> bytes | None:
    if begins.startswith(b"\xff\xd8\xff"):
        return _in_segments(file)
    if begins.startswith(b"\x89PNG\r\n\x1a\n"):
        file.seek(8)
        return _in_chunk(file, b"caBX", form=">I4s", kind_first=False, behind=4, even=False)
    if begins.startswith(b"RIFF") and begins.endswith(b"WEBP"):
        return _in_chunk(file, b"C2PA", form="<4sI", kind_first=True, behind=0, even=True)
    if begins[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _in_tag(file, order="<" if begins.startswith(b"II") else ">", big=b"+" in begins[2:4])
    return _in_box(file) if begins[4:8] == b"ftyp" else None


def _exactly(file: BinaryIO, count: int) -> bytes:
    if count > LARGEST:
        raise ValueError("too large")
    data = file.read(count)
    if len(data) < count:
        raise ValueError("cut off")
    return data


def _in_chunk(file: BinaryIO, wanted: bytes, *, form: str, kind_first: bool, behind: int, even: bool) -> bytes | None:
    """What a chunk of PNG or RIFF holds: length and name stand before each, and `behind` bytes follow."""
    for _ in range(MOST_PARTS):
        head = file.read(8)
        if len(head) < 8:
            return None
        one, other = struct.unpack(form, head)
        length, kind = (other, one) if kind_first else (one, other)
        if kind == wanted:
            return _exactly(file, length)
        file.seek(length + behind + (length % 2 if even else 0), 1)
    return None


def _in_segments(file: BinaryIO) -> bytes | None:
    """The pieces of one box, joined: each begins with JP, the box's number (2 bytes), its own (4), the box's head."""
    pieces: dict[int, list[tuple[int, bytes]]] = {}
    total = 0
    for segment in _segments(file):
        total += len(segment)
        if total > LARGEST:
            return None
        if segment.startswith(b"JP") and len(segment) >= 16:
            number, order = struct.unpack_from(">HI", segment, 2)
            pieces.setdefault(number, []).append((order, segment[8:]))
    for found in pieces.values():
        found.sort(key=lambda one: one[0])
        first = found[0][1]
        head = 16 if first.startswith(b"\0\0\0\x01") else 8
        whole = first + b"".join(piece[head:] for _, piece in found[1:])
        if b"c2pa" in whole[: head + 64]:
            return whole
    return None


def _segments(file: BinaryIO) -> Iterator[bytes]:
    """What the segments APP11 before the pixels of a JPEG hold."""
    file.seek(2)
    for _ in range(MOST_PARTS):
        marker = file.read(2)
        while len(marker) == 2 and marker[1] == 0xFF:  # markers may be preceded by any number of these
            marker = marker[1:] + file.read(1)
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] in (0xD9, 0xDA):
            return
        length = int.from_bytes(_exactly(file, 2), "big") - 2
        if length < 0:
            return
        if marker[1] == 0xEB:
            yield _exactly(file, length)
        else:
            file.seek(length, 1)


def _in_tag(file: BinaryIO, *, order: str, big: bool) -> bytes | None:
    """What the tag of C2PA in one of a TIFF's directories holds; `big` is BigTIFF, with lengths of 8 bytes."""
    many, offset, entry = ("Q", "Q", "HHQ8s") if big else ("H", "I", "HHI4s")
    file.seek(8 if big else 4)
    seen: set[int] = set()
    left = MOST_PARTS
    while True:
        (at,) = struct.unpack(order + offset, _exactly(file, struct.calcsize(offset)))
        if not at or at in seen:
            return None
        seen.add(at)
        file.seek(at)
        (count,) = struct.unpack(order + many, _exactly(file, struct.calcsize(many)))
        left -= count + 1
        if left < 0:
            return None
        for _ in range(count):
            tag, kind, length, value = struct.unpack(order + entry, _exactly(file, struct.calcsize(order + entry)))
            if tag == _TAG and kind in (_BYTES, _UNDEFINED) and length > len(value):
                file.seek(struct.unpack(order + offset, value)[0])
                return _exactly(file, length)


def _in_box(file: BinaryIO) -> bytes | None:
    """What C2PA's box among a file's own holds, behind 16 bytes of name, 4 of version, a purpose and 8 of an offset."""
    file.seek(0, 2)
    size = file.tell()
    at = 0
    for _ in range(MOST_PARTS):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return None
        length, skipped = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, skipped = int.from_bytes(head[8:16], "big"), 16
        length = length or size - at
        if length < skipped:
            return None
        if head[4:8] == b"uuid":
            file.seek(at + skipped)
            content = _exactly(file, min(length - skipped, 64))
            purpose = content[20:].partition(b"\0")[0]
            if content.startswith(_UUID) and purpose == b"manifest":
                begins = 20 + len(purpose) + 1 + 8
                file.seek(at + skipped + begins)
                return _exactly(file, length - skipped - begins)
        at += length
    return None
