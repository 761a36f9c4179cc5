"""GGUF: weights that are quantised in blocks, multiplied out to fp32 one tensor at a time.

The `gguf` package knows how (Q8_0, Q4_K...). What a file holds is read here, because that package's reader goes through
each of the 300,000 words of a text encoder's tokenizer, for seconds, and counts on behind the end of a broken file.

    magic, version, number of tensors, of fields    fields: name, type, value    tensors: name, axes, type, offset

Shapes stand in the file with the fastest axis first; a tensor whose rows do not fit the blocks was reshaped, and its
true shape stands in the fields.
Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; https://github.com/city96/ComfyUI-GGUF.
"""

from __future__ import annotations

import importlib.util
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from velatura.errors import FileProblem, MissingExtra, ModelError
from velatura.files import disk_problems
from velatura.tensorfile import Entry, Header

if TYPE_CHECKING:
    from torch import Tensor

TRUE_SHAPE = "comfy.gguf.orig_shape."
"""Before the name of a tensor that was reshaped."""

ALIGNMENT = "general.alignment"

LARGEST = 1 << 40
"""Elements; a tensor that says it has more is no tensor."""

MOST_AXES = 8

# fmt: off
TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2), 28: ("F64", 1, 8),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8),
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 22: ("IQ2_S", 256, 82), 18: ("IQ3_XXS", 256, 98),
    21: ("IQ3_S", 256, 110), 19: ("IQ1_S", 256, 50), 29: ("IQ1_M", 256, 56), 20: ("IQ4_NL", 32, 18),
    23: ("IQ4_XS", 256, 136), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}
# fmt: on
"""Number of a tensor's type -> its name, how many elements a block has, and how many bytes."""

BLOCK_BYTES = {name: size for name, _, size in TYPES.values()}

AT_ONCE = 4096
"""Blocks of a row, as the package multiplies out a few rows at a time; a power of two."""

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Number of a field's type -> as `struct` calls it."""

TEXT, ARRAY = 8, 9


def read_header(path: Path) -> Header:
    """Names, types and shapes; of the metadata the texts.

    Raises:
        FileProblem: the file is missing, cut off or damaged.
        ModelError: its weights are of a type that is not known.
    """
    with disk_problems(path), path.open("rb") as file:
        size = path.stat().st_size
        data: Any = np.memmap(file, np.uint8, "r") if size else b""
        try:
            return _Reading(memoryview(data)).header()
        except (ValueError, struct.error, OverflowError, MemoryError) as error:
            raise FileProblem("this file is cut off or damaged", where=path, fix="fetch or copy it again") from error
        except KeyError as error:
            raise ModelError(
                f"weights in GGUF's type {error} cannot be read", where=path, fix="take another quantisation"
            ) from error


def tensors(path: Path) -> Mapping[str, Tensor]:
    """All tensors, in fp32, each made when it is asked for.

    Raises:
        MissingExtra: the `gguf` package is not installed.
        FileProblem, ModelError: as `read_header`.
    """
    return Dequantised(path)


class Dequantised(Mapping[str, "Tensor"]):
    """The tensors of a file by their names."""

    def __init__(self, path: Path) -> None:
        """Map the file and read what it holds."""
        if importlib.util.find_spec("gguf") is None:
            raise MissingExtra(
                "reading the weights of GGUF files needs a package that is not installed",
                where=path,
                fix='pip install "velatura[gguf]"',
            )
        self.path, self.header = path, read_header(path)
        with disk_problems(path):
            self._data = np.memmap(path, np.uint8, "r")

    def __getitem__(self, name: str) -> Tensor:
        """The tensor of this name."""
        import torch
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        entry = self.header.entries[name]
        held = self._data[self.header.data_start + entry.start : self.header.data_start + entry.end]
        blocks = len(held) // BLOCK_BYTES[entry.dtype]
        rows = blocks // math.gcd(blocks, AT_ONCE) if blocks else 1
        try:
            values = dequantize(held.reshape(rows, -1), GGMLQuantizationType[entry.dtype])
        except NotImplementedError as error:
            raise ModelError(
                f"weights in {entry.dtype} cannot be read", where=self.path, fix="take another quantisation"
            ) from error
        return torch.from_numpy(np.require(values, np.float32, ["C", "W"])).reshape(entry.shape)

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self.header.entries)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.header.entries)


class _Reading:
    """A walk through a file's header; beyond the file's end `struct` refuses to read."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def header(self) -> Header:
        """The whole of it."""
        magic, version = self.one("4s"), self.one("I")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError("this is no GGUF of a known version")
        tensor_count, field_count = self.one("Q"), self.one("Q")
        fields = {self.text(): self.value(self.one("I")) for _ in range(field_count)}
        entries = {self.text(): self.tensor() for _ in range(tensor_count)}
        alignment = fields.get(ALIGNMENT, 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"{alignment} is no alignment")
        start = -(-self.at // alignment) * alignment
        if max([self.at, *(start + entry.end for entry in entries.values())]) > len(self.data):
            raise ValueError("the file ends before what it holds")
        texts = {name: value for name, value in fields.items() if isinstance(value, str)}
        shaped = {name: _reshaped(entry, fields.get(TRUE_SHAPE + name)) for name, entry in entries.items()}
        return Header(texts, shaped, start)

    def one(self, kind: str) -> Any:
        """The next value of a type of `struct`."""
        (found,) = struct.unpack_from(f"<{kind}", self.data, self.at)
        self.at += struct.calcsize(f"<{kind}")
        return found

    def text(self) -> str:
        """The next text."""
        length = self.one("Q")
        if length > len(self.data) - self.at:
            raise ValueError("the file ends within a text")
        found = bytes(self.data[self.at : self.at + length])
        self.at += length
        return found.decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        """The next value of a field; of arrays only those of a few numbers, else None."""
        if kind == TEXT:
            return self.text()
        if kind != ARRAY:
            return self.one(_number(kind))
        inside, count = self.one("I"), self.one("Q")
        if inside == TEXT:
            for _ in range(count):
                length = self.one("Q")
                self.at += length
            return None
        letter = _number(inside)
        if count <= MOST_AXES:
            return tuple(self.one(letter) for _ in range(count))
        self.at += count * struct.calcsize(f"<{letter}")
        return None

    def tensor(self) -> Entry:
        """The next tensor, as it lies behind the header."""
        axes = self.one("I")
        if axes > MOST_AXES:
            raise ValueError(f"a tensor of {axes} axes is none")
        shape = tuple(reversed([self.one("Q") for _ in range(axes)]))
        name, block, size = TYPES[self.one("I")]
        start, count = self.one("Q"), math.prod(shape)
        if count > LARGEST or count % block:
            raise ValueError(f"{shape} is no shape in blocks of {block}")
        return Entry(name, shape, start, start + count // block * size)


def _number(kind: int) -> str:
    if kind not in NUMBERS:
        raise ValueError(f"{kind} is no type of a field")
    return NUMBERS[kind]


def _reshaped(entry: Entry, true: Any) -> Entry:
    """A tensor with the axes that it had before it was quantised.

    Raises:
        ValueError: they are not those of its elements.
    """
    if true is None:
        return entry
    if not isinstance(true, tuple) or any(not isinstance(length, int) or length < 0 for length in true):
        raise ValueError(f"{true} is no shape")
    if math.prod(true) != math.prod(entry.shape):
        raise ValueError(f"{true} is not the shape of {math.prod(entry.shape)} elements")
    return replace(entry, shape=true)
