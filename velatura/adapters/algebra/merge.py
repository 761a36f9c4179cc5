"""Several adapters made into one.

    concat   the sum of the changes, exactly: ranks add up. With a rule for ranks, the sum is then truncated to its best
             approximation.
    ties     of each change the largest elements are kept (a share, `density`); for every element the sign that weighs
             more is elected, and the values of that sign are averaged
    dare     of each change a random share of the elements (`density`) is kept, enlarged by as much as was dropped

Ties and dare work on the changes themselves. To do so on the two factors apart, as some programs do, adds products of
one adapter's down with another's up, which neither has learnt. Their result is of full rank and is approximated; the
error of that is reported.

Sources: Yadav et al. 2023, arXiv:2306.01708 (TIES); Yu et al. 2024, arXiv:2311.03099 (DARE).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from velatura import randomness, tensorfile
from velatura.adapters.algebra import store
from velatura.adapters.algebra.factors import Factors
from velatura.adapters.algebra.resize import Rule, count
from velatura.adapters.algebra.sides import Side
from velatura.adapters.algebra.sketch import sketch
from velatura.adapters.algebra.small_svd import Matrix, decompose, truncated
from velatura.adapters.algebra.store import Planned, Precision
from velatura.errors import AdapterError
from velatura.tensorfile import RawTensor

Method = Literal["concat", "ties", "dare"]

MERGED_FROM = "modelspec.merged_from"

PERSONAL = ("ss_", "modelspec.trigger", "modelspec.title", "modelspec.thumbnail")
"""Metadata of one training, which is not that of several."""


@dataclass(frozen=True)
class How:
    """The way of merging."""

    method: Method = "concat"
    rule: Rule | None = None
    """How far the result is truncated; not by a budget."""
    density: float = 0.5
    """Share of elements that ties and dare keep."""
    seed: int = 0
    """Of dare's draw."""

    def checked(self) -> How:
        """This, if it means something.

        Raises:
            AdapterError: a number is out of its range, or a rule is missing.
        """
        if not 0 < self.density <= 1:
            raise AdapterError(f"a density of {self.density:g} makes no sense", fix="choose one above 0, up to 1")
        if self.rule is not None and (self.rule.method == "budget" or self.rule.kohya):
            raise AdapterError("merging cannot go by that rule", fix="merge first, then resize the result")
        if self.method != "concat" and (self.rule is None or self.rule.method != "rank"):
            raise AdapterError(f"{self.method} needs a rank, since its result has the full one", fix="add --rank N")
        if self.rule is not None:
            self.rule.checked()
        return self


@dataclass(frozen=True)
class Merged:
    """What a merge did."""

    ranks: Mapping[str, int]
    """Layer -> rank in the result."""
    kept: float
    """Share of the Frobenius norm of the exact result that the truncation kept; 1 where there was none."""
    error: float
    """Relative Frobenius norm of what was lost."""
    shared: int
    """Layers that more than one adapter changes."""


def joined(parts: Sequence[tuple[Factors, float]]) -> Factors:
    """The sum of changes, each times its strength, with all channels side by side.

    Raises:
        AdapterError: they are not of one shape.
    """
    shapes = {(len(change.up), change.down.shape[1], change.kernel) for change, _ in parts}
    if len(shapes) > 1:
        listed = " and ".join(
            f"{out} x {inputs}" + (f" with a kernel of {' x '.join(map(str, kernel))}" if kernel else "")
            for out, inputs, kernel in sorted(shapes)
        )
        raise AdapterError(f"the adapters are for bases of different size: a layer is {listed}")
    up = np.concatenate([change.up * np.float32(change.scale * strength) for change, strength in parts], axis=1)
    return Factors(up, np.concatenate([change.down for change, _ in parts]), 1.0, parts[0][0].kernel)


def merged(parts: Sequence[tuple[Factors, float]], how: How, *, label: str) -> tuple[Factors, float, float]:
    """One layer of the result, its energy before truncation, and what of that was lost."""
    if how.method == "concat":
        whole = joined(parts)
        if how.rule is None:
            return whole, 0.0, 0.0
        svd = decompose(whole.up, whole.down)
        kernel = math.prod(whole.kernel) > 1
        value = how.rule.conv_rank if how.rule.method == "rank" and kernel and how.rule.conv_rank else how.rule.value
        keep = max(1, min(count(svd.values, how.rule.method, value), how.rule.most or svd.values.size))
        up, down = truncated(whole.up, whole.down, svd, keep)
        return Factors(up, down, 1.0, whole.kernel), svd.energy, float(np.square(svd.values[keep:]).sum())
    joined(parts)  # says whether they are of one shape
    deltas = np.stack([np.float32(strength) * change.delta() for change, strength in parts])
    total = ties(deltas, how.density) if how.method == "ties" else dare(deltas, how.density, seed=how.seed, label=label)
    assert how.rule is not None
    found = sketch(total, int(how.rule.value), label=label)
    return Factors(found.up, found.down, 1.0, parts[0][0].kernel), found.energy, found.lost


def ties(deltas: Matrix, density: float) -> Matrix:
    """Trim, elect, average.

    Args:
        deltas: (adapters, out, in), strengths in them.
        density: share of the elements of each that is kept, the largest.
    """
    trimmed = np.stack([_largest(delta, density) for delta in deltas])
    elected = np.sign(trimmed.sum(axis=0))
    agreeing = np.where(np.sign(trimmed) == elected, trimmed, np.float32(0))
    counted = np.maximum(np.count_nonzero(agreeing, axis=0), 1)
    average: Matrix = agreeing.sum(axis=0) / counted.astype(np.float32)
    return average


def _largest(delta: Matrix, density: float) -> Matrix:
    sizes = np.abs(delta).ravel()
    dropped = sizes.size - math.ceil(density * sizes.size)
    if not dropped:
        return delta
    limit = np.partition(sizes, dropped)[dropped]
    return np.where(np.abs(delta) >= limit, delta, np.float32(0))


def dare(deltas: Matrix, density: float, *, seed: int, label: str) -> Matrix:
    """Drop and rescale, then add.

    Args:
        deltas: (adapters, out, in), strengths in them.
        density: share of elements that is kept.
        label: of the layer; the draw is a function of seed, label and the adapter's place.
    """
    total = np.zeros(deltas.shape[1:], np.float32)
    for place, delta in enumerate(deltas):
        kept = randomness.generator(seed, "dare", label, place).random(delta.shape, np.float32) < density
        total += np.where(kept, delta / np.float32(density), np.float32(0))
    return total


def merge(
    sides: Sequence[Side],
    strengths: Sequence[float],
    out: Path,
    how: How,
    *,
    stems: Mapping[str, str],
    precision: Precision,
) -> Merged:
    """Write one adapter that does what several do together, as a LoRA under kohya's or PEFT's ends of keys.

    Layers are made twice where they are truncated, first for their ranks, so that only one is held at a time.

    Args:
        stems: layer, as the sides name it -> its name in the file.
        precision: of the factors.

    Raises:
        AdapterError: the adapters do not go together, one is damaged, or a change depends on the base's weight.
        FileProblem: a file cannot be read or written.
    """
    how.checked()
    names = list(dict.fromkeys(name for side in sides for name in side.names))
    ranks: dict[str, int] = {}
    shapes: dict[str, tuple[int, int, tuple[int, ...]]] = {}
    energy = lost = 0.0
    for name in names:
        layer, whole, left = merged(_parts(sides, strengths, name), how, label=name)
        ranks[name], energy, lost = layer.rank, energy + whole, lost + left
        shapes[name] = len(layer.up), layer.down.shape[1], layer.kernel
    planned: dict[str, Planned] = {}
    owners: dict[str, tuple[str, str]] = {}
    for name in names:
        outputs, inputs, kernel = shapes[name]
        rank, ones = ranks[name], (1,) * len(kernel)
        down, up, alpha = _keys(stems[name])
        planned[down] = Planned(precision, (rank, inputs // math.prod(kernel), *kernel))
        planned[up] = Planned(precision, (outputs, rank, *ones))
        owners |= {down: (name, "down"), up: (name, "up")}
        if alpha:
            planned[alpha] = Planned("F32", ())
            owners[alpha] = name, "alpha"
    last: dict[str, Factors] = {}

    def made(key: str) -> RawTensor:
        name, role = owners[key]
        if role == "alpha":
            return tensorfile.raw(np.array(ranks[name], np.float32))
        if name not in last:
            last.clear()
            last[name] = merged(_parts(sides, strengths, name), how, label=name)[0]
        values = last[name].up if role == "up" else last[name].down
        return store.stored(values.reshape(planned[key].shape), precision, name=name)

    store.write(out, planned, _metadata(sides, strengths, how, ranks.values()), made)
    error = math.sqrt(lost / energy) if energy else 0.0
    shared = sum(sum(name in side.names for side in sides) > 1 for name in names)
    return Merged(ranks, math.sqrt(max(0.0, 1 - error**2)), error, shared)


def _parts(sides: Sequence[Side], strengths: Sequence[float], name: str) -> list[tuple[Factors, float]]:
    pairs = zip(sides, strengths, strict=True)
    return [(side.factors(name), strength) for side, strength in pairs if name in side.names]


def _keys(stem: str) -> tuple[str, str, str]:
    """Down, up and alpha; names with dots are PEFT's and have no alpha, which is the rank here."""
    if "." in stem:
        return f"{stem}.lora_A.weight", f"{stem}.lora_B.weight", ""
    return f"{stem}.lora_down.weight", f"{stem}.lora_up.weight", f"{stem}.alpha"


def _metadata(sides: Sequence[Side], strengths: Sequence[float], how: How, ranks: Iterable[int]) -> dict[str, str]:
    headers = [tensorfile.read_header(side.path).metadata for side in sides]
    kept = {
        key: value
        for key, value in headers[0].items()
        if all(header.get(key) == value for header in headers) or not key.startswith(PERSONAL)
    }
    kept |= {key: headers[0][key] for key in ("ss_base_model_version", "ss_v2") if key in headers[0]}
    kept["ss_network_module"] = "networks.lora"
    kept = store.ranks(kept, ((rank, float(rank)) for rank in ranks))
    titles = (header.get("modelspec.title") or side.path.stem for header, side in zip(headers, sides, strict=True))
    kept[MERGED_FROM] = ", ".join(titles)
    told = {
        "strengths": " ".join(f"{strength:g}" for strength in strengths),
        "method": how.method,
        "density": how.density if how.method != "concat" else None,
        "seed": how.seed if how.method == "dare" else None,
        **(dict[str, float]({how.rule.method: how.rule.value}) if how.rule else {}),
    }
    lineage = {key: value for key, value in kept.items() if key != store.LINEAGE}
    return store.descent(lineage, "merge", [side.path for side in sides], told)
