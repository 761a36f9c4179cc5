"""Adapter files of other programs and our own: key names in and out, every key accounted for.

Names of layers:
    kohya             lora_unet_mid_block_attentions_0_proj_in.lora_down.weight, .lora_up.weight, .alpha
    diffusers (PEFT)  unet.mid_block.attentions.0.proj_in.lora_A.weight, .lora_B.weight
    diffusers (old)   unet.mid_block...attn1.processor.to_q_lora.down.weight, ...q_proj.lora_linear_layer.up.weight
    ComfyUI           diffusion_model.middle_block.1.proj_in, text_encoders.clip_l.transformer.text_model...
    LyCORIS           lycoris_mid_block_attentions_0_proj_in, and its kinds' tensors under kohya's names
and what a family has of its own. What follows a layer's name is in `endings`, folders of PEFT's are in `peft`.

A name with underscores cannot be taken apart again ("to_q", "down_blocks"), so reading asks which
layers the base has, and looks every key up. A family's `layers` module knows those of the published sizes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from velatura import tensorfile
from velatura.adapters import peft
from velatura.adapters.assemble import assembled, settings, shaped
from velatura.adapters.endings import split
from velatura.adapters.fused import Member, joined, taken
from velatura.adapters.kinds import Dora
from velatura.adapters.metadata import hashes
from velatura.adapters.signatures import made_for, unread_kind
from velatura.adapters.turned import InputOft
from velatura.adapters.weights import AdapterFile, Array, Change, Lora, Shape, part_of
from velatura.errors import AdapterError
from velatura.files import disk_problems
from velatura.tensorfile import RawTensor
from velatura.weights.layouts import Place

Precision = Literal["F16", "BF16", "F32"]

Form = Literal["kohya", "diffusers", "comfy"]
"""Whose names, and whose way of saying alpha: kohya's trainers, diffusers with PEFT, or ComfyUI."""

FORMS: tuple[Form, ...] = ("kohya", "diffusers", "comfy")

OLD_NAMES = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
"""What diffusers called a text encoder's projections before PEFT."""

BUNDLED = "bundle_emb."
"""How keys of textual inversions begin that come with an adapter."""

Owners = Sequence[tuple[str, Place]]
"""The layers that a name in a file means, and which rows each of them has."""


@dataclass(frozen=True)
class PartKeys:
    """How keys of one part of a model begin."""

    kohya: str
    diffusers: str
    comfy: str
    """As ComfyUI lays out the whole model: "diffusion_model", "text_encoders.clip_l.transformer"."""
    others: tuple[str, ...] = ()
    """Further beginnings of kohya's kind that some programs write."""


KOHYA_ENDS = (".lora_down.weight", ".lora_up.weight")
PEFT_ENDS = (".lora_A.weight", ".lora_B.weight")


@dataclass(frozen=True)
class KeyMap:
    """How a family's layers are called in adapter files. A family with names of its own derives from this."""

    family: str
    """As `signatures.made_for` calls it."""
    parts: Mapping[str, PartKeys]
    written_ends: tuple[str, str] = KOHYA_ENDS
    """What follows the layer in files written here: of down, and of up."""

    def written(self, name: str) -> str:
        """What a layer is called in files written here."""
        return self.kohya(name)

    def kohya(self, name: str) -> str:
        """ "denoiser.mid_block.attentions.0.proj_in" -> "lora_unet_mid_block_attentions_0_proj_in"."""
        part = part_of(name)
        return f"{self.parts[part].kohya}_{name.removeprefix(part + '.').replace('.', '_')}"

    def diffusers(self, name: str) -> str:
        """ "denoiser.mid_block.attentions.0.proj_in" -> "unet.mid_block.attentions.0.proj_in"."""
        part = part_of(name)
        return f"{self.parts[part].diffusers}.{name.removeprefix(part + '.')}"

    def comfy(self, name: str) -> str:
        """ "text_encoder.text_model.final_layer_norm" -> "text_encoders.clip_l.transformer.text_model..."."""
        part = part_of(name)
        return f"{self.parts[part].comfy}.{name.removeprefix(part + '.')}"

    def stems(self, name: str) -> Iterator[str]:
        """Everything that a layer may be called in a file."""
        part = part_of(name)
        path = name.removeprefix(part + ".")
        flat = path.replace(".", "_")
        yield self.kohya(name)
        yield from (f"{prefix}_{flat}" for prefix in self.parts[part].others)
        diffusers = self.diffusers(name)
        yield diffusers
        yield diffusers.replace(".text_model.", ".", 1)
        if part == "denoiser":
            yield from (path, f"lycoris_{flat}")
        else:
            # what names layers after the modules of newer transformers leaves text_model out
            prefixes = (self.parts[part].kohya, *self.parts[part].others)
            yield from (f"{prefix}_{flat.removeprefix('text_model_')}" for prefix in prefixes)
            comfy = self.parts[part].comfy
            yield from (
                f"{comfy}.{path}",
                f"{comfy}.{path.removeprefix('text_model.')}",
                f"{comfy.split('.')[1]}.{path}",
            )
        parent, _, child = diffusers.removesuffix(".0").rpartition(".")
        if ".attn" in diffusers:
            yield f"{parent}.processor.{child}"
            yield f"{parent}.processor.{child}".removeprefix("unet.")
        if child in OLD_NAMES:
            yield f"{parent}.{OLD_NAMES[child]}"

    def fused(self, layers: Mapping[str, Shape]) -> Mapping[str, Owners]:
        """Further names in files: of layers in which several of these may lie one below the other, or of single ones.

        Returns:
            What a file calls it -> each layer in it, and where its rows lie.
        """
        return {}

    def places(self, form: Form, layers: Mapping[str, Shape]) -> Mapping[str, tuple[str, Place]]:
        """What layers are called in a file of some form: layer -> its name there, and its rows where it is fused.

        Raises:
            AdapterError: a layer has no name there.
        """
        named = {"kohya": self.kohya, "diffusers": self.diffusers, "comfy": self.kohya}[form]
        return {name: (named(name), Place("")) for name in layers if part_of(name) in self.parts}

    @property
    def block_lists(self) -> tuple[tuple[str, ...], ...]:
        """The lists of blocks that weights in a prompt may be for, in their order."""
        return ()

    @property
    def block_presets(self) -> Mapping[str, tuple[str, ...]]:
        """Presets of such weights: name -> the blocks that have weight 1, where all others have 0."""
        return {}

    def blocks(self, layers: Sequence[str]) -> Mapping[str, str]:
        """The block of every layer that is in one."""
        return {}

    def ends(self, form: Form) -> tuple[str, str]:
        """What follows a layer in a file of some form: of down, and of up."""
        return PEFT_ENDS if form == "diffusers" else KOHYA_ENDS


def read(path: Path, *, keys: KeyMap, layers: Mapping[str, Shape], partial: bool = False) -> AdapterFile:
    """An adapter file, or a folder of PEFT's, for a base with these layers.

    Args:
        partial: what attaches to no layer is passed over and listed, not an error.

    Raises:
        AdapterError: the file is for another family or another size of base, of a kind that is
            not read, incomplete, or has a key that attaches to nothing.
        FileProblem: this is not a safetensors file, or it is cut off.
    """
    tensors, metadata = stored(path, keys)
    return from_tensors(tensors, metadata, keys=keys, layers=layers, where=path, partial=partial)


def stored(path: Path, keys: KeyMap) -> tuple[dict[str, RawTensor], dict[str, str]]:
    """The tensors of an adapter file or of a PEFT folder, mapped rather than read, and its metadata.

    Raises:
        AdapterError, FileProblem: as `read`.
    """
    if peft.is_folder(path):
        return peft.read_folder(path, denoiser=keys.parts["denoiser"].diffusers)
    return tensorfile.read(path)


def tensors_hash(path: Path) -> str:
    """sha256 of an adapter's tensors as kohya's `sshs_model_hash`; of several files, over their hashes.

    Raises:
        FileProblem: a file cannot be read.
    """
    digests = []
    for file in peft.files(path):
        with disk_problems(file):
            digests.append(tensorfile.tensor_hash(file.read_bytes()))
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def from_tensors(
    tensors: Mapping[str, RawTensor],
    metadata: Mapping[str, str],
    *,
    keys: KeyMap,
    layers: Mapping[str, Shape],
    where: object = None,
    partial: bool = False,
) -> AdapterFile:
    """As `read`, from a file's contents; `where` is named in errors."""
    attached = attach(tensors, keys=keys, layers=layers, where=where)
    if not attached.stems or (attached.strange and not partial):
        raise _misfit(list(tensors), attached.strange, keys.family, where)
    passed_over = list(attached.strange)
    found: dict[str, Change] = {}
    for stem in attached.stems:
        try:
            found |= changes_of(attached, stem, tensors, metadata)
        except _OtherSize as problem:
            if not partial:
                raise problem.told from None
            passed_over += attached.stems[stem].values()
    if not found:
        raise _misfit(list(tensors), passed_over, keys.family, where)
    ordered = {name: found[name] for name in layers if name in found}
    bundled = _bundled(tensors, attached.embeddings)
    return AdapterFile(ordered, dict(metadata), bundled, tuple(passed_over))


@dataclass(frozen=True)
class Attached:
    """To which layers of a base a file's keys belong."""

    stems: Mapping[str, Mapping[str, str]]
    """A layer's name in the file -> what each tensor of it is -> its key."""
    owners: Mapping[str, Owners]
    """A layer's name in the file -> the base's layers that it means."""
    strange: tuple[str, ...]
    """Keys that attach to nothing."""
    embeddings: tuple[str, ...]
    """Keys of textual inversions that came with the adapter."""
    keys: KeyMap
    layers: Mapping[str, Shape]
    where: object

    @property
    def share(self) -> float:
        """The share of keys that attach."""
        held = sum(map(len, self.stems.values()))
        return held / max(1, held + len(self.strange))


def attach(names: Mapping[str, object], *, keys: KeyMap, layers: Mapping[str, Shape], where: object = None) -> Attached:
    """Find the layer of every key: from a header alone.

    Raises:
        AdapterError: two names in the file mean one layer.
    """
    known = {stem: name for name in layers if part_of(name) in keys.parts for stem in keys.stems(name)}
    fused = keys.fused(layers)
    stems: dict[str, dict[str, str]] = {}
    owners: dict[str, Owners] = {}
    taken_by: dict[str, str] = {}
    strange: list[str] = []
    embeddings: list[str] = []
    for key in names:
        if key.startswith(BUNDLED):
            embeddings.append(key)
            continue
        stem, kind = split(key.removeprefix(peft.BEFORE))
        found: Owners = [(known[stem], Place(stem))] if stem in known else fused.get(stem, ())
        if kind is None or not found:
            strange.append(key)
            continue
        for name, _ in found:
            if taken_by.setdefault(name, stem) != stem or kind in stems.get(stem, ()):
                raise AdapterError(f"this file changes layer {name} twice", where=where)
        stems.setdefault(stem, {})[kind] = key
        owners[stem] = found
    return Attached(stems, owners, tuple(strange), tuple(embeddings), keys, layers, where)


def changes_of(
    attached: Attached, stem: str, tensors: Mapping[str, RawTensor], metadata: Mapping[str, str]
) -> dict[str, Change]:
    """The changes that one name in the file stands for: of one layer, or of each that is fused in it.

    Raises:
        AdapterError: they are incomplete, damaged, or for a base of another size.
    """
    owners, where = attached.owners[stem], attached.where
    name = owners[0][0]
    raw = {kind: tensors[key] for kind, key in attached.stems[stem].items()}
    told = settings(metadata, attached.keys.diffusers(name), where)
    change = assembled(raw, told=told, name=name, where=where)
    first = attached.layers[name]
    rows = max((place.rows[1] for _, place in owners if place.rows), default=first[0])
    try:
        whole = shaped(change, (rows, *first[1:]))
    except ValueError:
        theirs = {kind: list(tensor.shape) for kind, tensor in raw.items() if tensor.shape}
        raise _OtherSize(_wrong_size(name, theirs, (rows, *first[1:]), where)) from None
    return {owner: taken(whole, place, rows) for owner, place in owners}


class _OtherSize(AdapterError):
    """A change for a base of another size, with what to say about it."""

    def __init__(self, told: AdapterError) -> None:
        super().__init__(told.what, where=told.where, fix=told.fix)
        self.told = told


def _bundled(tensors: Mapping[str, RawTensor], names: Sequence[str]) -> dict[str, dict[str, Array]]:
    """Textual inversions: "bundle_emb.WORD.clip_l" (SDXL, OneTrainer) or "bundle_emb.WORD.string_to_param.*"."""
    found: dict[str, dict[str, Array]] = {}
    for key in names:
        word, _, part = key.removeprefix(BUNDLED).partition(".")
        vectors = tensorfile.as_float32(tensors[key])
        if word and part and vectors.ndim in (1, 2) and vectors.size and np.isfinite(vectors).all():
            found.setdefault(word, {})[part] = vectors.reshape(-1, vectors.shape[-1])
    return found


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
        form: whose names are written; None: those in which this family's adapters are written here. Diffusers' form
            holds no alpha: the factors take it over.
        layers: of the base, where the form fuses layers of which the adapter changes some only.

    Raises:
        AdapterError: a value is not a number, or too large for fp16, or the form has no place for a change.
    """
    changes, plain = _named(adapter, keys, form, layers or {})
    tensors: dict[str, RawTensor] = {}
    for stem, change in changes.items():
        ends = keys.written_ends if form is None else keys.ends(form)
        for end, values in _tensors(change, form, ends, stem).items():
            if end == "alpha" and plain:
                continue
            exact: Precision = "F32" if end == "alpha" else precision
            limit = float(np.finfo(np.float16).max) if exact == "F16" else math.inf
            if (values.size and not np.abs(values).max() <= limit) or not np.isfinite(values).all():
                raise AdapterError(f"layer {stem} holds values that {precision} cannot hold, or that are not numbers")
            tensors[f"{stem}.{end}"] = _stored(values, exact)
    for word, parts in adapter.embeddings.items():
        tensors |= {f"{BUNDLED}{word}.{part}": _stored(vectors, precision) for part, vectors in parts.items()}
    metadata = {name: value for name, value in adapter.metadata.items() if name != peft.SETTINGS}
    return tensorfile.to_bytes(tensors, {**metadata, **hashes(tensors, metadata)})


def _named(
    adapter: AdapterFile, keys: KeyMap, form: Form | None, layers: Mapping[str, Shape]
) -> tuple[dict[str, Change], bool]:
    """The changes by their names in the file, and whether no alpha is needed."""
    changes = adapter.layers
    if form is None:
        named = {keys.written(name): change for name, change in changes.items()}
    else:
        groups = _groups(changes, keys, form, layers)
        named = {stem: joined(members, stem=stem) for stem, members in groups.items()}
    loras = [change for change in named.values() if isinstance(change, Lora)]
    unscaled = len(loras) == len(named) and all(change.alpha == change.rank for change in loras)
    return named, form != "kohya" and unscaled and (form is not None or keys.written_ends == PEFT_ENDS)


def _groups(
    changes: Mapping[str, Change], keys: KeyMap, form: Form, layers: Mapping[str, Shape]
) -> dict[str, list[Member]]:
    """The changes by the names that they share in a file, with the layers beside them there."""
    shapes = {**{name: _shape(change) for name, change in changes.items()}, **layers}
    groups: dict[str, list[Member]] = {}
    for name, (stem, place) in keys.places(form, shapes).items():
        groups.setdefault(stem, []).append(Member(name, shapes[name], place, changes.get(name)))
    kept = {stem: members for stem, members in groups.items() if any(one.change is not None for one in members)}
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


def _stored(values: NDArray[np.float32], precision: Precision) -> RawTensor:
    if precision == "BF16":
        bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to nearest, ties to even
        return RawTensor("BF16", values.shape, rounded.astype("<u2").tobytes())
    with np.errstate(over="ignore"):
        return tensorfile.raw(values.astype(np.float16 if precision == "F16" else np.float32))


def _misfit(keys: list[str], strange: Sequence[str], family: str, where: object) -> AdapterError:
    """What to say about a file some of whose keys attach to nothing."""
    if not keys:
        return AdapterError("this file holds no adapter", where=where)
    if kind := unread_kind(strange):
        return AdapterError(f"this file holds {kind}, which cannot be read: {strange[0]}", where=where)
    other = made_for(keys)
    if other is not None and other != family:
        return AdapterError(
            f"this LoRA is for {other}, the base is {family}: there is no layer for {strange[0]}",
            where=where,
            fix=f"use it with a base of {other}",
        )
    listed = ", ".join(strange[:3]) + (f" and {len(strange) - 3} more" if len(strange) > 3 else "")
    about = f"this LoRA is for {other}, but not for this base: " if other else ""
    fits = 100 * (len(keys) - len(strange)) // len(keys)
    return AdapterError(
        f"{about}{len(strange)} of {len(keys)} keys in this file belong to no layer of the base,"
        f" {fits} % attach: {listed}",
        where=where,
        fix="use it with the base it was made for, or take what attaches with --partial",
    )


def _wrong_size(name: str, theirs: Mapping[str, Sequence[int]], weight: Shape, where: object) -> AdapterError:
    """What to say about a layer of another size. The width of the text tells Stable Diffusion's versions apart."""
    widths = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}
    down = theirs.get("down", ())
    text = widths.get(down[1]) if name.endswith(("attn2.to_k", "attn2.to_v")) and len(down) > 1 else None
    about = f"this LoRA is for {text}" if text else "this LoRA is for a base of another size"
    told = " and ".join(str(list(shape)) for shape in theirs.values())
    return AdapterError(
        f"{about}: what it holds for {name} is {told}, the weight of this base is {list(weight)}",
        where=where,
        fix="use it with the base it was made for",
    )
