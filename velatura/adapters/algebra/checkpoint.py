"""Checkpoints as adapters see them: where each layer's weight lies in a base's files, read and written without torch.

The names that an adapter's layers may bear in files are those of the checkpoints too, so a family's key map finds the
weights; only OpenCLIP's text encoder has names of its own.

    bake       a checkpoint with adapters in its weights, in its own layout and precision
    extract    an adapter that does what a tuned checkpoint does beyond its base, as near as a rank allows
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from velatura import tensorfile
from velatura.adapters.algebra import store
from velatura.adapters.algebra.sketch import sketch
from velatura.adapters.algebra.small_svd import Matrix
from velatura.adapters.algebra.store import Planned, Precision
from velatura.adapters.formats import KeyMap
from velatura.adapters.fused import rows_at
from velatura.adapters.weights import Change, Shape, part_of
from velatura.errors import AdapterError, ModelError
from velatura.tensorfile import Header, RawTensor
from velatura.weights.layouts import Place, clip
from velatura.weights.parts import PartFiles

WRITABLE = ("F16", "BF16", "F32")

Owned = list[tuple[str, Place]]
"""The layers that a name means, and which rows each of them has."""


@dataclass(frozen=True)
class Weight:
    """Where the weight of one layer lies."""

    path: Path
    key: str
    place: Place

    def read(self, header: Header) -> RawTensor:
        """The tensor that it is, or is in."""
        return tensorfile.read_tensor(self.path, header, self.key)


class Checkpoint:
    """A base's files, by the layers that adapters change."""

    def __init__(self, parts: Mapping[str, PartFiles], *, keys: KeyMap, layers: Mapping[str, Shape]) -> None:
        """Find the layers.

        Args:
            parts: of the base, as `bases.locate` finds them.
            layers: of the base: name -> shape of its weight.

        Raises:
            ModelError: a file is of a format that holds no plain weights.
            FileProblem: a file is damaged.
        """
        paths = list(dict.fromkeys(path for part in parts.values() for path in part.files))
        if pickled := [path for path in paths if path.suffix.lower() != ".safetensors"]:
            raise ModelError("only safetensors files can be worked on", where=pickled[0], fix="fetch it as safetensors")
        self.headers: dict[Path, Header] = {path: tensorfile.read_header(path) for path in paths}
        self.layers = layers
        self.weights: dict[str, Weight] = {}
        known = _known(keys, layers)
        for part, lies in parts.items():
            own = {name: shape for name, shape in layers.items() if part_of(name) == part}
            if own:
                self.weights |= self._found(part, lies, own, known, keys)

    def _found(
        self,
        part: str,
        lies: PartFiles,
        own: Mapping[str, Shape],
        known: Mapping[str, list[tuple[str, Place]]],
        keys: KeyMap,
    ) -> Iterator[tuple[str, Weight]]:
        held = {
            key.removeprefix(lies.prefix): (path, key)
            for path in lies.files
            for key in self.headers[path].entries
            if key.startswith(lies.prefix)
        }
        if lies.layout == "openclip":
            paths = {f"{name.removeprefix(part + '.')}.weight": name for name in own}
            width = next(shape[0] for name, shape in own.items() if name.endswith("final_layer_norm"))
            for path, place in clip.openclip(paths, width).items():
                if place.key in held:
                    yield paths[path], Weight(*held[place.key], place)
            return
        before = ("", f"{keys.parts[part].diffusers}.", f"{keys.parts[part].comfy}.")
        for key, where in held.items():
            stem = key.removesuffix(".weight").removesuffix(".scale")
            owners = next((known[one + stem] for one in before if one + stem in known), ())
            for name, place in owners if stem != key else ():
                if name in own:
                    yield name, Weight(*where, place)

    def bias(self, name: str) -> str:
        """The key of a layer's bias, beside its weight.

        Raises:
            AdapterError: the base has none there.
        """
        weight = self.weights[name]
        key = re.sub(r"weight$|scale$", "bias", weight.key)
        if key not in self.headers[weight.path].entries:
            raise AdapterError(f"an adapter changes the bias of {name}, and this base has none there")
        return key

    def read(self, name: str) -> Matrix:
        """A layer's weight, fp32, in the shape of the base's network."""
        weight = self.weights[name]
        raw = weight.read(self.headers[weight.path])
        values = _axes(tensorfile.as_float32(raw), weight.place)
        taken: Matrix = values[rows_at(weight.place, len(values))].reshape(self.layers[name])
        return taken


def _axes(values: Matrix, place: Place) -> Matrix:
    return values.T if place.transposed else values


def _known(keys: KeyMap, layers: Mapping[str, Shape]) -> dict[str, Owned]:
    """Everything that a layer may be called -> the layers that it means; dots as in checkpoints only."""
    found: dict[str, Owned] = {stem: list(owners) for stem, owners in keys.fused(layers).items() if "." in stem}
    for name in layers:
        if part_of(name) in keys.parts:
            found |= {stem: [(name, Place(stem))] for stem in keys.stems(name) if re.search(r"\.|^[a-z]+$", stem)}
            found[f"{keys.parts[part_of(name)].diffusers}.{name.partition('.')[2]}"] = [(name, Place(""))]
    return found


@dataclass(frozen=True)
class Baked:
    """What a bake did to one file."""

    name: str
    """The new one's."""
    layers: int
    """That were changed in it."""
    lost: float
    """Norm of what rounding to the checkpoint's precision took from the changes, as a share of theirs."""
    precision: str
    """Of the weights that were changed."""


Uses = Mapping[str, Sequence[tuple[Change, float]]]
"""Layer -> the changes of it with their strengths."""


def bake(source: Path, base: Checkpoint, uses: Uses, out: Path, *, metadata: Mapping[str, str]) -> Baked:
    """Write one of a base's files with the changes in its weights; every other byte of its tensors stays.

    Args:
        source: the file.
        metadata: of the new one.

    Raises:
        AdapterError: a layer is not in the base's files, or of a precision that cannot be written.
        FileProblem: the disk refuses.
    """
    header = base.headers[source]
    weights, biases = _touched(source, base, uses)
    kinds = {header.entries[key].dtype for key in (*weights, *biases)}
    if odd := sorted(kinds - set(WRITABLE)):
        raise AdapterError(f"weights of type {odd[0]} cannot be baked into", where=source, fix="use an fp16 base")
    sums = [0.0, 0.0]

    def made(key: str) -> RawTensor:
        raw = tensorfile.read_tensor(source, header, key)
        if key not in weights and key not in biases:
            return raw
        before = tensorfile.as_float32(raw)
        names, changed = (biases[key], _biased) if key in biases else (weights[key], _weighted)
        exact = changed(before, names, base, uses)
        stored = store.stored(np.ascontiguousarray(exact), raw.dtype, name=key)  # type: ignore[arg-type]
        sums[0] += float(np.square(tensorfile.as_float32(stored) - exact, dtype=np.float64).sum())
        sums[1] += float(np.square(exact - before, dtype=np.float64).sum())
        return stored

    planned = {key: Planned(entry.dtype, entry.shape) for key, entry in header.entries.items()}
    store.write(out, planned, metadata, made)
    changed = sum(map(len, weights.values()))
    return Baked(out.name, changed, math.sqrt(sums[0] / sums[1]) if sums[1] else 0.0, ", ".join(sorted(kinds)))


def _touched(source: Path, base: Checkpoint, uses: Uses) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Keys of one file -> the layers of which they hold what is changed: of weights, and of biases."""
    weights: dict[str, list[str]] = {}
    biases: dict[str, list[str]] = {}
    for name, told in uses.items():
        if name not in base.weights:
            raise AdapterError(f"the base has no weight for {name}", where=source)
        if base.weights[name].path == source:
            weights.setdefault(base.weights[name].key, []).append(name)
            if any(change.bias_change is not None for change, _ in told):
                biases.setdefault(base.bias(name), []).append(name)
    return weights, biases


def _weighted(before: Matrix, names: Sequence[str], base: Checkpoint, uses: Uses) -> Matrix:
    """The weights of some layers, as they lie in one tensor, with the changes in them."""
    place = base.weights[names[0]].place
    after = _axes(before.copy(), place)
    for name in names:
        rows = rows_at(base.weights[name].place, len(after))
        start = after[rows].reshape(base.layers[name])
        whole = start
        for change, strength in uses[name]:
            # each changes the base and not another's result, as in `merge`
            whole = (
                whole + (change.applied(start, strength) - start)
                if change.needs_weight
                else change.applied(whole, strength)
            )
        after[rows] = whole.reshape(len(rows), *after.shape[1:])
    return _axes(after, place)


def _biased(before: Matrix, names: Sequence[str], base: Checkpoint, uses: Uses) -> Matrix:
    """The same of their biases."""
    after = before.copy()
    for name in names:
        rows = rows_at(base.weights[name].place, len(after))
        for change, strength in uses[name]:
            if change.bias_change is not None:
                after[rows] += np.float32(strength) * change.bias_change
    return after


@dataclass(frozen=True)
class Extracted:
    """What an extraction found."""

    layers: int
    """That differ."""
    alike: int
    """That do not."""
    error: float
    """Relative Frobenius norm of the differences that the rank could not hold."""
    worst: str
    """The layer that lost the largest share."""
    worst_error: float
    left_out: int
    """Layers whose kind of weight was not asked for: convolutions, norms."""


def extract(
    tuned: Checkpoint,
    base: Checkpoint,
    out: Path,
    *,
    rank: int,
    conv_rank: int = 0,
    stem: Callable[[str], str],
    ends: tuple[str, str],
    precision: Precision,
    metadata: Mapping[str, str],
    seed: int = 0,
) -> Extracted:
    """Write an adapter of the differences between two checkpoints.

    Args:
        rank: of linear layers and pointwise convolutions.
        conv_rank: of other convolutions; 0: they are left out.
        stem: a layer's name -> its name in the file.
        ends: what follows it, of down and of up.

    Raises:
        AdapterError: the checkpoints do not differ, or a difference is no number.
        FileProblem: the disk refuses.
    """
    tensors: dict[str, RawTensor] = {}
    alike = left_out = 0
    energy = lost = 0.0
    worst = ("", 0.0)
    ranks = []
    for name, shape in base.layers.items():
        if name not in base.weights or name not in tuned.weights:
            continue
        wanted = 0 if len(shape) < 2 else rank if math.prod(shape[2:]) == 1 else conv_rank
        difference = tuned.read(name) - base.read(name)
        if not np.isfinite(difference).all():
            raise AdapterError(f"a checkpoint holds values that are not numbers in {name}")
        if not difference.any():
            alike += 1
            continue
        if not wanted:
            left_out += 1
            continue
        found = sketch(difference.reshape(len(difference), -1), wanted, seed=seed, label=name)
        energy, lost = energy + found.energy, lost + found.lost
        worst = max(worst, (name, found.error), key=lambda pair: pair[1])
        keep, kernel = found.up.shape[1], shape[2:]
        ones = (1,) * len(kernel)
        file_stem = stem(name)
        tensors[file_stem + ends[0]] = store.stored(found.down.reshape(keep, *shape[1:]), precision, name=name)
        tensors[file_stem + ends[1]] = store.stored(found.up.reshape(len(found.up), keep, *ones), precision, name=name)
        if "lora_down" in ends[0]:
            tensors[f"{file_stem}.alpha"] = tensorfile.raw(np.array(keep, np.float32))
        ranks.append(keep)
    if not tensors:
        raise AdapterError("these checkpoints do not differ in any layer that an adapter changes")
    planned = {key: Planned(raw.dtype, raw.shape) for key, raw in tensors.items()}
    store.write(out, planned, store.ranks(metadata, ((one, float(one)) for one in ranks)), tensors.__getitem__)
    return Extracted(len(ranks), alike, math.sqrt(lost / energy), *worst, left_out)
