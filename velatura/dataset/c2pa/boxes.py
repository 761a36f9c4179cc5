"""The boxes of a manifest store: manifests by their labels, each with its claim and its assertions.

    c2pa                                   the store, a superbox ("jumb") as each of those in it
      urn:c2pa:...                         a manifest; the last is the active one, the others are of its ingredients
        c2pa.assertions                    the assertion store
          c2pa.actions.v2                  an assertion, as CBOR or JSON
        c2pa.claim.v2                      the claim: who made it, and the assertions that count

A box is its length in 4 bytes, its kind in 4, and what it holds. In a superbox a description ("jumd": 16 bytes of type,
a byte that says what follows, a label that ends in 0) stands first. Compressed manifests ("brob") are not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from velatura.dataset.c2pa import cbor

MOST_BOXES = 4096
"""In one superbox."""

LONGEST = 1 << 20
"""Bytes of one claim or assertion that are read; pictures among the assertions are not read at all."""

_LABELLED = 0b10


@dataclass(frozen=True)
class Manifest:
    """One manifest: what it claims, and the assertions that its claim lists, in that order, still encoded."""

    claim: Mapping[str, object]
    encoded: tuple[tuple[str, bytes, bytes], ...]
    """Label, kind of box, content."""

    def assertions(self, *names: str) -> Iterator[Mapping[str, object]]:
        """What the assertions of some names say, of any version and number; those that are broken are left out."""
        for label, kind, content in self.encoded:
            if _name(label) in names and (told := _decoded(kind, content)) is not None:
                yield told


def manifests(store: bytes) -> dict[str, memoryview]:
    """The manifests of a store by their labels, unread, the active one last.

    Raises:
        ValueError: these are not the boxes of a manifest store, or they are cut off.
    """
    found: dict[str, memoryview] = {}
    for label, inside in _superboxes(memoryview(store)):
        if label == "c2pa":
            for one, boxes in _superboxes(inside):
                found.pop(one, None)
                found[one] = boxes
            break
    return found


def manifest(content: memoryview) -> Manifest:
    """One of them, read.

    Raises:
        ValueError: its boxes are broken.
    """
    parts = dict(_superboxes(content))
    claim = next((_content(parts[name]) for name in ("c2pa.claim.v2", "c2pa.claim") if name in parts), None)
    told = None if claim is None else _decoded(*claim)
    if told is None:
        return Manifest({}, ())
    stored = dict(_superboxes(parts.get("c2pa.assertions", memoryview(b""))))
    keys = ("created_assertions", "gathered_assertions", "assertions")
    labels = dict.fromkeys(last_part(link) for key in keys for link in listed(told.get(key)))
    contents = ((label, _content(stored[label])) for label in labels if label in stored)
    return Manifest(told, tuple((label, *one) for label, one in contents if one is not None))


def last_part(link: object) -> str:
    """To which label a link leads, such as {"url": "self#jumbf=c2pa.assertions/c2pa.actions"}; "" is none."""
    url = link.get("url") if isinstance(link, dict) else None
    return url.rpartition("/")[2] if isinstance(url, str) else ""


def listed(value: object) -> list[object]:
    """The items of a list; a single one counts as a list of it, and None as none."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _name(label: str) -> str:
    """A label without its version and its number among those of its kind: c2pa.actions.v2__1 -> c2pa.actions."""
    name = label.partition("__")[0]
    head, dot, version = name.rpartition(".v")
    return head if dot and version.isdigit() else name


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    at = count = 0
    while at < len(data):
        count += 1
        length, kind, head = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8]), 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif length == 0:
            length = len(data) - at
        if length < head or at + length > len(data) or count > MOST_BOXES:
            raise ValueError("boxes that do not fit into one another")
        yield kind, data[at + head : at + length]
        at += length


def _described(content: memoryview) -> tuple[str, memoryview]:
    """The label of a superbox, and the boxes behind its description."""
    kind, description = next(_boxes(content), (b"", content))
    if kind != b"jumd" or len(description) < 17:
        raise ValueError("a box without a description")
    label = b""
    if description[16] & _LABELLED:
        label = bytes(description[17 : 17 + 1024]).partition(b"\0")[0]
    return label.decode(), content[description.nbytes + _head(content) :]


def _head(content: memoryview) -> int:
    return 16 if int.from_bytes(content[:4], "big") == 1 else 8


def _superboxes(content: memoryview) -> Iterator[tuple[str, memoryview]]:
    for kind, inside in _boxes(content):
        if kind == b"jumb":
            yield _described(inside)


def _content(boxes: memoryview) -> tuple[bytes, bytes] | None:
    """The first box of CBOR or JSON, and what it holds."""
    for kind, inside in _boxes(boxes):
        if kind in (b"cbor", b"json") and len(inside) <= LONGEST:
            return kind, bytes(inside)
    return None


def _decoded(kind: bytes, content: bytes) -> Mapping[str, object] | None:
    try:
        told = cbor.decode(content) if kind == b"cbor" else json.loads(content)
    except (ValueError, RecursionError):
        return None
    return {key: value for key, value in told.items() if isinstance(key, str)} if isinstance(told, dict) else None
