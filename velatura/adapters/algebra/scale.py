"""An adapter with some of its blocks weakened, strengthened or removed, saved in its own kind.

Where a file has alphas, only they change, and every other byte stays. Elsewhere one factor of the change is multiplied
and stored in the file's own precision. A strength of 0 takes the block's keys out: to some programs an alpha of 0
means one of the rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from velatura import tensorfile
from velatura.adapters.algebra import blocks, store
from velatura.adapters.algebra.factors import FactorFile, FileLayer, open_file
from velatura.adapters.algebra.store import Planned, Precision
from velatura.errors import AdapterError
from velatura.tensorfile import RawTensor

MULTIPLIED: Mapping[str, tuple[str, ...]] = {
    "LoRA": ("up",), "LoCon with a core": ("up",), "LoHa": ("hada_w1_a",), "LoKr": ("lokr_w1", "lokr_w1_a"),
    "GLoRA": ("a1", "b1"), "full difference": ("diff", "diff_b"), "norm": ("w_norm", "b_norm"), "IA3": ("weight",),
}  # fmt: skip
"""Kind -> the tensors that are multiplied where alpha does not say it; those that are there."""

BY_ALPHA = frozenset({"LoRA", "LoCon with a core", "LoHa", "GLoRA"})
"""Kinds whose change is proportional to alpha. A LoKr of two full factors passes it over, to an OFT it is a limit."""


@dataclass(frozen=True)
class Scaled:
    """What was done."""

    strengths: Mapping[str, float]
    """Block -> what its change was multiplied by."""
    layers: int
    """How many were changed."""
    removed: int


def scale(source: Path, out: Path, told: Sequence[str]) -> Scaled:
    """Write the adapter with its blocks at other strengths.

    Args:
        told: as `blocks.strengths` takes it.

    Raises:
        AdapterError: there is no such block, or one of its layers cannot be scaled but only removed.
        FileProblem: the file cannot be read or written.
    """
    file = open_file(source)
    by_block = blocks.strengths(told, (blocks.block_of(stem) for stem in file.layers))
    factor = {stem: by_block[blocks.block_of(stem)] for stem in file.layers}
    owners = {key: (layer, role) for layer in file.layers.values() for role, key in layer.keys.items()}
    touched = {stem: _multiplied(file, file.layers[stem]) for stem in file.layers if factor[stem] not in (0, 1)}
    planned = {
        key: Planned("F32" if key in owners and owners[key][1] == "alpha" else entry.dtype, entry.shape)
        for key, entry in file.header.entries.items()
        if key not in owners or factor[owners[key][0].stem] != 0
    }
    if not planned:
        raise AdapterError("nothing would be left of this file", where=source, fix="keep at least one block")

    def made(key: str) -> RawTensor:
        layer, role = owners.get(key, (None, ""))
        raw = tensorfile.read_tensor(file.path, file.header, key)
        if layer is None or role not in touched.get(layer.stem, ()):
            return raw if role != "alpha" else tensorfile.raw(tensorfile.as_float32(raw))
        values = tensorfile.as_float32(raw) * np.float32(factor[layer.stem])
        return store.stored(values, _precision(planned[key].dtype), name=layer.stem)

    metadata = store.descent(file.metadata, "scale", [source], {"blocks": " ".join(told)})
    store.write(out, planned, metadata, made)
    return Scaled(by_block, len(touched), sum(strength == 0 for strength in factor.values()))


def _multiplied(file: FactorFile, layer: FileLayer) -> tuple[str, ...]:
    if layer.kind in BY_ALPHA and "alpha" in layer.keys:
        return ("alpha",)
    roles = tuple(role for role in MULTIPLIED.get(layer.kind, ()) if role in layer.keys)
    if not roles:
        raise AdapterError(
            f"a {layer.kind} cannot be made stronger or weaker in its file: {layer.stem}",
            where=file.path,
            fix="remove the block with :0, or give the strength where you use it",
        )
    return roles


def _precision(dtype: str) -> Precision:
    return dtype if dtype in ("F16", "BF16", "F32") else "F16"  # type: ignore[return-value]
