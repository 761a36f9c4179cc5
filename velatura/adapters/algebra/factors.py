"""Which keys of an adapter file make up a layer, in any program's naming, and the layer's change as two matrices.

No base is needed: a key is a layer's name in some spelling and an ending that says what the tensor is. Tensors are read
when they are asked for, one layer at a time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from velatura import tensorfile
from velatura.adapters.algebra.small_svd import Matrix
from velatura.errors import AdapterError
from velatura.tensorfile import Entry, Header

Shape = tuple[int, ...]

LORA_ENDS = (
    (".lora_down.weight", ".lora_up.weight"),  # kohya, musubi-tuner, LyCORIS
    (".lora_A.weight", ".lora_B.weight"),  # PEFT, diffusers, ai-toolkit
    (".lora_A.default.weight", ".lora_B.default.weight"),  # PEFT with the adapter's name
    (".lora.down.weight", ".lora.up.weight"),  # diffusers, old
    (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),  # diffusers, oldest
    (".lora_down", ".lora_up"),
    (".lora_A", ".lora_B"),
    (".down.weight", ".up.weight"),  # XLabs
    (".down", ".up"),
)
"""How the keys of a LoRA's two halves end, by who writes them."""

ROLES: Mapping[str, str] = {
    **{end: role for pair in LORA_ENDS for end, role in zip(pair, ("down", "up"), strict=True)},
    ".lora_mid.weight": "mid", ".alpha": "alpha",
    ".dora_scale": "dora_scale", ".lora_magnitude_vector": "dora_scale", ".lora_magnitude_vector.weight": "dora_scale",
    **{f".{name}": name for name in (
        "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
        "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
        "diff", "diff_b", "w_norm", "b_norm", "oft_blocks", "rescale", "on_input",
    )},
    **{f".{name}.weight": name for name in ("a1", "a2", "b1", "b2")},
}  # fmt: skip
"""How a key ends -> what the tensor is."""

_ENDING = re.compile("|".join(f"(?:{re.escape(end)})" for end in sorted(ROLES, key=len, reverse=True)) + "$")

KINDS: tuple[tuple[str, frozenset[str]], ...] = (
    ("DoRA", frozenset({"dora_scale"})),
    ("LoCon with a core", frozenset({"mid"})),
    ("LoRA", frozenset({"down", "up"})),
    ("LoHa", frozenset({"hada_w1_a"})),
    ("LoKr", frozenset({"lokr_w1"})),
    ("LoKr", frozenset({"lokr_w1_a"})),
    ("GLoRA", frozenset({"a1", "b1"})),
    ("OFT", frozenset({"oft_blocks"})),
    ("full difference", frozenset({"diff"})),
    ("full difference", frozenset({"diff_b"})),
    ("norm", frozenset({"w_norm"})),
    ("norm", frozenset({"b_norm"})),
    ("IA3", frozenset({"on_input"})),
)
"""Kind of a layer, and the tensors by which it is known; looked at in order."""


@dataclass(frozen=True)
class FileLayer:
    """The keys of one layer."""

    stem: str
    """The layer's name as the file spells it."""
    keys: Mapping[str, str]
    """What a tensor is -> its key."""
    ends: tuple[str, str] = LORA_ENDS[0]
    """How the keys of a LoRA's halves end in this file."""

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

    def alpha(self, layer: FileLayer) -> float | None:
        """A layer's alpha; None where the file has none, whose scale is then 1.

        Raises:
            AdapterError: it is not one finite number.
        """
        if "alpha" not in layer.keys:
            return None
        if math.prod(self.entry(layer, "alpha").shape) != 1:
            raise AdapterError(f"this file is damaged: alpha of {layer.stem} is not one number", where=self.path)
        value = float(self.array(layer, "alpha").reshape(()))
        if not math.isfinite(value):
            raise AdapterError(f"this file is damaged: alpha of {layer.stem} is not a number", where=self.path)
        return value


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


def open_file(path: Path) -> FactorFile:
    """An adapter file, grouped by layers; only its header is read.

    Raises:
        FileProblem: this is not a safetensors file, or it is damaged.
        AdapterError: it holds no adapter.
    """
    header = tensorfile.read_header(path)
    grouped: dict[str, dict[str, str]] = {}
    ends: dict[str, dict[str, str]] = {}
    others = []
    for key in header.entries:
        match = _ENDING.search(key)
        if match is None or match.start() == 0:
            others.append(key)
            continue
        stem, role = key[: match.start()], ROLES[match.group()]
        if role in grouped.setdefault(stem, {}):
            raise AdapterError(f"this file changes layer {stem} twice", where=path)
        grouped[stem][role] = key
        ends.setdefault(stem, {})[role] = match.group()
    layers = {
        stem: FileLayer(stem, keys, (ends[stem].get("down", LORA_ENDS[0][0]), ends[stem].get("up", LORA_ENDS[0][1])))
        for stem, keys in grouped.items()
    }
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
    alpha = file.alpha(layer)
    scale = 1.0 if alpha is None else alpha / rank
    found = Factors(up.reshape(len(up), -1), np.ascontiguousarray(down.reshape(rank, -1)), scale, tuple(kernel))
    if not found.finite:
        raise AdapterError(f"this file is damaged: {layer.stem} holds values that are not numbers", where=file.path)
    return found


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
