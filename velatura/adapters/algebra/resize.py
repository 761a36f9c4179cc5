"""An adapter with smaller ranks: the nearest one, layer by layer, or the nearest of a given size.

How many singular values of a layer are kept is decided by one of

    rank         N                   so many
    fro          p                   the fewest whose root of the sum of squares is p of all
    ratio        p                   those larger than the largest divided by p
    cumulative   p                   the fewest whose sum is p of all
    budget       megabytes           those worth most per byte, over all layers: sigma^2 / (in + out)

kohya's resize_lora.py takes the second to fourth of these one value further, never fewer than two, and of a zero layer
one; `kohya=True` does the same. Ranks are never raised. The budget's choice is the optimum but for its last value,
since the values of a layer fall.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from velatura import tensorfile
from velatura.adapters.algebra import store
from velatura.adapters.algebra.factors import FactorFile, Factors, FileLayer, factors, open_file
from velatura.adapters.algebra.small_svd import Matrix, SmallSvd, decompose, truncated
from velatura.adapters.algebra.store import Planned, Precision
from velatura.errors import AdapterError
from velatura.tensorfile import ITEM_BYTES, RawTensor

Values = NDArray[np.float64]
Method = Literal["rank", "fro", "ratio", "cumulative", "budget"]

SMALLEST_VALUE = 1e-6
"""kohya takes a layer whose largest singular value is no larger for zero."""


NEW_METADATA = 1000
"""Bytes that the header may grow by."""


@dataclass(frozen=True)
class Rule:
    """How ranks are chosen."""

    method: Method
    value: float
    """A rank, a share, a ratio, or megabytes of 10^6 bytes."""
    conv_rank: int | None = None
    """For convolutions with a kernel, where `method` is "rank"."""
    most: int | None = None
    """Upper limit of the ranks that the other methods choose."""
    kohya: bool = False
    """As kohya's resize_lora.py counts."""

    def checked(self) -> Rule:
        """This rule, if it means something.

        Raises:
            AdapterError: a number is out of its range.
        """
        ranges = {"fro": (0, 1), "cumulative": (0, 1), "ratio": (1, math.inf), "budget": (0, math.inf)}
        low, high = ranges.get(self.method, (1, 1 << 20))
        if (
            not low <= self.value <= high
            or not math.isfinite(self.value)
            or (self.method == "budget" and not self.value)
        ):
            limits = f"from {low} to {high}" if math.isfinite(high) else f"above {low}"
            raise AdapterError(f"{self.method} {self.value:g} makes no sense", fix=f"choose a number {limits}")
        return self


@dataclass(frozen=True)
class Resized:
    """What became of one layer."""

    stem: str
    before: int
    after: int
    """Rank; 0 where the layer was left out."""
    kept: float
    """Share of its Frobenius norm, from 0 to 1; 1 of a zero layer."""
    energy: float
    """Square of its Frobenius norm before."""


@dataclass(frozen=True)
class Report:
    """What a resize did."""

    layers: tuple[Resized, ...]
    untouched: tuple[str, ...]
    """Layers of kinds that have no such factors."""
    notes: tuple[str, ...]
    size_before: int
    size_after: int
    """Bytes of the files."""

    @property
    def kept(self) -> float:
        """Share of the Frobenius norm of all layers together."""
        whole = sum(layer.energy for layer in self.layers)
        return math.sqrt(sum(layer.energy * layer.kept**2 for layer in self.layers) / whole) if whole else 1.0


def resize(source: Path, out: Path, rule: Rule, *, precision: Precision | None = None) -> Report:
    """Write an adapter with smaller ranks.

    Layers are read twice, first for their singular values, then for the factors, so that only small matrices are held.
    Of a DoRA the direction is resized and the magnitude kept. Everything else in the file is carried over.

    Args:
        precision: of the new factors; None: each as it was.

    Raises:
        AdapterError: the file is damaged, has nothing to resize, or the rule makes no sense.
        FileProblem: it cannot be read or written.
    """
    rule.checked()
    file = open_file(source)
    layers = [layer for layer in file.layers.values() if layer.low_rank]
    if not layers:
        raise AdapterError("this file has no layers of low rank, so there is nothing to resize", where=source)
    found: dict[str, SmallSvd] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for layer in layers:
        change = factors(file, layer)
        found[layer.stem] = decompose(change.up, change.down, scale=change.scale)
        sizes[layer.stem] = len(change.up), change.down.shape[1]
    keep = _ranks(file, layers, {stem: svd.values for stem, svd in found.items()}, sizes, rule, precision)
    draft = _Draft(file, {layer.stem: layer for layer in layers}, found, sizes, keep, precision)
    planned = draft.planned()
    metadata = store.ranks(file.metadata, ((rank, float(rank)) for rank in keep.values() if rank))
    told = {rule.method: rule.value, "conv_rank": rule.conv_rank, "most": rule.most, "kohya": rule.kohya or None}
    store.write(out, planned, store.descent(metadata, "resize", [source], told), draft.tensor)
    return Report(
        tuple(_resized(layer.stem, found[layer.stem], keep[layer.stem]) for layer in layers),
        tuple(stem for stem, layer in file.layers.items() if not layer.low_rank),
        tuple(_notes(file, layers, keep)),
        source.stat().st_size,
        out.stat().st_size,
    )


def count(values: Values, method: Method, value: float) -> int:
    """How many singular values a rule keeps of one layer, 0 where all are zero."""
    if not len(values) or values[0] <= 0:
        return 0
    if method == "rank":
        return min(int(value), int(np.count_nonzero(values)))
    if method == "ratio":
        return max(1, int(np.count_nonzero(values > values[0] / value)))
    powers = values if method == "cumulative" else values**2
    target = value if method == "cumulative" else value**2
    shares = np.cumsum(powers) / powers.sum()
    enough = int(np.searchsorted(shares, target - 1e-12)) + 1
    return min(enough, int(np.count_nonzero(values)))


def kohya_count(values: Values, method: Method, value: float, *, most: int, full: int) -> int:
    """How many kohya's resize_lora.py keeps.

    Args:
        values: singular values, falling.
        most: its `--new_rank`, the limit of any method.
        full: how many singular values the whole matrix has, min(in, out).
    """
    if not len(values) or values[0] <= SMALLEST_VALUE:
        return 1
    if method == "rank":
        return min(int(value), most)
    if method == "ratio":
        index = int(np.count_nonzero(values > values[0] / value))
    else:
        powers = values if method == "cumulative" else values**2
        target = value if method == "cumulative" else value**2
        index = int(np.searchsorted(np.cumsum(powers) / powers.sum(), target)) + 1
    return min(max(1, min(index, full - 1)) + 1, most)


def budgeted(values: Mapping[str, Values], costs: Mapping[str, float], budget: float) -> dict[str, int]:
    """How many singular values of each layer to keep so that the most energy is kept within a budget.

    Args:
        costs: bytes of one more rank, by layer.
        budget: bytes for all.
    """
    order = sorted(
        ((float(value**2 / costs[stem]), stem) for stem, listed in values.items() for value in listed if value > 0),
        key=lambda pair: (-pair[0], pair[1]),
    )
    keep, spent = dict.fromkeys(values, 0), 0.0
    for _, stem in order:
        if spent + costs[stem] > budget:
            break
        spent += costs[stem]
        keep[stem] += 1
    return keep


def _ranks(
    file: FactorFile,
    layers: Sequence[FileLayer],
    values: Mapping[str, Values],
    sizes: Mapping[str, tuple[int, int]],
    rule: Rule,
    precision: Precision | None,
) -> dict[str, int]:
    """The new rank of every layer; 0: it is left out."""
    if rule.method == "budget":
        costs = {
            layer.stem: float(sum(sizes[layer.stem]) * ITEM_BYTES[precision or file.entry(layer, "down").dtype])
            for layer in layers
        }
        held = sum(entry.end - entry.start for entry in file.header.entries.values())
        fixed = held - sum(file.size(layer) for layer in layers) + 4 * len(layers)
        keep = budgeted(values, costs, rule.value * 1e6 - fixed - file.header.data_start - NEW_METADATA)
        if not any(keep.values()):
            raise AdapterError(f"nothing fits into {rule.value:g} MB", where=file.path, fix="allow more")
        return keep
    keep = {}
    for layer in layers:
        listed, old = values[layer.stem], file.entry(layer, "down").shape[0]
        kernel = math.prod(file.entry(layer, "down").shape[2:]) > 1
        value = rule.conv_rank if rule.method == "rank" and kernel and rule.conv_rank else rule.value
        most = rule.most or old
        if rule.kohya:
            ranks = kohya_count(listed, rule.method, value, most=most, full=min(sizes[layer.stem]))
            keep[layer.stem] = min(ranks, old)
        else:
            keep[layer.stem] = min(max(count(listed, rule.method, value), 1), most)
    return keep


class _Draft:
    """The tensors of the new file, made when they are written."""

    def __init__(
        self,
        file: FactorFile,
        layers: Mapping[str, FileLayer],
        found: Mapping[str, SmallSvd],
        sizes: Mapping[str, tuple[int, int]],
        keep: Mapping[str, int],
        precision: Precision | None,
    ) -> None:
        self.file, self.found, self.keep, self.sizes = file, found, keep, sizes
        self.precision = precision
        self.owners: dict[str, tuple[FileLayer, str]] = {}
        for layer in layers.values():
            self.owners |= {key: (layer, role) for role, key in layer.keys.items()}
        self._last: tuple[str, Factors, Matrix, Matrix] | None = None

    def planned(self) -> dict[str, Planned]:
        """Type and shape of everything that the new file holds."""
        tensors: dict[str, Planned] = {}
        for key, entry in self.file.header.entries.items():
            layer, role = self.owners.get(key, (None, ""))
            if layer is None:
                tensors[key] = Planned(entry.dtype, entry.shape)
            elif self.keep[layer.stem] and role != "mid":
                tensors[key] = self._planned(layer, role)
        return tensors

    def _planned(self, layer: FileLayer, role: str) -> Planned:
        entry, keep = self.file.entry(layer, role), self.keep[layer.stem]
        if role == "down":
            inputs = entry.shape[1]
            kernel = self.file.entry(layer, "mid").shape[2:] if "mid" in layer.keys else entry.shape[2:]
            return Planned(self._dtype(entry.dtype), (keep, inputs, *kernel))
        if role == "up":
            return Planned(self._dtype(entry.dtype), (entry.shape[0], keep, *entry.shape[2:]))
        if role in ("alpha", "scale"):
            return Planned("F32", entry.shape)
        return Planned(entry.dtype, entry.shape)

    def _dtype(self, before: str) -> Precision:
        if self.precision is not None:
            return self.precision
        return before if before in ("F16", "BF16", "F32") else "F16"  # type: ignore[return-value]

    def tensor(self, key: str) -> RawTensor:
        """One tensor of the new file."""
        layer, role = self.owners.get(key, (None, ""))
        if layer is None or role not in ("down", "up", "alpha", "scale", "bias"):
            return tensorfile.read_tensor(self.file.path, self.file.header, key)
        planned = self._planned(layer, role)
        if role in ("alpha", "scale"):
            value = self.keep[layer.stem] if role == "alpha" else 1
            return tensorfile.raw(np.full(planned.shape, value, np.float32))
        if role == "bias":  # PEFT's is multiplied by the scale, which is now in the factors
            values = self.file.array(layer, role) * np.float32(factors(self.file, layer).scale)
            return store.stored(values, self._dtype(planned.dtype), name=layer.stem)
        up, down = self._truncated(layer)
        values = (up if role == "up" else down).reshape(planned.shape)
        return store.stored(values, self._dtype(planned.dtype), name=layer.stem)

    def _truncated(self, layer: FileLayer) -> tuple[Matrix, Matrix]:
        """Both factors; those of the last layer are kept, since its keys follow one another."""
        if self._last is None or self._last[0] != layer.stem:
            change = factors(self.file, layer)
            up, down = truncated(change.up, change.down, self.found[layer.stem], self.keep[layer.stem])
            self._last = layer.stem, change, up, down
        return self._last[2], self._last[3]


def _resized(stem: str, svd: SmallSvd, keep: int) -> Resized:
    whole = svd.energy
    share = math.sqrt(float(np.square(svd.values[:keep]).sum()) / whole) if whole else 1.0
    return Resized(stem, len(svd.values), keep, share, whole)


def _notes(file: FactorFile, layers: Sequence[FileLayer], keep: Mapping[str, int]) -> Iterator[str]:
    if dropped := sum(rank == 0 for rank in keep.values()):
        yield f"{dropped} of {len(layers)} layers are worth less than others for their size, and were left out"
    if doras := sum(layer.kind == "DoRA" for layer in layers):
        yield (
            f"{doras} layers are DoRA: their direction was resized and their magnitude kept, so the shares are of "
            "the direction, and the result is near the optimum rather than at it"
        )
    if others := sum(not layer.low_rank for layer in file.layers.values()):
        yield f"{others} layers of other kinds have no two factors, and were carried over as they are"
