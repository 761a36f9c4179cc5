"""The manifest store is found wherever a format keeps it, and hostile files cost neither memory nor time."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest

from tests.dataset.c2pa import stores
from velatura.dataset.c2pa import embedded, telling
from velatura.dataset.c2pa.embedded import store_of

STORE = stores.store(stores.manifest("one", stores.made("digitalCapture")))


def jpeg(*segments: bytes) -> bytes:
    parts = b"".join(b"\xff\xeb" + (len(one) + 2).to_bytes(2, "big") + one for one in segments)
    return b"\xff\xd8\xff\xe0\0\4ab" + parts + b"\xff\xda\0\2pixels\xff\xd9"


def piece(number: int, order: int, content: bytes, head: bytes = b"") -> bytes:
    return b"JP" + struct.pack(">HI", number, order) + head + content


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def tiff(order: str, *, directories: int = 1, big: bool = False) -> bytes:
    """A TIFF of empty directories, the last of which has the tag."""
    mark, offset, many, entry, first = (43, "Q", "Q", "HHQQ", 16) if big else (42, "I", "H", "HHII", 8)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", mark)
    head += struct.pack(order + "HHQ", 8, 0, first) if big else struct.pack(order + "I", first)
    size = struct.calcsize(order + many) + struct.calcsize(order + entry) + struct.calcsize(order + offset)
    at = first + directories * size
    for index in range(directories):
        last = index == directories - 1
        told = (0xCD41, 7, len(STORE), at) if last else (254, 4, 1, 0)
        following = 0 if last else first + (index + 1) * size
        head += (
            struct.pack(order + many, 1) + struct.pack(order + entry, *told) + struct.pack(order + offset, following)
        )
    return head + STORE


def isobmff(*boxes: bytes) -> bytes:
    return stores.box(b"ftyp", b"avif\0\0\0\0mif1") + b"".join(boxes)


def uuid_box(purpose: bytes, content: bytes) -> bytes:
    name = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
    return stores.box(b"uuid", name + bytes(4) + purpose + b"\0" + bytes(8) + content)


HALF = len(STORE) // 2
FILES = {
    "one segment": jpeg(piece(1, 1, STORE)),
    "segments out of order": jpeg(piece(1, 2, STORE[HALF:], STORE[:8]), piece(1, 1, STORE[:HALF])),
    "another box between": jpeg(
        piece(1, 1, STORE[:HALF]), piece(7, 1, stores.superbox("other")), b"XX", piece(1, 2, STORE[HALF:], STORE[:8])
    ),
    "length of eight bytes in segments": jpeg(
        piece(1, 1, b"\0\0\0\1jumb" + (len(STORE) + 8).to_bytes(8, "big") + STORE[8:HALF]),
        piece(1, 2, STORE[HALF:], b"\0\0\0\1jumb" + (len(STORE) + 8).to_bytes(8, "big")),
    ),
    "filled markers": jpeg(piece(1, 1, STORE)).replace(b"\xff\xeb", b"\xff\xff\xff\xeb", 1),
    "png": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)) + chunk(b"IDAT", b"abc") + chunk(b"caBX", STORE),
    "webp": b"RIFF\0\0\0\0WEBPVP8 " + struct.pack("<I", 3) + b"abc\0C2PA" + struct.pack("<I", len(STORE)) + STORE,
    "tiff": tiff("<"),
    "tiff of a big-endian machine, third directory": tiff(">", directories=3),
    "bigtiff": tiff("<", directories=2, big=True),
    "avif": isobmff(uuid_box(b"merkle", b"other"), stores.box(b"mdat", bytes(100)), uuid_box(b"manifest", STORE)),
    "avif, box of eight bytes of length": isobmff(
        b"\0\0\0\1uuid" + (len(uuid_box(b"manifest", STORE)) + 8).to_bytes(8, "big") + uuid_box(b"manifest", STORE)[8:]
    ),
    "avif, box to the end": isobmff(b"\0\0\0\0" + uuid_box(b"manifest", STORE)[4:]),
}


@pytest.mark.parametrize("name", FILES)
def test_the_store_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "picture").write_bytes(FILES[name])

    found = store_of(tmp_path / "picture")

    if "length of eight bytes in segments" in name:
        assert found is not None
        assert found[16:] == STORE[8:]
    else:
        assert found == STORE
    assert telling.read(tmp_path / "picture")[0].kind == "camera"


@pytest.mark.parametrize("name", FILES)
def test_cut_off_anywhere_nothing_is_said_and_nothing_fails(tmp_path: Path, name: str) -> None:
    whole = FILES[name]
    for length in range(0, whole.index(STORE[-8:]), 7):
        (tmp_path / "picture").write_bytes(whole[:length])
        assert telling.read(tmp_path / "picture") == ()


def endless_tiff() -> bytes:
    """A directory that is its own successor."""
    return b"II*\0" + struct.pack("<IHHHIII", 8, 1, 254, 4, 1, 0, 8)


HOSTILE = {
    "a chunk of 4 GB": b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xffcaBX" + STORE,
    "a RIFF chunk of 4 GB": b"RIFF\0\0\0\0WEBPC2PA\xff\xff\xff\xff" + STORE,
    "a tag of 4 GB": b"II*\0" + struct.pack("<IHHHII", 8, 1, 0xCD41, 7, 0xFFFFFFFF, 0),
    "directories in a circle": endless_tiff(),
    "65535 entries that are not there": b"II*\0" + struct.pack("<IH", 8, 0xFFFF),
    "a box of 2^64 bytes": isobmff(b"\0\0\0\1uuid" + b"\xff" * 8),
    "a box beyond all files": isobmff(b"\0\0\0\1free" + b"\x7f" + b"\xff" * 7, b"\0\0\0\1free" + b"\x7f" + b"\xff" * 7),
    "a box of no length": isobmff(b"\0\0\0\2free"),
    "chunks without end": b"\x89PNG\r\n\x1a\n"
    + chunk(b"abcd", b"") * (embedded.MOST_PARTS + 10)
    + chunk(b"caBX", STORE),
    "segments without end": jpeg(*[b"JP"] * 200_000, piece(1, 1, STORE)),
    "a segment of no length": b"\xff\xd8\xff\xeb\0\0" + bytes(100),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_say_nothing_soon_and_in_little_memory(tmp_path: Path, name: str) -> None:
    (tmp_path / "picture").write_bytes(HOSTILE[name])
    tracemalloc.start()
    begun = time.perf_counter()

    found = telling.read(tmp_path / "picture")

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == ()
    assert time.perf_counter() - begun < 5
    assert peak < 8 << 20


def test_stores_beyond_the_limit_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "LARGEST", len(STORE) - 1)
    for name, data in FILES.items():
        (tmp_path / "picture").write_bytes(data)
        assert store_of(tmp_path / "picture") is None, name


@pytest.mark.parametrize("path", stores.PICTURES, ids=lambda path: path.name)
def test_genuine_files_changed_at_random_never_fail(tmp_path: Path, path: Path) -> None:
    whole, chance = path.read_bytes(), random.Random(path.name)
    store = store_of(path)
    assert store is not None
    heard = 0
    for _ in range(150):
        heard += telling.of_store(_changed(store, chance)) != telling.of_store(store)
    for _ in range(40):
        (tmp_path / "picture").write_bytes(_changed(whole, chance))
        telling.read(tmp_path / "picture")
    assert heard  # the changes reach what is read


def _changed(data: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, taken out, doubled or cut off."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 12)):
        at = chance.randrange(min(len(changed), 4000) or 1)
        match chance.randrange(5):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                changed[at : at + 1] = bytes([chance.choice((0, 0x1F, 0x5F, 0x7F, 0x9F, 0xBF, 0xDB, 0xFF))])
            case 2:
                del changed[at : at + chance.randint(1, 20)]
            case 3:
                changed[at:at] = changed[at : at + chance.randint(1, 20)]
            case _:
                changed[at : at + 4] = chance.randbytes(4)
    return bytes(changed)
