"""Adapters as files: under the names of one program or another, in a precision, in memory or layer by layer.

What a file will hold is planned first, which takes every change once; its tensors are then made one layer at a time,
so that a file may be larger than the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from velatura import tensorfile
from velatura.adapters import peft
from velatura.adapters.algebra import store
from velatura.adapters.algebra.store import Planned, Precision
from velatura.adapters.formats import BUNDLED, PEFT_ENDS, Form, KeyMap
from velatura.adapters.fused import Member, joined
from velatura.adapters.kinds import Dora
from velatura.adapters.metadata import hashes
from velatura.adapters.turned import InputOft
from velatura.adapters.weights import AdapterFile, Array, Change, Lora, Shape
from velatura.errors import AdapterError
from velatura.tensorfile import RawTensor
from velatura.weights.layouts import Place


@dataclass(frozen=True)
class Draft:
    """A file that is yet to be written."""

    planned: Mapping[str, Planned]
    """Type and shape of every tensor."""
    metadata: Mapping[str, str]
    """Without hashes."""
    tensor: Callable[[str], RawTensor]
    """Makes one of them. Those of one layer are cheap one after the other."""


def draft(
    adapter: AdapterFile,
    *,
    keys: KeyMap,
    precision: Precision = "F16",
    form: Form | None = None,
    layers: Mapping[str, Shape] | None = None,
) -> Draft:
    """Plan an adapter's file.

    Args:
        form: whose names are written; None: those in which this family's adapters are written here. Diffusers' form
            holds no alpha: the factors take it over.
        layers: of the base, where the form fuses layers of which the adapter changes some only.

    Raises:
        AdapterError: the form has no place for a change.
    """
    groups = _groups(adapter.layers, keys, form, layers or {})
    ends = keys.written_ends if form is None else keys.ends(form)

    def change(stem: str) -> Change:
        return joined([replace(one, change=adapter.layers.get(one.name)) for one in groups[stem]], stem=stem)

    planned: dict[str, Planned] = {}
    owners: dict[str, tuple[str, str]] = {}
    alphas: dict[str, Array] = {}
    unscaled = True
    for stem in groups:
        whole = change(stem)
        unscaled = unscaled and isinstance(whole, Lora) and whole.alpha == whole.rank
        for end, values in _tensors(whole, form, ends, stem).items():
            key = f"{stem}.{end}"
            planned[key], owners[key] = Planned("F32" if end == "alpha" else precision, values.shape), (stem, end)
            if end == "alpha":
                alphas[key] = values
    if unscaled and form != "kohya" and (form is not None or keys.written_ends == PEFT_ENDS):
        planned = {key: one for key, one in planned.items() if key not in alphas}
    words = {
        f"{BUNDLED}{word}.{part}": vectors
        for word, parts in adapter.embeddings.items()
        for part, vectors in parts.items()
    }
    planned |= {key: Planned(precision, vectors.shape) for key, vectors in words.items()}
    last: dict[str, Mapping[str, Array]] = {}

    def tensor(key: str) -> RawTensor:
        if key in words:
            return store.stored(words[key], precision, name=key)
        stem, end = owners[key]
        if key in alphas:
            return store.stored(alphas[key], "F32", name=stem)
        if stem not in last:
            last.clear()
            last[stem] = _tensors(change(stem), form, ends, stem)
        return store.stored(last[stem][end], precision, name=stem)

    metadata = {name: value for name, value in adapter.metadata.items() if name != peft.SETTINGS}
    return Draft(planned, metadata, tensor)


def to_bytes(
    adapter: AdapterFile,
    *,
    keys: KeyMap,
    precision: Precision = "F16",
    form: Form | None = None,
    layers: Mapping[str, Shape] | None = None,
) -> bytes:
    """An adapter as a file with true hashes; equal adapters give equal bytes.

    Args:
        form, layers: as `draft` has them.

    Raises:
        AdapterError: a value is not a number, or too large for fp16, or the form has no place for a change.
    """
    made = draft(adapter, keys=keys, precision=precision, form=form, layers=layers)
    tensors = {key: made.tensor(key) for key in tensorfile.order(made.planned)}
    return tensorfile.to_bytes(tensors, {**made.metadata, **hashes(tensors, made.metadata)})


def write(
    path: Path,
    adapter: AdapterFile,
    *,
    keys: KeyMap,
    precision: Precision = "F16",
    form: Form | None = None,
    layers: Mapping[str, Shape] | None = None,
) -> None:
    """The same bytes into a file, layer by layer; a file at the path is replaced when all is written.

    Raises:
        AdapterError: as `to_bytes`.
        FileProblem: the disk refuses.
    """
    made = draft(adapter, keys=keys, precision=precision, form=form, layers=layers)
    store.write(path, made.planned, made.metadata, made.tensor)


def _groups(
    changes: Mapping[str, Change], keys: KeyMap, form: Form | None, layers: Mapping[str, Shape]
) -> dict[str, list[Member]]:
    """The layers by the names that they share in a file, with those beside them there; without their changes."""
    if form is None:
        return {keys.written(name): [Member(name, (), Place(""), None)] for name in changes}
    shapes = {**{name: _shape(changes[name]) for name in changes if name not in layers}, **layers}
    groups: dict[str, list[Member]] = {}
    for name, (stem, place) in keys.places(form, shapes).items():
        groups.setdefault(stem, []).append(Member(name, shapes[name], place, None))
    kept = {stem: members for stem, members in groups.items() if any(one.name in changes for one in members)}
    for stem, members in kept.items():
        ends = sorted(member.place.rows for member in members if member.place.rows)
        if ends and [first for first, _ in ends] != [0, *(last for _, last in ends[:-1])]:
            raise AdapterError(f"{stem} cannot be written without knowing all layers in it", fix="give the base")
    return kept


def _shape(change: Change) -> Shape:
    """The shape of the weight that a change is of, as far as the change tells."""
    direction = change.direction if isinstance(change, Dora) else change
    shape = getattr(direction, "shape", None)
    if shape is None:
        held = getattr(direction, "weight", None)
        shape = () if held is None else held.shape
    return tuple(shape)


def _tensors(change: Change, form: Form | None, ends: tuple[str, str], stem: str) -> dict[str, Array]:
    """A change's tensors by what follows the layer in their keys."""
    if form == "diffusers":
        return _peft_tensors(change, stem)
    if isinstance(change, InputOft) and not change.of_onetrainer:
        raise AdapterError(
            f"only a PEFT folder can hold an OFT or BOFT of PEFT's, which is what {stem} has",
            fix="use the folder as it is",
        )
    names = {"lora_down.weight": ends[0][1:], "lora_up.weight": ends[1][1:]}
    return {names.get(end, end): values for end, values in change.tensors.items()}


def _peft_tensors(change: Change, stem: str) -> dict[str, Array]:
    """As PEFT has them: no alpha, and only LoRA and DoRA by output."""
    direction = change.direction if isinstance(change, Dora) else change
    by_input = isinstance(change, Dora) and not change.by_output
    if not isinstance(direction, Lora) or by_input:
        about = "a magnitude for each input" if by_input else f"a change of kind {direction.kind}"
        raise AdapterError(
            f"diffusers cannot read {about}, which is what {stem} has", fix="convert to kohya's or ComfyUI's form"
        )
    lora = direction.without_core()
    up = lora.up if lora.alpha == lora.rank else np.float32(lora.scale) * lora.up
    held = {"lora_A.weight": lora.down, "lora_B.weight": up}
    if lora.bias_change is not None:
        held["lora_B.bias"] = lora.bias_change
    if isinstance(change, Dora):
        flat = change.magnitude.reshape(-1)
        held["lora_magnitude_vector"] = flat.reshape(1, -1, 1, 1) if lora.down.ndim > 2 else flat
    return held
