"""Files of weights in every format that is read, known by how they begin, else by their ending.

One module for each format, with the same two functions: `read_header` says what a file holds, `tensors` gives it,
mapped or made when asked for.

    safetensors     by name alone the format of the field; mapped
    pickled         .ckpt and .pt of older programs: only what torch loads as weights and nothing else
    gguf            quantised denoisers and text encoders: multiplied out tensor by tensor (extra `gguf`)
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from velatura.files import disk_problems
from velatura.tensorfile import Header

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = {
    ".safetensors": "safetensors",
    ".ckpt": "pickled",
    ".pt": "pickled",
    ".pth": "pickled",
    ".gguf": "gguf",
}
"""Ending of a file -> the module that reads it; a file with any other ending is taken for safetensors."""

BEGINNINGS = {
    "gguf": re.compile(rb"GGUF"),
    "pickled": re.compile(rb"PK\x03\x04"),
    "safetensors": re.compile(rb".{8}\{", re.DOTALL),
}
"""The module -> how its files begin: safetensors with the length of their header; old pickles like nothing else."""


def read_header(path: Path) -> Header:
    """What a file holds, from as little of it as its format allows; no weights are read.

    Raises:
        FileProblem: it is missing, cut off or damaged.
        ModelError: it is pickled and holds more than weights, or in a format's type that is not known.
    """
    with disk_problems(path):
        stat = path.stat()
    return _read_header(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4)  # several families look at one file, one after another
def _read_header(path: Path, size: int, changed: int) -> Header:
    header: Header = _format(path).read_header(path)
    return header


def tensors(path: Path) -> Mapping[str, Tensor]:
    """All tensors of a file, none of them copied before it is asked for.

    Raises:
        FileProblem, ModelError: as `read_header`.
        MissingExtra: its format needs a package that is not installed.
    """
    held: Mapping[str, Tensor] = _format(path).tensors(path)
    return held


def _format(path: Path) -> ModuleType:
    with disk_problems(path), path.open("rb") as file:
        beginning = file.read(9)
    known = (name for name, mark in BEGINNINGS.items() if mark.match(beginning))
    name = next(known, FORMATS.get(path.suffix.lower(), "safetensors"))
    return importlib.import_module(f"{__name__}.{name}")
