"""Adapter files of other programs and our own: what layers are called in them, and reading, every key accounted for.

Names of layers:
    kohya             lora_unet_mid_block_attentions_0_proj_in.lora_down.weight, .lora_up.weight, .alpha
    diffusers (PEFT)  unet.mid_block.attentions.0.proj_in.lora_A.weight, .lora_B.weight
    diffusers (old)   unet.mid_block...attn1.processor.to_q_lora.down.weight, ...q_proj.lora_linear_layer.up.weight
    ComfyUI           diffusion_model.middle_block.1.proj_in, text_encoders.clip_l.transformer.text_model...
    LyCORIS           lycoris_mid_block_attentions_0_proj_in, and its kinds' tensors under kohya's names
and what a family has of its own. What follows a layer's name is in `endings`, folders of PEFT's are in `peft`, files
are written in `writing`.

A name with underscores cannot be taken apart again ("to_q", "down_blocks"), so reading asks which
layers the base has, and looks every key up. A family's `layers` module knows those of the published sizes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from velatura import tensorfile
from velatura.adapters import peft
from velatura.adapters.assemble import assembled, settings, shaped
from velatura.adapters.endings import split
from velatura.adapters.fused import taken
from velatura.adapters.signatures import MERGEABLE, made_for, unread_kind
from velatura.adapters.weights import AdapterFile, Array, Change, Shape, part_of
from velatura.errors import AdapterError
from velatura.tensorfile import RawTensor
from velatura.weights.layouts import Place

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


def read(
    path: Path, *, keys: KeyMap, layers: Mapping[str, Shape], partial: bool = False, lazily: bool = False
) -> AdapterFile:
    """An adapter file, or a folder of PEFT's, for a base with these layers.

    Args:
        partial: what attaches to no layer is passed over and listed, not an error.
        lazily: every change is checked now, and read again whenever it is asked for, so that none is held.

    Raises:
        AdapterError: the file is for another family or another size of base, of a kind that is
            not read, incomplete, or has a key that attaches to nothing.
        FileProblem: this is not a safetensors file, or it is cut off.
    """
    tensors, metadata = stored(path, keys)
    return from_tensors(tensors, metadata, keys=keys, layers=layers, where=path, partial=partial, lazily=lazily)


def stored(path: Path, keys: KeyMap) -> tuple[Mapping[str, RawTensor], dict[str, str]]:
    """The tensors of an adapter file or of a PEFT folder, each read when it is asked for, and its metadata.

    Raises:
        AdapterError, FileProblem: as `read`.
    """
    if peft.is_folder(path):
        return peft.read_folder(path, denoiser=keys.parts["denoiser"].diffusers)
    unread = tensorfile.Unread(path)
    return unread, unread.header.metadata


def tensors_hash(path: Path) -> str:
    """sha256 of an adapter's tensors as kohya's `sshs_model_hash`; of several files, over their hashes.

    Raises:
        FileProblem: a file cannot be read.
    """
    digests = [tensorfile.content_hash(file) for file in peft.files(path)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def from_tensors(
    tensors: Mapping[str, RawTensor],
    metadata: Mapping[str, str],
    *,
    keys: KeyMap,
    layers: Mapping[str, Shape],
    where: object = None,
    partial: bool = False,
    lazily: bool = False,
) -> AdapterFile:
    """As `read`, from a file's contents; `where` is named in errors."""
    attached = attach(tensors, keys=keys, layers=layers, where=where)
    if not attached.stems or (attached.strange and not partial):
        raise _misfit(list(tensors), attached.strange, keys.family, where)
    passed_over = list(attached.strange)
    found: dict[str, Change] = {}
    stems: dict[str, str] = {}
    for stem in attached.stems:
        try:
            changes = changes_of(attached, stem, tensors, metadata)
        except _OtherSize as problem:
            if not partial:
                raise problem.told from None
            passed_over += attached.stems[stem].values()
            continue
        stems |= dict.fromkeys(changes, stem)
        if not lazily:
            found |= changes
    if not stems:
        raise _misfit(list(tensors), passed_over, keys.family, where)
    ordered = {name: stems[name] for name in layers if name in stems}
    held = Changes(ordered, attached, tensors, metadata) if lazily else {name: found[name] for name in ordered}
    bundled = _bundled(tensors, attached.embeddings)
    return AdapterFile(held, dict(metadata), bundled, tuple(passed_over))


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


class Changes(Mapping[str, Change]):
    """The changes that a file holds, by the base's layers, each read when it is asked for."""

    def __init__(
        self,
        stems: Mapping[str, str],
        attached: Attached,
        tensors: Mapping[str, RawTensor],
        metadata: Mapping[str, str],
    ) -> None:
        """For layers and the names in the file that stand for them."""
        self._stems, self._attached, self._tensors, self._metadata = stems, attached, tensors, metadata
        self._last: tuple[str, dict[str, Change]] = ("", {})

    def __getitem__(self, name: str) -> Change:
        """A layer's change; those that are fused with the last one are at hand."""
        stem = self._stems[name]
        if self._last[0] != stem:
            self._last = stem, changes_of(self._attached, stem, self._tensors, self._metadata)
        return self._last[1][name]

    def __iter__(self) -> Iterator[str]:
        """The layers, in the base's order."""
        return iter(self._stems)

    def __len__(self) -> int:
        """How many layers are changed."""
        return len(self._stems)


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


def _misfit(keys: list[str], strange: Sequence[str], family: str, where: object) -> AdapterError:
    """What to say about a file some of whose keys attach to nothing."""
    if not keys:
        return AdapterError("this file holds no adapter", where=where)
    if kind := unread_kind(strange):
        return AdapterError(
            f"this file holds {kind}, which cannot be read: {strange[0]}",
            where=where,
            fix="merge it into its base with the program that wrote it, and take a LoRA of that: velatura lora extract"
            if kind.split()[1] in MERGEABLE
            else None,
        )
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
