"""GGUF: denoisers whose weights are quantised in blocks, multiplied out to fp32 one tensor at a time.

The `gguf` package knows the types (F16, Q8_0, Q4_K...). Shapes stand in the file with the fastest axis first;
a tensor whose rows do not fit the blocks was reshaped, and its true shape stands in the metadata.
Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; https://github.com/city96/ComfyUI-GGUF.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

LARGEST = 1 << 40
"""Elements; a tensor that says it has more is no tensor."""


def read_header(path: Path) -> Header:
    """Names, types and shapes.

    Raises:
        MissingExtra: the `gguf` package is not installed.
        FileProblem: the file is missing, cut off or damaged.
    """
    return Dequantised(path).header


def tensors(path: Path) -> Mapping[str, Tensor]:
    """All tensors, in fp32, each made when it is asked for.

    Raises:
        MissingExtra, FileProblem: as `read_header`.
    """
    return Dequantised(path)


class Dequantised(Mapping[str, "Tensor"]):
    """The tensors of a file by their names."""

    def __init__(self, path: Path) -> None:
        """Map the file and read what it holds."""
        try:
            reader_class = _bounded()
        except ImportError as error:
            raise MissingExtra(
                "GGUF files need a package that is not installed", where=path, fix='pip install "velatura[gguf]"'
            ) from error
        self.path = path
        try:
            with disk_problems(path):
                reader = reader_class(path)
            self._tensors: dict[str, Any] = {str(one.name): one for one in reader.tensors}
            shapes = {name: _shape(reader, one) for name, one in self._tensors.items()}
            self.header = Header(
                {},
                {
                    name: Entry(one.tensor_type.name, shapes[name], 0, int(one.n_bytes))
                    for name, one in self._tensors.items()
                },
                int(reader.data_offset),
            )
        except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
            raise FileProblem("this file is cut off or damaged", where=path, fix="fetch or copy it again") from error

    def __getitem__(self, name: str) -> Tensor:
        """The tensor of this name."""
        import torch
        from gguf.quants import dequantize

        held = self._tensors[name]
        try:
            values = np.require(dequantize(held.data, held.tensor_type), np.float32, ["C", "W"])
        except NotImplementedError as error:
            raise ModelError(
                f"weights in {held.tensor_type.name} cannot be read", where=self.path, fix="take another quantisation"
            ) from error
        return torch.from_numpy(values).reshape(self.header.entries[name].shape)

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._tensors)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._tensors)


def _bounded() -> Any:
    """The package's reader, which for a count that is larger than the file would go on counting behind its end."""
    from gguf import GGUFReader

    class Bounded(GGUFReader):  # type: ignore[misc, unused-ignore]
        def _get(self, offset: int, dtype: Any, count: int = 1, *more: Any, **named: Any) -> Any:
            found = super()._get(offset, dtype, count, *more, **named)
            if len(found) < int(count):
                raise ValueError("the file ends here")
            return found

    return Bounded


def _shape(reader: Any, held: Any) -> tuple[int, ...]:
    """The axes as torch counts them.

    Raises:
        ValueError: they are not those of the tensor's elements.
    """
    shape = tuple(int(length) for length in reversed(held.shape))
    field = reader.get_field(f"{TRUE_SHAPE}{held.name}")
    if field is not None:
        shape = tuple(int(field.parts[at][0]) for at in field.data)
    count = 1
    for length in shape:
        count *= length
        if length < 0 or count > LARGEST:
            raise ValueError(f"{shape} is no shape")
    if count != int(held.n_elements):
        raise ValueError(f"{shape} is not the shape of {held.n_elements} elements")
    return shape
