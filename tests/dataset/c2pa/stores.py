"""Manifest stores written by hand, for what no program would write; and where the genuine ones lie."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from velatura.dataset.images import SUFFIXES

GOLDEN = Path(__file__).parents[2] / "golden" / "c2pa"
PICTURES = sorted(path for path in GOLDEN.iterdir() if path.suffix in SUFFIXES)
READER: dict[str, Any] = json.loads((GOLDEN / "reader.json").read_text(encoding="utf-8"))
"""What c2pa-python says of each of them."""

KINDS = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def cbor(value: object) -> bytes:
    """Encoded, but for numbers that are not small."""
    if isinstance(value, int):
        return _head(0, value)
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(map(cbor, value))
    assert isinstance(value, Mapping)
    return _head(5, len(value)) + b"".join(cbor(key) + cbor(one) for key, one in value.items())


def _head(major: int, count: int) -> bytes:
    return bytes([major * 32 + 25]) + count.to_bytes(2, "big")


def box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def superbox(label: str, *boxes: bytes) -> bytes:
    return box(b"jumb", box(b"jumd", bytes(16) + b"\3" + label.encode() + b"\0") + b"".join(boxes))


def manifest(label: str, assertions: Mapping[str, object], *, listed: Iterable[str] | None = None) -> bytes:
    """A manifest whose claim lists these assertions, or others."""
    links = [{"url": f"self#jumbf=c2pa.assertions/{one}"} for one in (assertions if listed is None else listed)]
    claim = {"claim_generator": "By_hand/1.0 library/2.0", "assertions": links}
    stored = [superbox(name, box(b"cbor", cbor(told))) for name, told in assertions.items()]
    return superbox(label, superbox("c2pa.assertions", *stored), superbox("c2pa.claim", box(b"cbor", cbor(claim))))


def store(*manifests: bytes) -> bytes:
    return superbox("c2pa", *manifests)


def made(kind: str, **more: object) -> dict[str, object]:
    """An assertion that a picture was made in one of IPTC's ways."""
    return {"c2pa.actions": {"actions": [{"action": "c2pa.created", "digitalSourceType": KINDS + kind, **more}]}}


def ingredient(label: str, relationship: str = "parentOf", *, number: int = 0) -> dict[str, object]:
    name = "c2pa.ingredient" + (f"__{number}" if number else "")
    return {name: {"relationship": relationship, "c2pa_manifest": {"url": f"self#jumbf=/c2pa/{label}"}}}
