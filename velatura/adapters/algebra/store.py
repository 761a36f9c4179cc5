"""Adapter files written piece by piece, with true hashes and a record of what was done.

A file may be larger than the memory: tensors are made one after the other, in the order in which they stand in the
file, and hashed on their way. The hashes belong into the header, which stands first; it is written with
blanks of the same length and once more at the end.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from velatura import tensorfile
from velatura.errors import AdapterError
from velatura.files import writing
from velatura.tensorfile import RawTensor
from velatura.version import __version__

Precision = Literal["F16", "BF16", "F32"]

LINEAGE = "velatura.lineage"
"""Metadata key: what was done to a file, oldest first, as JSON."""

PEFT_SETTINGS = "lora_adapter_metadata"
"""Metadata key under which diffusers stores PEFT's settings; they hold ranks and alphas."""

LEGACY_WINDOW = (0x100000, 0x110000)
"""The bytes that A1111's old hash is of."""

LARGEST: Mapping[Precision, float] = {
    "F16": float(np.finfo(np.float16).max),
    "BF16": 3.3895313892515355e38,
    "F32": float(np.finfo(np.float32).max),
}


class Planned(NamedTuple):
    """Type and shape of a tensor that is yet to be made."""

    dtype: str
    shape: tuple[int, ...]


def write(
    path: Path, planned: Mapping[str, Planned], metadata: Mapping[str, str], make: Callable[[str], RawTensor]
) -> None:
    """Write an adapter file; a file at the path is replaced when all is written.

    The bytes are those of `tensorfile.to_bytes` with `metadata.hashes`.

    Args:
        make: gives the tensor of a key; asked once for each, in the order of `tensorfile.order`.

    Raises:
        FileProblem: the disk refuses.
        ValueError: a tensor is not of the type and shape that were planned.
    """
    kept = {key: value for key, value in metadata.items() if key not in blank_hashes()}
    training = {key: value for key, value in kept.items() if key.startswith("ss_")}
    bare = tensorfile.head(planned, training)
    digest, legacy = hashlib.sha256(), _Window(bare)
    with writing(path) as file:
        first = tensorfile.head(planned, {**kept, **blank_hashes()})
        file.write(first)
        for name in tensorfile.order(planned):
            tensor = make(name)
            if (tensor.dtype, tuple(tensor.shape)) != tuple(planned[name]):
                raise ValueError(f"{name} is {tensor.dtype} {tensor.shape}, planned was {planned[name]}")
            file.write(tensor.data)
            digest.update(tensor.data)
            legacy.update(tensor.data)
        found = digest.hexdigest()
        last = tensorfile.head(planned, {**kept, **_hashes(found, legacy.digest.hexdigest()[:8])})
        if len(last) != len(first):
            raise ValueError("the header changed its length")
        file.seek(0)
        file.write(last)


class _Window:
    """Hashes the bytes of `LEGACY_WINDOW` of a file that passes by."""

    def __init__(self, head: bytes) -> None:
        self.digest, self.at = hashlib.sha256(), 0
        self.update(head)

    def update(self, data: bytes | memoryview) -> None:
        first, last = (min(max(edge - self.at, 0), len(data)) for edge in LEGACY_WINDOW)
        self.digest.update(data[first:last])
        self.at += len(data)


def _hashes(digest: str, legacy: str) -> dict[str, str]:
    return {"sshs_model_hash": digest, "sshs_legacy_hash": legacy, "modelspec.hash_sha256": f"0x{digest}"}


def blank_hashes() -> dict[str, str]:
    """The keys of the hashes, with values of the right length."""
    return _hashes("0" * 64, "0" * 8)


def stored(values: NDArray[np.float32], precision: Precision, *, name: str) -> RawTensor:
    """Values in a file's type, rounded to nearest.

    Raises:
        AdapterError: a value is not a number, or too large for the type.
    """
    largest = float(np.abs(values).max(initial=0.0))
    if not math.isfinite(largest):
        raise AdapterError(f"{name} holds values that are not numbers", fix="mend the file, or train it again")
    if largest > LARGEST[precision]:
        raise AdapterError(f"{name} holds values too large for {precision}", fix="choose --precision F32")
    if precision == "BF16":
        bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to nearest, ties to even
        return RawTensor("BF16", values.shape, rounded.astype("<u2").tobytes())
    return tensorfile.raw(values.astype(np.float16 if precision == "F16" else np.float32))


def descent(
    metadata: Mapping[str, str], command: str, sources: Iterable[Path], told: Mapping[str, Any]
) -> dict[str, str]:
    """A file's metadata with one more step of its lineage: the command, its settings, what it was given.

    Files are named without their folders, and known by the sha256 of their tensors.
    """
    try:
        before = json.loads(metadata.get(LINEAGE, "[]"))
    except (ValueError, RecursionError):
        before = []  # what another program left there says nothing
    steps = before if isinstance(before, list) else []
    step = {
        "command": command,
        "settings": {key: value for key, value in told.items() if value is not None},
        "from": [{"name": path.name, "sha256": tensorfile.content_hash(path)} for path in sources],
        "software": f"velatura {__version__}",
    }
    return {**metadata, LINEAGE: json.dumps([*steps, step], sort_keys=True)}


def ranks(metadata: Mapping[str, str], found: Iterable[tuple[int, float]]) -> dict[str, str]:
    """Metadata that states the new ranks and alphas, "Dynamic" as kohya has it where they differ.

    PEFT's own settings are left out: they are of the old ranks, and alpha is now in the weights.
    """
    listed = list(found)
    sizes, alphas = {rank for rank, _ in listed}, {alpha for _, alpha in listed}
    kept = {key: value for key, value in metadata.items() if key != PEFT_SETTINGS}
    kept["ss_network_dim"] = str(sizes.pop()) if len(sizes) == 1 else "Dynamic"
    kept["ss_network_alpha"] = str(alphas.pop()) if len(alphas) == 1 else "Dynamic"
    return kept
