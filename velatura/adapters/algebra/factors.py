"""Which keys of an adapter file make up a layer, in any program's naming, and the layer's change as two matrices.

No base is needed: a key is a layer's name in some spelling and an ending that says what the tensor is. Tensors are read
when they are asked for, one layer at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from velatura import tensorfile
from velatura.adapters import peft
from velatura.adapters.algebra.small_svd import Matrix
from velatura.adapters.endings import split
from velatura.adapters.weights import Change, Lora
from velatura.errors import AdapterError, FileProblem
from velatura.tensorfile import Entry, Header

Shape = tuple[int, ...]

KINDS: tuple[tuple[str, frozenset[str]], ...] = (
    ("DoRA", frozenset({"magnitude"})),
    ("DoRA", frozenset({"peft_magnitude"})),
    ("LoCon with a core", frozenset({"mid"})),
    ("LoRA", frozenset({"down", "up"})),
    ("LoHa", frozenset({"hada_w1_a"})),
    ("LoKr", frozenset({"lokr_w1"})),
    ("LoKr", frozenset({"lokr_w1_a"})),
    ("GLoRA", frozenset({"a1", "b1"})),
    ("OFT", frozenset({"oft_blocks"})),
    ("OFT", frozenset({"oft_vectors"})),
    ("OFT", frozenset({"boft_blocks"})),
    ("full difference", frozenset({"diff"})),
    ("full difference", frozenset({"diff_b"})),
    ("norm", frozenset({"w_norm"})),
    ("norm", frozenset({"b_norm"})),
    ("IA3", frozenset({"on_input"})),
    ("IA3", frozenset({"ia3_l"})),
)
"""Kind of a layer, and the tensors by which it is known; looked at in order."""


@dataclass(frozen=True)
class FileLayer:
    """The keys of one layer."""

    stem: str
    """The layer's name as the file spells it."""
    keys: Mapping[str, str]
    """What a tensor is, as `endings.ENDINGS` says it -> its key."""

    @property
    def kind(self) -> str:
        """ "LoRA", "LoHa"...; "incomplete" where a part is missing."""
        return next((kind for kind, needed in KINDS if needed <= self.keys.keys()), "incomplete")

    @property
    def low_rank(self) -> bool:
        """Whether the change, or a DoRA's direction, is two factors."""
        return {"down", "up"} <= self.keys.keys()


@dataclass(frozen=True)
class FactorFile:
    """An adapter file, opened: its header, and which keys make up which layer."""

    path: Path
    header: Header
    layers: Mapping[str, FileLayer]
    """By their stems, in the file's order."""
    others: tuple[str, ...]
    """Keys that belong to no layer: embeddings, and what is not known."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself."""
        return self.header.metadata

    def entry(self, layer: FileLayer, role: str) -> Entry:
        """Type and shape of one tensor of a layer."""
        return self.header.entries[layer.keys[role]]

    def rank(self, layer: FileLayer) -> int | None:
        """Rank of a layer that has one, from the header alone."""
        for role in ("down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b", "b2"):
            if role in layer.keys and self.entry(layer, role).shape:
                return self.entry(layer, role).shape[0]
        return None

    def size(self, layer: FileLayer) -> int:
        """Bytes of a layer."""
        entries = (self.header.entries[key] for key in layer.keys.values())
        return sum(entry.end - entry.start for entry in entries)

    def array(self, layer: FileLayer, role: str) -> Matrix:
        """One tensor of a layer, fp32."""
        return tensorfile.as_float32(tensorfile.read_tensor(self.path, self.header, layer.keys[role]))

    def alpha(self, layer: FileLayer, rank: int) -> float:
        """A layer's alpha: its own, what PEFT's settings say, or the rank.

        Raises:
            AdapterError: it is not one finite number.
        """
        role = next((role for role in ("alpha", "scale") if role in layer.keys), None)
        if role is None:
            return peft.alpha(self.metadata, layer.stem, rank, self.path)
        if math.prod(self.entry(layer, role).shape) != 1:
            raise AdapterError(f"this file is damaged: {role} of {layer.stem} is not one number", where=self.path)
        value = float(self.array(layer, role).reshape(()))
        if not math.isfinite(value):
            raise AdapterError(f"this file is damaged: {role} of {layer.stem} is not a number", where=self.path)
        return value if role == "alpha" else value * rank

    def change(self, layer: FileLayer) -> Change:
        """A layer's change, of whatever kind.

        Raises:
            AdapterError: its tensors do not belong together, or hold values that are not numbers.
        """
        from velatura.adapters.assemble import assembled, settings

        raw = {role: tensorfile.read_tensor(self.path, self.header, key) for role, key in layer.keys.items()}
        return assembled(raw, told=settings(self.metadata, layer.stem, self.path), name=layer.stem, where=self.path)


@dataclass(frozen=True, eq=False)
class Factors:
    """A layer's change: scale * up @ down."""

    up: Matrix
    """(out, rank)."""
    down: Matrix
    """(rank, in * kernel height * kernel width)."""
    scale: float
    kernel: Shape = ()
    """(kernel height, kernel width) of a convolution."""

    @property
    def rank(self) -> int:
        """How many channels the change passes through."""
        return int(self.up.shape[1])

    @property
    def finite(self) -> bool:
        """Whether every value is a number."""
        return bool(np.isfinite(self.up).all() and np.isfinite(self.down).all())

    def delta(self) -> Matrix:
        """The change in full, (out, in * kernel)."""
        product: Matrix = np.float32(self.scale) * (self.up @ self.down)
        return product


def open_file(path: Path, *, folders: bool = False) -> FactorFile:
    """An adapter file, grouped by layers; only its header is read.

    Args:
        folders: a folder of PEFT's will do as well: its one file with the settings beside it.

    Raises:
        FileProblem: this is not a safetensors file, or it is damaged.
        AdapterError: it holds no adapter.
    """
    told: dict[str, str] = {}
    if peft.is_folder(path):
        if not folders or len(peft.files(path)) > 1:
            raise AdapterError(
                "this is a PEFT folder, and one file is needed",
                where=path,
                fix=f"make one: velatura lora convert {path.name} --to kohya -o {path.name}.safetensors",
            )
        _, told = peft.read_folder(path, denoiser=peft.BEFORE.partition(".")[0])
        (path,) = peft.files(path)
    header = tensorfile.read_header(path)
    header = Header({**header.metadata, **told}, header.entries, header.data_start)
    if odd := sorted({entry.dtype for entry in header.entries.values()} - tensorfile.ITEM_BYTES.keys()):
        raise FileProblem(
            f"tensors of type {odd[0]} cannot be read", where=path, fix="convert the file to fp16 or fp32"
        )
    grouped: dict[str, dict[str, str]] = {}
    others = []
    for key in header.entries:
        stem, role = split(key)
        if role is None:
            others.append(key)
        elif role in grouped.setdefault(stem, {}):
            raise AdapterError(f"this file changes layer {stem} twice", where=path)
        else:
            grouped[stem][role] = key
    # a bare weight is an IA3's factor where the rest of one stands beside it, and else not an adapter's
    others += [
        grouped.pop(stem)["weight"] for stem in [stem for stem, keys in grouped.items() if set(keys) == {"weight"}]
    ]
    layers = {stem: FileLayer(stem, keys) for stem, keys in grouped.items()}
    if not any(layer.kind != "incomplete" for layer in layers.values()):
        raise AdapterError("this file holds no adapter", where=path, fix="give a LoRA file")
    return FactorFile(path, header, layers, tuple(others))


def factors(file: FactorFile, layer: FileLayer) -> Factors:
    """The change of a LoRA's layer as two matrices; a Tucker core is multiplied into down.

    Raises:
        AdapterError: the layer's tensors do not belong together, or hold values that are not numbers.
    """
    _check_shapes(file, layer)
    down, up = file.array(layer, "down"), file.array(layer, "up")
    rank, kernel = down.shape[0], down.shape[2:]
    if "mid" in layer.keys:
        core = file.array(layer, "mid")
        kernel = core.shape[2:]
        # (rank, rank, kernel) and (rank, in): first over the inner rank
        down = np.einsum("ijkl,jp->ipkl", core, down.reshape(rank, -1))
    scale = file.alpha(layer, rank) / rank
    found = Factors(up.reshape(len(up), -1), np.ascontiguousarray(down.reshape(rank, -1)), scale, tuple(kernel))
    if not found.finite:
        raise AdapterError(f"this file is damaged: {layer.stem} holds values that are not numbers", where=file.path)
    return found


def any_factors(file: FactorFile, layer: FileLayer) -> Factors:
    """The change of a layer of any kind that does not depend on the base's weight, as two matrices.

    Raises:
        AdapterError: as `factors`; or it does depend on it.
    """
    return factors(file, layer) if layer.kind == "LoRA" else of_change(file.change(layer), layer.stem, file.path)


def of_change(change: Change, name: str, where: object = None) -> Factors:
    """A change as two matrices: a LoRA's own, a LoHa's of the rank's square, and of others the whole difference.

    Raises:
        AdapterError: what it does depends on the base's weight, is no change of a matrix, or too large for fp32.
    """
    found = _of_change(change, name, where)
    if not found.finite:
        raise AdapterError(f"this file is damaged: what {name} comes to are not numbers", where=where)
    return found


def _of_change(change: Change, name: str, where: object) -> Factors:
    from velatura.adapters.kinds import Full, Loha

    if isinstance(change, Lora):
        plain = change.without_core()
        rank = plain.rank
        return Factors(plain.up.reshape(-1, rank), plain.down.reshape(rank, -1), plain.scale, plain.shape[2:])
    if isinstance(change, Loha) and change.cores is None and change.rank**2 < min(change.shape[0], *change.shape[1:2]):
        # (A B) * (C D) by elements is the product of A's and C's columns, each with each, with B's and D's rows
        (up, down), (other_up, other_down) = change.first, change.second
        columns = (up[:, :, None] * other_up[:, None, :]).reshape(len(up), -1)
        rows = (down[:, None, :] * other_down[None, :, :]).reshape(-1, down.shape[1])
        return Factors(columns, rows, change.alpha / change.rank, change.kernel)
    if isinstance(change, Full) and change.weight is None:
        raise AdapterError(f"{name} changes a bias alone, which no two matrices can", where=where)
    whole = change.delta()
    if whole.ndim < 2:
        raise AdapterError(f"{name} changes a norm, which no two matrices can", where=where)
    flat = np.ascontiguousarray(whole.reshape(len(whole), -1))
    if len(flat) < flat.shape[1]:
        return Factors(np.eye(len(flat), dtype=np.float32), flat, 1.0, whole.shape[2:])
    return Factors(flat, np.eye(flat.shape[1], dtype=np.float32), 1.0, whole.shape[2:])


def _check_shapes(file: FactorFile, layer: FileLayer) -> None:
    down, up = file.entry(layer, "down").shape, file.entry(layer, "up").shape
    rank = down[0] if down else 0
    core = file.entry(layer, "mid").shape if "mid" in layer.keys else None
    plain = len(down) in (2, 4) and rank > 0 and up[1:] in ((rank,), (rank, 1, 1)) and 0 not in (*down, *up)
    tucker = core is None or (core[:2] == (rank, rank) and len(core) == 4 and math.prod(down[2:]) == 1)
    if not (plain and tucker):
        raise AdapterError(
            f"this file is damaged: the halves of {layer.stem}, {list(down)} and {list(up)}, do not belong together",
            where=file.path,
            fix="fetch or train it again",
        )
