"""Safetensors: a header, then the tensors' bytes, which are mapped as they lie.

The file is mapped to be read only. Mapped as the library does it, to be written to in private, Linux counts all of it
as memory that may be needed and refuses files larger than the machine's.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from velatura.errors import ModelError
from velatura.tensorfile import read, read_header

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read_header", "tensors"]

TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
"""The format's name of a type -> torch's."""


def tensors(path: Path) -> dict[str, Tensor]:
    """All tensors, mapped; not to be written to.

    Raises:
        ModelError: a tensor is of a type that this version of torch does not know.
    """
    import torch

    held = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        for name, raw in read(path)[0].items():
            dtype = getattr(torch, TYPES.get(raw.dtype, ""), None)
            if dtype is None:
                raise ModelError(f"{name} is of the type {raw.dtype}, which cannot be read", where=path)
            tensor = torch.frombuffer(raw.data, dtype=dtype) if len(raw.data) else torch.empty(0, dtype=dtype)
            held[name] = tensor.reshape(raw.shape)
    return held
