"""CBOR, the binary JSON that manifests are written in, read with a bound on depth.

Of RFC 8949 all that data can consist of; tags are passed over, and what they stand before is read as it is. Nothing is
made larger than the bytes that are there: a length is believed only where so many bytes follow.
"""

from __future__ import annotations

import struct

DEEPEST = 32

_ENDLESS = 31
_FLOATS = {25: (">e", 2), 26: (">f", 4), 27: (">d", 8)}
_BREAK = object()
"""What ends text, lists and maps of a length not told before."""


def decode(data: bytes) -> object:
    """The first item.

    Raises:
        ValueError: this is not CBOR, is cut off, or is nested deeper than `DEEPEST`.
    """
    item = _Reading(data).item(0)
    if item is _BREAK:
        raise ValueError("an end without a beginning")
    return item


class _Reading:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def taken(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise ValueError("cut off")
        found, self.at = self.data[self.at : end], end
        return found

    def item(self, depth: int) -> object:
        if depth > DEEPEST:
            raise ValueError("nested too deeply")
        major, minor = divmod(self.taken(1)[0], 32)
        if major == 7:
            return self._simple(minor)
        if minor == _ENDLESS and major in (2, 3, 4, 5):
            return self._gathered(major, None, depth)
        count = self._number(minor)
        if major == 0:
            return count
        if major == 1:
            return -1 - count
        if major == 2:
            return self.taken(count)
        if major == 3:
            return self.taken(count).decode()
        if major == 6:
            return self.item(depth + 1)
        return self._gathered(major, count, depth)

    def _number(self, minor: int) -> int:
        if minor < 24:
            return minor
        if minor > 27:
            raise ValueError("no such length")
        return int.from_bytes(self.taken(1 << (minor - 24)), "big")

    def _simple(self, minor: int) -> object:
        if minor in _FLOATS:
            form, size = _FLOATS[minor]
            number: float = struct.unpack(form, self.taken(size))[0]
            return number
        if minor == _ENDLESS:
            return _BREAK
        if minor == 24:
            self.taken(1)
        return {20: False, 21: True}.get(minor)

    def _gathered(self, major: int, count: int | None, depth: int) -> object:
        """A list or map; or text or bytes in pieces."""
        parts: list[object] = []
        wanted = None if count is None else count * (2 if major == 5 else 1)
        while wanted is None or len(parts) < wanted:
            part = self.item(depth + 1)
            if part is _BREAK:
                if wanted is None:
                    break
                raise ValueError("ended too early")
            parts.append(part)
        if major == 4:
            return parts
        if major == 5:
            return _mapped(parts)
        texts, pieces = [one for one in parts if isinstance(one, str)], [one for one in parts if isinstance(one, bytes)]
        if len(texts if major == 3 else pieces) != len(parts):
            raise ValueError("pieces of another kind")
        return "".join(texts) if major == 3 else b"".join(pieces)


def _mapped(parts: list[object]) -> dict[object, object]:
    keys = parts[::2]
    if len(parts) % 2 or not all(isinstance(key, str | int | bytes) for key in keys):
        raise ValueError("keys that are neither text nor numbers")
    return dict(zip(keys, parts[1::2], strict=True))
