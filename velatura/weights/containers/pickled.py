"""Checkpoints that torch pickled (.ckpt, .pt): what is more than weights is refused, whatever it is.

A pickle can run any program. torch's own reader of weights (`weights_only=True`) builds tensors and plain values and
refuses everything else, and it only ever sees files whose size has been checked.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura.doctor import machine
from velatura.errors import FileProblem, ModelError
from velatura.files import disk_problems
from velatura.tensorfile import Entry, Header

if TYPE_CHECKING:
    from torch import Tensor

NESTED = "state_dict"
"""Under which training programs keep the weights beside their own state."""

TYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
"""torch's name of a type -> that of safetensors."""


def read_header(path: Path) -> Header:
    """Names, types and shapes.

    Raises:
        FileProblem: it is missing, cut off or damaged.
        ModelError: it holds more than weights, or none.
    """
    entries = {}
    for name, tensor in tensors(path).items():
        kind = str(tensor.dtype).removeprefix("torch.")
        entries[name] = Entry(TYPES.get(kind, kind), tuple(tensor.shape), 0, tensor.numel() * tensor.element_size())
    return Header({}, entries, 0)


def tensors(path: Path) -> dict[str, Tensor]:
    """All tensors, mapped where the file is not of torch 1.5 or older.

    Raises:
        FileProblem, ModelError: as `read_header`.
    """
    import torch

    mapped = _check(path)
    try:
        with disk_problems(path):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise ModelError(
            "this pickled file holds more than weights, which could be any program, so it is not loaded",
            where=path,
            fix="fetch its safetensors version, or save it as safetensors in the program that you have it from",
        ) from error
    except (RuntimeError, ValueError, EOFError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _damaged(path) from error
    held = _weights(loaded)
    if not held:
        raise ModelError("this file holds no weights", where=path, fix="use a base as safetensors")
    return held


def _check(path: Path) -> bool:
    """Look at a file's size before it is opened; whether it can be mapped.

    torch does not compress: contents larger than their file are a trap. What is called safetensors it would read so.
    """
    if path.suffix.lower() == ".safetensors":
        raise ModelError("this is a pickled file under the name of safetensors", where=path, fix="rename it to .ckpt")
    with disk_problems(path):
        size = path.stat().st_size
        if not zipfile.is_zipfile(path):
            memory = machine.memory()
            if memory is not None and size > memory[1]:
                raise ModelError("the memory is too small to convert this old file", where=path, fix=_AS_SAFETENSORS)
            return False
        try:
            with zipfile.ZipFile(path) as archive:
                inside = sum(one.file_size for one in archive.infolist())
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise _damaged(path) from error
    if inside > size:
        raise ModelError("this file unpacks to more than its size", where=path, fix=_AS_SAFETENSORS)
    return True


_AS_SAFETENSORS = "use the base as safetensors"


def _damaged(path: Path) -> FileProblem:
    return FileProblem("this file is cut off or damaged", where=path, fix="fetch or copy it again")


def _weights(loaded: Any) -> dict[str, Tensor]:
    import torch

    if isinstance(loaded, dict) and isinstance(loaded.get(NESTED), dict):
        loaded = loaded[NESTED]
    if not isinstance(loaded, dict):
        return {}
    return {str(name): tensor for name, tensor in loaded.items() if isinstance(tensor, torch.Tensor)}
