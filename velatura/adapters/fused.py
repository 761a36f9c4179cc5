"""Layers that other layouts keep as one: a change of the one taken apart, and changes of several put together.

A fused layer's rows are those of its members, one below the other. Taking apart is exact for every kind that can be
taken apart at all. Putting together is exact as well: the factors of LoRAs and LoHas become block-diagonal, of the
ranks' sum, unless the members share what reduces the input, as those that were taken apart do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from velatura.adapters.kinds import Dora, Full, Loha
from velatura.adapters.weights import Array, Change, Lora, Shape
from velatura.errors import AdapterError
from velatura.weights.layouts import Place


@dataclass(frozen=True)
class Member:
    """One layer of a fused one."""

    name: str
    shape: Shape
    place: Place
    change: Change | None
    """None where the adapter leaves it alone."""


def rows_at(place: Place, total: int) -> NDArray[np.intp]:
    """Which rows of a tensor of so many belong to a layer, in the layer's order."""
    first, last = place.rows or (0, total)
    rows = np.arange(first, last)
    if place.halves_swapped:
        half = len(rows) // 2
        rows = np.concatenate([rows[half:], rows[:half]])
    return rows


def taken(change: Change, place: Place, total: int) -> Change:
    """The change of one of the layers in a fused one.

    Raises:
        AdapterError: this kind cannot be divided there.
    """
    if place.rows is None and not place.halves_swapped:
        return change
    part = change.rows(rows_at(place, total))
    return trimmed(part) if isinstance(part, Lora) else part


def trimmed(change: Lora) -> Lora:
    """The same change without the channels that reach nothing, as most of a block-diagonal one's do."""
    used = np.flatnonzero(change.up.reshape(len(change.up), change.rank, -1).any(axis=(0, 2)))
    if change.mid is not None or not 0 < len(used) < change.rank:
        return change
    return Lora(change.down[used], change.up[:, used], change.scale * len(used), None, change.bias)


def joined(members: Sequence[Member], *, stem: str) -> Change:
    """One change of a fused layer.

    Args:
        stem: the fused layer's name, for errors.

    Raises:
        AdapterError: the members' kinds cannot be put together exactly.
    """
    if len(members) == 1 and members[0].place.rows is None:
        (one,) = members
        assert one.change is not None
        return one.change.rows(rows_at(one.place, one.shape[0])) if one.place.halves_swapped else one.change
    held = [member.change for member in members if member.change is not None]
    ordered = sorted(members, key=lambda member: member.place.rows or (0, 0))
    kinds = {type(change) for change in held}
    if kinds == {Lora}:
        return _loras(ordered)
    if kinds == {Loha} and all(change.cores is None for change in held if isinstance(change, Loha)):
        return _lohas(ordered)
    if kinds == {Dora} and len(held) == len(members) and all(one.by_output for one in held if isinstance(one, Dora)):
        directions = [dataclasses.replace(one, change=_direction(one.change)) for one in ordered]
        magnitudes = [_magnitude(one.change) for one in ordered]
        return Dora(joined(directions, stem=stem), np.concatenate(magnitudes))
    if not any(change.needs_weight for change in held):
        return _differences(ordered)
    names = ", ".join(sorted({change.kind for change in held}))
    raise AdapterError(
        f"{names} of {members[0].name} and the layers beside it cannot become one of {stem} exactly",
        fix="convert to diffusers' form, which keeps them apart",
    )


def _loras(members: Sequence[Member]) -> Lora:
    loras = [(one, one.change.without_core() if isinstance(one.change, Lora) else None) for one in members]
    held = [lora for _, lora in loras if lora is not None]
    bias = _column([None if lora is None else lora.bias_change for _, lora in loras], members)
    if len(held) == len(members) and all(_same(lora, held[0]) for lora in held):
        scale = held[0].scale
        up = np.concatenate([lora.up for lora in held])
        return Lora(held[0].down, up, held[0].alpha, None, None if bias is None else bias / np.float32(scale))
    rank = sum(lora.rank for lora in held)
    equal = len({lora.scale for lora in held}) == 1 and held[0].scale != 0
    up = np.zeros((sum(one.shape[0] for one in members), rank, *held[0].up.shape[2:]), np.float32)
    row = column = 0
    for one, lora in loras:
        if lora is not None:
            factor = np.float32(1 if equal else lora.scale)
            up[row : row + one.shape[0], column : column + lora.rank] = factor * lora.up
            column += lora.rank
        row += one.shape[0]
    scale = held[0].scale if equal else 1.0
    down = np.concatenate([lora.down for lora in held])
    return Lora(down, up, scale * rank, None, None if bias is None else bias / np.float32(scale))


def _same(one: Lora, other: Lora) -> bool:
    return one.alpha == other.alpha and np.array_equal(one.down, other.down)


def _lohas(members: Sequence[Member]) -> Loha:
    held = [one.change for one in members if isinstance(one.change, Loha)]
    rank, rows = sum(loha.rank for loha in held), sum(one.shape[0] for one in members)
    pairs = []
    for half in ("first", "second"):
        up, row, column = np.zeros((rows, rank), np.float32), 0, 0
        for one in members:
            if isinstance(one.change, Loha):
                scale = one.change.alpha / one.change.rank if half == "first" else 1
                factor: Array = getattr(one.change, half)[0]
                up[row : row + one.shape[0], column : column + factor.shape[1]] = np.float32(scale) * factor
                column += factor.shape[1]
            row += one.shape[0]
        pairs.append((up, np.concatenate([getattr(loha, half)[1] for loha in held])))
    return Loha(pairs[0], pairs[1], float(rank), held[0].kernel)


def _differences(members: Sequence[Member]) -> Full:
    deltas = [
        np.zeros(one.shape, np.float32)
        if one.change is None
        else np.broadcast_to(one.change.delta(), one.shape).reshape(one.shape)
        for one in members
    ]
    bias = _column([None if one.change is None else one.change.bias_change for one in members], members)
    return Full(np.concatenate(deltas), bias)


def _column(biases: Sequence[Array | None], members: Sequence[Member]) -> Array | None:
    if all(bias is None for bias in biases):
        return None
    filled = zip(biases, members, strict=True)
    return np.concatenate([np.zeros(one.shape[0], np.float32) if bias is None else bias for bias, one in filled])


def _direction(change: Change | None) -> Change:
    assert isinstance(change, Dora)
    return change.direction


def _magnitude(change: Change | None) -> Array:
    assert isinstance(change, Dora)
    return change.magnitude
