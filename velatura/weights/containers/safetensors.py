"""Safetensors: a header, then the tensors' bytes, which are mapped as they lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from velatura.tensorfile import read_header

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read_header", "tensors"]


def tensors(path: Path) -> dict[str, Tensor]:
    """All tensors, mapped."""
    from safetensors.torch import load_file

    read_header(path)  # checks the file before the library maps it
    held: dict[str, Tensor] = load_file(path)
    return held
