"""The safetensors format, without torch: headers, bytes, and a writer whose output is reproducible.

The safetensors library orders metadata at random, so two runs that compute the same write
different files. Ours sorts everything: equal tensors and metadata give equal bytes.

Layout (https://github.com/huggingface/safetensors#format): 8 bytes header length, little endian;
the header, JSON, padded with spaces to a multiple of 8; then the tensors' bytes, one after another.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from velatura.errors import FileProblem
from velatura.files import BLOCK, disk_problems

MAX_HEADER = 100_000_000
"""Bytes; the limit of the safetensors library."""

MAX_VALUES = 2_000_000
"""Commas and braces in a header. Each becomes an object of some hundred bytes, so a hostile header would fill the
memory; the largest models have 100,000."""

MAX_AXES, MAX_LENGTH = 8, 1 << 40
"""Of a tensor's shape; one without elements may otherwise have any."""

PICKLED = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How files begin that torch and Python pickle."""

ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes of one element, by the format's name of its type."""

NUMPY_TYPES: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
"""The types that numpy knows; BF16 and F8 are decoded by `as_float32`."""


@dataclass(frozen=True)
class RawTensor:
    """A tensor as its file holds it."""

    dtype: str
    """The format's name of the type: "F32", "BF16", "F8_E4M3"..."""
    shape: tuple[int, ...]
    data: bytes | memoryview
    """Little-endian elements, last axis fastest."""


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies: type, shape, and its bytes as counted from the header's end."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a file says before its tensors."""

    metadata: dict[str, str]
    entries: dict[str, Entry]
    data_start: int
    """Offset of the first tensor byte in the file."""


def raw(array: NDArray[Any]) -> RawTensor:
    """A numpy array as a tensor of the file format."""
    names = {np.dtype(kind): name for name, kind in NUMPY_TYPES.items()}
    little = np.ascontiguousarray(array)
    if little.dtype.byteorder == ">":
        little = little.astype(little.dtype.newbyteorder("<"))
    return RawTensor(names[little.dtype.newbyteorder("=")], tuple(array.shape), little.tobytes())


def to_bytes(tensors: Mapping[str, RawTensor | NDArray[Any]], metadata: Mapping[str, str] | None = None) -> bytes:
    """The whole file.

    Raises:
        ValueError: a tensor's bytes are not as many as its shape and type need.
    """
    ready = {name: value if isinstance(value, RawTensor) else raw(value) for name, value in tensors.items()}
    for name, tensor in ready.items():
        if len(tensor.data) != size_of(tensor):
            raise ValueError(f"{name} has {len(tensor.data)} bytes, not those of {tensor.shape} in {tensor.dtype}")
    return head(ready, metadata) + b"".join(bytes(ready[name].data) for name in order(ready))


class Shaped(Protocol):
    """Whatever has a type and a shape: a tensor, an entry of a header, a tensor yet to be made."""

    @property
    def dtype(self) -> str:
        """The format's name of the type."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""


def size_of(tensor: Shaped) -> int:
    """Bytes of a tensor of this type and shape."""
    return ITEM_BYTES[tensor.dtype] * math.prod(tensor.shape)


def order(tensors: Mapping[str, Shaped]) -> list[str]:
    """How the tensors follow one another: by element size, largest first, so that each is aligned, then by name."""
    return sorted(tensors, key=lambda name: (-ITEM_BYTES[tensors[name].dtype], name))


def head(tensors: Mapping[str, Shaped], metadata: Mapping[str, str] | None = None) -> bytes:
    """What stands before the tensors' bytes: the length of the header, and the header."""
    places: dict[str, object] = {}
    offset = 0
    for name in order(tensors):
        tensor = tensors[name]
        end = offset + size_of(tensor)
        places[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    if metadata:
        places["__metadata__"] = dict(metadata)
    text = json.dumps(places, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def read_header(path: Path) -> Header:
    """The header alone, checked against the file's size before anything else is read.

    Raises:
        FileProblem: this is not a safetensors file, or it is cut off.
    """
    with disk_problems(path), path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        return _parse_header(file.read(8), file.read, size, path)


def _parse_header(first: bytes, read: Any, size: int, path: Path) -> Header:
    if len(first) < 8:
        raise FileProblem("this file is empty or cut off", where=path, fix="fetch or copy it again")
    (length,) = struct.unpack("<Q", first)
    if length > MAX_HEADER or 8 + length > size:
        if first.startswith(PICKLED):
            raise FileProblem("this is a pickled file under another name", where=path, fix="fetch it as safetensors")
        raise FileProblem("this is not a safetensors file, or it is cut off", where=path, fix="fetch or copy it again")
    text = read(length)
    if text.count(b",") + text.count(b"{") > MAX_VALUES:
        raise FileProblem("the header of this file lists more than any model has", where=path, fix="fetch it again")
    try:
        places = json.loads(text, object_pairs_hook=_once)
        metadata = {str(k): str(v) for k, v in (places.pop("__metadata__", None) or {}).items()}
        entries = {
            name: Entry(str(place["dtype"]), tuple(_counts(place["shape"])), *_counts(place["data_offsets"]))
            for name, place in places.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileProblem("the header of this file is damaged", where=path, fix="fetch or copy it again") from error
    for name, entry in entries.items():
        needed = ITEM_BYTES.get(entry.dtype, 0) * math.prod(entry.shape)
        if (
            (entry.dtype in ITEM_BYTES and entry.end - entry.start != needed)
            or entry.start > entry.end
            or len(entry.shape) > MAX_AXES
            or max(entry.shape, default=0) > MAX_LENGTH
        ):
            raise FileProblem(f"tensor {name} has a size that is not its shape's", where=path, fix="fetch it again")
        if 8 + length + entry.end > size:
            raise FileProblem("this file is cut off", where=path, fix="fetch or copy it again")
    _apart(entries, path)
    return Header(metadata, entries, 8 + length)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _apart(entries: Mapping[str, Entry], path: Path) -> None:
    """Refuse tensors that lie over one another."""
    reached = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start < reached and entry.end > entry.start:
            raise FileProblem(f"tensor {name} lies over another one in this file", where=path, fix="fetch it again")
        reached = max(reached, entry.end)


def _counts(values: Any) -> list[int]:
    if not isinstance(values, list) or not all(type(value) is int and value >= 0 for value in values):
        raise ValueError(f"not a list of counts: {values}")
    return values


def read(path: Path) -> tuple[dict[str, RawTensor], dict[str, str]]:
    """All tensors, mapped rather than read, and the metadata."""
    header = read_header(path)
    with disk_problems(path), path.open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    tensors = {
        name: RawTensor(
            entry.dtype, entry.shape, mapped[header.data_start + entry.start : header.data_start + entry.end]
        )
        for name, entry in header.entries.items()
    }
    return tensors, header.metadata


def read_tensor(path: Path, header: Header, name: str) -> RawTensor:
    """One tensor, read rather than mapped, so that walking through a large file does not fill the memory.

    Raises:
        FileProblem: the file was cut off meanwhile, or the disk refuses.
    """
    entry = header.entries[name]
    with disk_problems(path), path.open("rb") as file:
        file.seek(header.data_start + entry.start)
        data = file.read(entry.end - entry.start)
    if len(data) != entry.end - entry.start:
        raise FileProblem("this file is cut off", where=path, fix="fetch or copy it again")
    return RawTensor(entry.dtype, entry.shape, data)


class Unread(Mapping[str, RawTensor]):
    """A file's tensors, each read when it is asked for."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            FileProblem: this is not a safetensors file, or it is cut off.
        """
        self.path, self.header = path, read_header(path)

    def __getitem__(self, name: str) -> RawTensor:
        """One tensor, as `read_tensor` has it."""
        return read_tensor(self.path, self.header, name)

    def __iter__(self) -> Iterator[str]:
        """Their names, in the header's order."""
        return iter(self.header.entries)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.header.entries)


def as_float32(tensor: RawTensor) -> NDArray[np.float32]:
    """The values as fp32, exact for every type of 16 bits or fewer."""
    if tensor.dtype == "BF16":
        bits = np.frombuffer(tensor.data, dtype="<u2").astype(np.uint32) << 16
        values = bits.view(np.float32)
    elif tensor.dtype in ("F8_E4M3", "F8_E5M2"):
        values = _float8_table(tensor.dtype)[np.frombuffer(tensor.data, dtype=np.uint8)]
    elif tensor.dtype in NUMPY_TYPES:
        kind = np.dtype(NUMPY_TYPES[tensor.dtype]).newbyteorder("<")
        values = np.frombuffer(tensor.data, dtype=kind).astype(np.float32)
    else:
        raise FileProblem(f"tensors of type {tensor.dtype} cannot be read", fix="convert the file to fp16 or fp32")
    return values.reshape(tensor.shape)


def _float8_table(dtype: str) -> NDArray[np.float32]:
    """The 256 values of an 8-bit float (Micikevicius et al. 2022, arXiv:2209.05433)."""
    exponent_bits, mantissa_bits = (4, 3) if dtype == "F8_E4M3" else (5, 2)
    bias = 2 ** (exponent_bits - 1) - 1
    table = np.zeros(256, np.float32)
    for code in range(256):
        exponent = (code >> mantissa_bits) & (2**exponent_bits - 1)
        mantissa = (code & (2**mantissa_bits - 1)) / 2**mantissa_bits
        sign = -1.0 if code & 0x80 else 1.0
        if dtype == "F8_E4M3" and code & 0x7F == 0x7F:
            value = math.nan
        elif dtype == "F8_E5M2" and exponent == 31:
            value = math.inf if mantissa == 0 else math.nan
        elif exponent == 0:
            value = mantissa * 2.0 ** (1 - bias)
        else:
            value = (1 + mantissa) * 2.0 ** (exponent - bias)
        table[code] = sign * value
    return table


def tensor_hash(data: bytes) -> str:
    """sha256 of everything behind the header of a safetensors file, as kohya's `sshs_model_hash`."""
    (length,) = struct.unpack("<Q", data[:8])
    return hashlib.sha256(data[8 + length :]).hexdigest()


def content_hash(path: Path) -> str:
    """The same of a file that is read piece by piece, hex.

    Raises:
        FileProblem: as `read_header`.
    """
    header = read_header(path)
    digest = hashlib.sha256()
    with disk_problems(path), path.open("rb") as file:
        file.seek(header.data_start)
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def legacy_hash(data: bytes) -> str:
    """First 8 hex digits of the sha256 of 64 KiB from 1 MiB on, as A1111's old hash and `sshs_legacy_hash`."""
    return hashlib.sha256(data[0x100000 : 0x100000 + 0x10000]).hexdigest()[:8]
