"""Changes that turn a weight rather than add to it: OFT and BOFT, of outputs (LyCORIS) or of inputs (PEFT, OneTrainer).

A block is turned by an orthogonal matrix R that is made of a skew-symmetric Q. At strength s it is turned by
I + s (R - I), so 0 is the weight itself.

Sources: Qiu et al. 2023, arXiv:2306.07280 (OFT); Liu et al. 2023, arXiv:2311.06243 (BOFT); for the files LyCORIS (Yeh
et al. 2023, arXiv:2309.14859), and the public sources of PEFT 0.21 and OneTrainer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from velatura.adapters.weights import Array, Change, Shape, scalar
from velatura.errors import AdapterError

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Oft(Change):
    """Blocks of outputs, each turned by an orthogonal matrix, (I + Q) (I - Q)^-1 with Q = blocks - its transpose.

    With a butterfly (BOFT) there are several such turns one after the other, of outputs ever farther apart.
    """

    kind: ClassVar[str] = "OFT"
    needs_weight: ClassVar[bool] = True

    blocks: Array
    """(count, b, b), or (turns, count, b, b) with a butterfly."""
    constraint: float = 0.0
    """Times the outputs, the largest norm of Q; 0: none. Files call it alpha."""
    rescale: Array | None = None
    """What each output is multiplied by afterwards, (O,)."""

    @property
    def butterfly(self) -> bool:
        """Whether it is a BOFT."""
        return self.blocks.ndim == 4

    @property
    def proportional(self) -> bool:
        """As in `Change`; turns one after the other multiply theirs."""
        return not self.butterfly and self.rescale is None

    @property
    def tensors(self) -> Mapping[str, Array]:
        """As in `Change`."""
        held = {"oft_blocks": self.blocks, "alpha": scalar(self.constraint)}
        return held if self.rescale is None else {**held, "rescale": self.rescale.reshape(-1, 1)}

    def fits(self, weight: Shape) -> bool:
        """As in `Change`."""
        count, high, wide = self.blocks.shape[-3:]
        turns = not self.butterfly or (wide % 2 == 0 and weight[0] % (2 ** (len(self.blocks) - 1) * wide) == 0)
        rescales = self.rescale is None or self.rescale.size == weight[0]
        return len(weight) > 1 and high == wide and count * high == weight[0] and turns and rescales

    def rows(self, chosen: Rows) -> Oft:
        """As in `Change`; rows that are turned together stay together."""
        side = self.blocks.shape[-1]
        heads = chosen.reshape(-1, side) if len(chosen) % side == 0 else None
        bound = self.butterfly or self.constraint > 0 or heads is None
        if bound or (heads is not None and (heads != (heads[:, :1] // side * side) + np.arange(side)).any()):
            raise AdapterError("an OFT whose blocks reach across layers cannot be divided between them")
        assert heads is not None
        rescale = None if self.rescale is None else self.rescale.reshape(-1)[chosen]
        return Oft(self.blocks[heads[:, 0] // side], 0.0, rescale)

    def applied(self, weight: Array, strength: float = 1.0) -> Array:
        """As in `Change`."""
        flat: Array = weight.reshape(len(weight), -1)
        turns = _weakened(self._turns(len(weight)), strength)
        if self.butterfly:
            for level, blocks in enumerate(turns):
                flat = _butterfly(flat, blocks, level)
        else:
            split = flat.reshape(len(turns), turns.shape[-1], -1)
            flat = (turns.transpose(0, 2, 1) @ split).reshape(flat.shape)
        if self.rescale is not None:
            flat = flat * (1 + np.float32(strength) * (self.rescale.reshape(-1, 1) - 1))
        return np.asarray(flat.reshape(weight.shape), np.float32)

    def _turns(self, outputs: int) -> Array:
        skew = self.blocks - np.swapaxes(self.blocks, -1, -2)
        length, limit = float(np.linalg.norm(skew)) + 1e-8, self.constraint * outputs
        if 0 < limit < length:
            skew = skew * np.float32(limit / length)
        identity = np.eye(skew.shape[-1], dtype=np.float32)
        # (I + Q) and (I - Q)^-1 are functions of one matrix, so their order does not matter
        return np.asarray(np.linalg.solve(identity - skew, identity + skew), np.float32)


def _butterfly(flat: Array, blocks: Array, level: int) -> Array:
    """One turn of a butterfly: outputs that are 2^level half blocks apart come together, are turned, and go back."""
    side, apart = blocks.shape[-1], 2**level * (blocks.shape[-1] // 2)
    columns = flat.shape[1]
    together = flat.reshape(-1, 2, apart, columns).transpose(0, 2, 1, 3).reshape(-1, side, columns)
    turned = (blocks @ together).reshape(-1, apart, 2, columns)
    return np.ascontiguousarray(turned.transpose(0, 2, 1, 3)).reshape(-1, columns)


@dataclass(frozen=True, eq=False)
class InputOft(Change):
    """Blocks of inputs, a convolution's kernel among them, each turned: weight @ R^T, as PEFT and OneTrainer have it.

    With a butterfly (PEFT's BOFT) there are several such turns one after the other, of inputs ever farther apart.
    """

    kind: ClassVar[str] = "OFT"
    needs_weight: ClassVar[bool] = True

    skew: Array
    """Q of each turn, (turns, count, b, b); a count of one is of all blocks."""
    terms: int | None = None
    """R is I + 2Q + 2Q^2 + ... + Q^(terms - 1), and three terms are PEFT's word for four; None: (I - Q) (I + Q)^-1."""
    rescale: Array | None = None
    """What each output is multiplied by afterwards, (O,)."""
    of_onetrainer: bool = False
    """Whether it is OneTrainer's, which turns convolutions by R where PEFT turns by R^T."""

    @property
    def proportional(self) -> bool:
        """As in `Change`."""
        return len(self.skew) == 1 and self.rescale is None

    @property
    def tensors(self) -> Mapping[str, Array]:
        """As in `Change`; OneTrainer's alone stand in one file, PEFT's need the settings of their folder."""
        vectors = self.skew[(..., *np.triu_indices(self.skew.shape[-1], 1))]
        if self.of_onetrainer:
            return {"oft_R.weight": vectors[0]}
        held = {"boft_R": self.skew} if len(self.skew) > 1 or self.rescale is not None else {"oft_R.weight": vectors[0]}
        return held if self.rescale is None else {**held, "boft_s": self.rescale.reshape(-1, 1)}

    def fits(self, weight: Shape) -> bool:
        """As in `Change`."""
        turns, count, high, wide = self.skew.shape
        columns, furthest = math.prod(weight[1:]), 2 ** (turns - 1) * wide
        blocks = columns % wide == 0 and count in (1, columns // wide)
        butterfly = turns == 1 or (wide % 2 == 0 and columns % furthest == 0)
        rescales = self.rescale is None or self.rescale.size == weight[0]
        return len(weight) > 1 and high == wide and blocks and butterfly and rescales

    def rows(self, chosen: Rows) -> InputOft:
        """As in `Change`; inputs are turned alike for every output."""
        rescale = None if self.rescale is None else self.rescale.reshape(-1)[chosen]
        return dataclasses.replace(self, rescale=rescale)

    def applied(self, weight: Array, strength: float = 1.0) -> Array:
        """As in `Change`."""
        turns = _weakened(self._turns(), strength)
        if self.of_onetrainer and weight.ndim > 2:
            turns = np.swapaxes(turns, -1, -2)
        columns: Array = weight.reshape(len(weight), -1).T
        for level, blocks in enumerate(turns):
            columns = _apart(blocks @ _together(columns, blocks.shape[-1], level), level)
        flat = columns.T
        if self.rescale is not None:
            flat = flat * (1 + np.float32(strength) * (self.rescale.reshape(-1, 1) - 1))
        return np.ascontiguousarray(flat.reshape(weight.shape), np.float32)

    def _turns(self) -> Array:
        identity = np.eye(self.skew.shape[-1], dtype=np.float32)
        if self.terms is None:
            # (I - Q) and (I + Q)^-1 are functions of one matrix, so their order does not matter
            return np.asarray(np.linalg.solve(identity + self.skew, identity - self.skew), np.float32)
        turns, power = np.broadcast_to(identity, self.skew.shape).copy(), self.skew
        terms = max(self.terms, 4) if self.terms > 2 else self.terms
        for exponent in range(1, terms):
            turns += power if exponent == terms - 1 > 1 else 2 * power
            power = power @ self.skew
        return turns


def skew_of(vectors: Array, *, scaled: bool = False, limit: float | None = None) -> Array:
    """The matrices Q of an OFT of inputs, (1, count, b, b), from what stands above their diagonals.

    Args:
        vectors: (count, b (b - 1) / 2), row by row.
        scaled: they are divided by 2 sqrt(b - 1) (OneTrainer's marker `scaled_oft`).
        limit: times the root of 1 / count the largest norm of a Q, longer ones are shortened (PEFT's `coft`).

    Raises:
        ValueError: no block has so many numbers above its diagonal.
    """
    if vectors.ndim != 2 or not vectors.size:
        raise ValueError("a row for each block")
    count, numbers = vectors.shape
    side = (1 + math.isqrt(1 + 8 * numbers)) // 2
    if side * (side - 1) // 2 != numbers:
        raise ValueError("no triangle")
    above = np.zeros((count, side, side), np.float32)
    above[(slice(None), *np.triu_indices(side, 1))] = vectors / np.float32(2 * math.sqrt(side - 1) if scaled else 1)
    skew = above - np.swapaxes(above, 1, 2)
    if limit is not None:
        norms = np.sqrt(np.sum(np.square(skew), axis=(1, 2), keepdims=True, dtype=np.float32))
        most = np.float32(limit / math.sqrt(count))
        skew = np.where(norms <= most, skew, skew * (most / np.maximum(norms, np.finfo(np.float32).tiny)))
    return skew[None]


def _weakened(turns: Array, strength: float) -> Array:
    """Turns at a strength: at 0 none at all."""
    identity = np.eye(turns.shape[-1], dtype=np.float32)
    return np.asarray(np.float32(strength) * (turns - identity) + identity, np.float32)


def _together(columns: Array, side: int, level: int) -> Array:
    """(inputs, O) as blocks (count, side, O), of half blocks that are 2^level half blocks apart (PEFT's butterfly)."""
    if level == 0:
        return columns.reshape(-1, side, columns.shape[1])
    halves = columns.reshape(-1, 2, 2**level, side // 2, columns.shape[1]).swapaxes(1, 2)
    return halves.reshape(-1, side, columns.shape[1])


def _apart(blocks: Array, level: int) -> Array:
    """The other way."""
    side, outputs = blocks.shape[1:]
    if level == 0:
        return blocks.reshape(-1, outputs)
    return blocks.reshape(-1, 2**level, 2, side // 2, outputs).swapaxes(1, 2).reshape(-1, outputs)
