"""From the tensors that a file holds of one layer to the change that they are.

What follows a layer's name in a key is in `endings`, what a kind's tensors mean in `weights`, `kinds` and `turned`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from velatura import tensorfile
from velatura.adapters import peft
from velatura.adapters.endings import ENDINGS
from velatura.adapters.kinds import Dora, Full, Glora, Ia3, Loha, Lokr, Norm
from velatura.adapters.peft import Turning
from velatura.adapters.turned import InputOft, Oft, skew_of
from velatura.adapters.weights import Array, Change, Lora, Shape
from velatura.errors import AdapterError
from velatura.tensorfile import RawTensor

Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class Told:
    """What decides a change beside its tensors."""

    alpha: Callable[[int], float]
    """From the rank to alpha."""
    turning: Callable[[], Turning | None]
    """How an OFT of inputs turns; None: as OneTrainer's."""


def settings(metadata: Mapping[str, str], stem: str, where: object) -> Told:
    """What PEFT's settings say of a layer, as diffusers calls it, where a file has any."""
    return Told(lambda rank: peft.alpha(metadata, stem, rank, where), lambda: peft.turning(metadata, stem, where))


def assembled(raw: Mapping[str, RawTensor], *, told: Told, name: str, where: object = None) -> Change:
    """One layer's change.

    Args:
        raw: what the file holds of it, by the names in `endings.ENDINGS`' values.
        told: what counts where the file has no key for it.
        name: of the layer, for errors.

    Raises:
        AdapterError: something of the kind is missing, does not fit together, or is no number.
    """
    held = {kind: tensorfile.as_float32(tensor) for kind, tensor in raw.items()}
    known = next((kind for kind in _KINDS if kind[0] & held.keys()), None)
    if known is None:
        raise AdapterError(
            f"this file is incomplete: of layer {name} it holds only {', '.join(sorted(held))}", where=where
        )
    _, needed, optional, make = known
    if missing := needed - held.keys():
        raise AdapterError(
            f"this file is incomplete: layer {name} lacks one of its halves, {sorted(missing)[0]}", where=where
        )
    allowed = needed | optional | ALWAYS
    if odd := held.keys() - allowed:
        raise AdapterError(f"this file holds two kinds of change of layer {name}: {sorted(odd)[0]} too", where=where)
    try:
        change = make(held, Told(lambda rank: _alpha(held, rank, told.alpha, name, where), told.turning))
    except (ValueError, IndexError, KeyError, ZeroDivisionError) as error:
        raise AdapterError(
            f"this file is damaged: the tensors of layer {name} do not fit together", where=where
        ) from error
    if magnitude := held.keys() & MAGNITUDES:
        stored = held[magnitude.pop()]
        # PEFT's are of outputs always, and of a convolution (1, O, 1, 1): what with LyCORIS would be of inputs
        change = Dora(change, stored.reshape(-1) if "peft_magnitude" in held else stored)
    if not change.finite:
        raise AdapterError(f"this file is damaged: layer {name} holds values that are not numbers", where=where)
    return change


def _alpha(held: Tensors, rank: int, otherwise: Callable[[int], float], name: str, where: object) -> float:
    for kind, factor in (("alpha", 1), ("scale", rank)):
        if kind in held:
            if held[kind].size != 1:
                raise AdapterError(f"this file is damaged: {kind} of {name} is not one number", where=where)
            return float(held[kind].reshape(())) * factor
    return otherwise(rank)


def _lora(held: Tensors, told: Told) -> Change:
    down, up, mid = held["down"], held["up"], held.get("mid")
    rank = len(_two(down))
    if not rank or up.shape[1:2] != (rank,) or up.size != len(up) * rank or (mid is not None and mid.ndim < 3):
        raise ValueError("factors of different rank")
    if mid is not None and (mid.shape[:2] != (rank, rank) or down.size != rank * down.shape[1]):
        raise ValueError("a core of another rank")
    bias = held.get("bias")
    return Lora(down if mid is None else _two(down), up if down.ndim > 2 else _two(up), told.alpha(rank), mid, bias)


def _loha(held: Tensors, told: Told) -> Change:
    pairs = [(_two(held[f"hada_w{number}_a"]), _two(held[f"hada_w{number}_b"])) for number in (1, 2)]
    cores = None
    rank = len(pairs[0][1])
    if "hada_t1" in held or "hada_t2" in held:
        cores = held["hada_t1"], held["hada_t2"]
        if cores[0].shape[2:] != cores[1].shape[2:] or any(core.shape[:2] != (rank, rank) for core in cores):
            raise ValueError("cores of different rank")
    inner = 0 if cores is not None else 1
    if not rank or any(pair[0].shape[inner] != rank or len(pair[1]) != rank for pair in pairs):
        raise ValueError("factors of different rank")
    if any(pairs[0][half].shape != pairs[1][half].shape for half in (0, 1)):
        raise ValueError("factors of different shape")
    return Loha(pairs[0], pairs[1], told.alpha(rank), (), cores)


def _lokr(held: Tensors, told: Told) -> Change:
    factors: list[Array | tuple[Array, Array]] = []
    core = held.get("lokr_t2")
    for number in (1, 2):
        name = f"lokr_w{number}"
        if name in held:
            factors.append(held[name])
        else:
            a, b = _two(held[f"{name}_a"]), _two(held[f"{name}_b"])
            if a.shape[0 if core is not None and number == 2 else 1] != len(b) or not len(b):
                raise ValueError("factors of different rank")
            factors.append((a, b))
    if core is not None and (core.ndim < 3 or not isinstance(factors[1], tuple) or len(factors[1][1]) != len(core)):
        raise ValueError("a core without its factors")
    first, second = factors
    if not isinstance(first, tuple):
        first = _two(first)
    change = Lokr(first, second, 1.0, (), core)
    if change.rank is None and "alpha" in held:
        return change
    return Lokr(first, second, told.alpha(change.rank or 0), (), core)


def _glora(held: Tensors, told: Told) -> Change:
    a1, a2, b1, b2 = (_two(held[name]) for name in ("a1", "a2", "b1", "b2"))
    kernel = held["b2"].shape[2:]
    rank = len(a2)
    if not rank or a1.shape[1] != rank or b1.shape[1] != rank or len(b2) != rank:
        raise ValueError("factors of different rank")
    return Glora(a1, a2, b1, b2, told.alpha(rank), tuple(int(length) for length in kernel))


def _oft(held: Tensors, told: Told) -> Change:
    blocks = held["oft_blocks"]
    if blocks.ndim not in (3, 4) or blocks.shape[-1] != blocks.shape[-2] or not blocks.size:
        raise ValueError("blocks are square")
    rescale = held.get("rescale")
    return Oft(blocks, told.alpha(0) if "alpha" in held else 0.0, None if rescale is None else rescale.reshape(-1))


def _input_oft(held: Tensors, told: Told) -> Change:
    turning = told.turning()
    scaled = "oft_scaled" in held and bool(held["oft_scaled"].all())
    if turning is None:
        return InputOft(skew_of(held["oft_vectors"], scaled=scaled), 5, None, True)
    return InputOft(skew_of(held["oft_vectors"], limit=turning.limit), turning.terms)


def _input_boft(held: Tensors, _: Told) -> Change:
    blocks = held["boft_blocks"]
    if blocks.ndim != 4 or blocks.shape[2] != blocks.shape[3] or not blocks.size:
        raise ValueError("blocks are square")
    skew = np.float32(0.5) * (blocks - np.swapaxes(blocks, -1, -2))
    return InputOft(skew, None, held["boft_scale"].reshape(-1))


def _ia3(held: Tensors, _: Told) -> Change:
    return Ia3(held["weight"].reshape(-1), bool(held["on_input"].reshape(())))


def _peft_ia3(held: Tensors, _: Told) -> Change:
    factor = held["ia3_l"]  # (O, 1) or (1, I) of a linear layer, (1, O, 1, 1) of a convolution
    return Ia3(factor.reshape(-1) - 1, factor.ndim == 2 and factor.shape[0] == 1)


def _full(held: Tensors, _: Told) -> Change:
    return Full(held.get("diff"), held.get("diff_b"))


def _norm(held: Tensors, _: Told) -> Change:
    return Norm(held.get("w_norm"), held.get("b_norm"))


MAGNITUDES = {"magnitude", "peft_magnitude"}


def _two(stored: Array) -> Array:
    """A factor as a matrix; of a convolution the kernel goes with the columns."""
    if stored.ndim < 2:
        raise ValueError("no matrix")
    return stored.reshape(len(stored), math.prod(stored.shape[1:]))


ALWAYS = {"alpha", "scale", *MAGNITUDES}
"""What may stand beside any kind."""

_HADA = {f"hada_w{number}_{half}" for number in (1, 2) for half in "ab"}
_LOKR = {name for name in ENDINGS.values() if name.startswith("lokr_")}

Kind = tuple[set[str], set[str], set[str], Callable[[Tensors, Told], Change]]

_KINDS: tuple[Kind, ...] = (
    ({"down", "up", "mid"}, {"down", "up"}, {"mid", "bias"}, _lora),
    (_HADA, _HADA, {"hada_t1", "hada_t2"}, _loha),
    (_LOKR, set(), _LOKR, _lokr),
    ({"a1", "a2", "b1", "b2"}, {"a1", "a2", "b1", "b2"}, set(), _glora),
    ({"oft_blocks"}, {"oft_blocks"}, {"rescale"}, _oft),
    ({"oft_vectors"}, {"oft_vectors"}, {"oft_scaled"}, _input_oft),
    ({"boft_blocks", "boft_scale"}, {"boft_blocks", "boft_scale"}, set(), _input_boft),
    ({"on_input"}, {"on_input", "weight"}, set(), _ia3),
    ({"ia3_l"}, {"ia3_l"}, set(), _peft_ia3),
    ({"diff", "diff_b"}, set(), {"diff", "diff_b"}, _full),
    ({"w_norm", "b_norm"}, set(), {"w_norm", "b_norm"}, _norm),
)
"""What tells a kind, what it needs, what it may have, and how it is made."""


def shaped(change: Change, weight: Shape) -> Change:
    """The same change with the axes of the weight that it changes; files may leave a kernel out, or write it flat.

    Raises:
        ValueError: it does not fit the weight.
    """
    kernel = tuple(int(length) for length in weight[2:])
    if isinstance(change, Dora):
        made: Change = Dora(shaped(change.direction, weight), _spread(change.magnitude, weight))
    elif isinstance(change, Lora) and change.mid is None:
        if not change.fits(weight):
            raise ValueError("another size")
        down = change.down.reshape(change.rank, *weight[1:])
        up = change.up.reshape(weight[0], change.rank, *[1] * len(kernel))
        made = Lora(down, up, change.alpha, None, change.bias)
    elif isinstance(change, Loha) and change.cores is None:
        made = Loha(change.first, change.second, change.alpha, kernel)
    elif isinstance(change, Lokr) and change.core is None:
        second = change.second
        if not isinstance(second, tuple) and second.ndim < len(weight):
            second = second.reshape(*second.shape, *[1] * (len(weight) - second.ndim))
        made = Lokr(change.first, second, change.alpha, kernel)
    elif isinstance(change, Glora):
        made = Glora(change.a1, change.a2, change.b1, change.b2, change.alpha, kernel)
    else:
        made = change
    if not made.fits(weight):
        raise ValueError("another size")
    return made


def _spread(magnitude: Array, weight: Shape) -> Array:
    """A magnitude with an axis for each of the weight's, from (O,), (O, 1...) or (1, I, 1...)."""
    by_input = magnitude.ndim > 1 and magnitude.shape[0] != magnitude.size
    if magnitude.size != weight[1 if by_input else 0]:
        raise ValueError("another size")
    return magnitude.reshape(*((1, -1) if by_input else (-1, 1)), *[1] * (len(weight) - 2))
