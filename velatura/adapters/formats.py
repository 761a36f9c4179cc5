"""Adapter files of other programs and our own: key names in and out, every key accounted for.

Read:
    kohya             lora_unet_mid_block_attentions_0_proj_in.lora_down.weight, .lora_up.weight, .alpha
    diffusers (PEFT)  unet.mid_block.attentions.0.proj_in.lora_A.weight, .lora_B.weight
    diffusers (old)   unet.mid_block...attn1.processor.to_q_lora.down.weight, ...q_proj.lora_linear_layer.up.weight
Written: kohya, which every program for images reads.

A name with underscores cannot be taken apart again ("to_q", "down_blocks"), so reading asks which
layers the base has, and looks every key up.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from velatura import tensorfile
from velatura.adapters.metadata import hashes
from velatura.adapters.signatures import kind_of, made_for
from velatura.adapters.weights import AdapterFile, LayerWeights, Shape, part_of
from velatura.errors import AdapterError
from velatura.tensorfile import RawTensor
from velatura.weights.layouts import Place

Precision = Literal["F16", "BF16", "F32"]
Half = Literal["down", "up", "alpha"]

ENDINGS: Mapping[str, Half] = {
    ".lora_down.weight": "down", ".lora_up.weight": "up", ".alpha": "alpha",
    ".lora_A.weight": "down", ".lora_B.weight": "up",
    ".lora.down.weight": "down", ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down", ".lora_linear_layer.up.weight": "up",
    "_lora.down.weight": "down", "_lora.up.weight": "up",
}  # fmt: skip
"""What follows the layer in a key."""

PEFT_SETTINGS = "lora_adapter_metadata"
"""The metadata key under which diffusers stores PEFT's settings, alpha among them."""

OLD_NAMES = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
"""What diffusers called a text encoder's projections before PEFT."""


@dataclass(frozen=True)
class PartKeys:
    """How keys of one part of a model begin."""

    kohya: str
    diffusers: str


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

    def stems(self, name: str) -> Iterator[str]:
        """Everything that a layer may be called in a file."""
        yield self.kohya(name)
        diffusers = self.diffusers(name)
        yield diffusers
        yield diffusers.replace(".text_model.", ".", 1)
        parent, _, child = diffusers.removesuffix(".0").rpartition(".")
        if ".attn" in diffusers:
            yield f"{parent}.processor.{child}"
            yield f"{parent}.processor.{child}".removeprefix("unet.")
        if child in OLD_NAMES:
            yield f"{parent}.{OLD_NAMES[child]}"

    def fused(self, layers: Mapping[str, Shape]) -> Mapping[str, Sequence[tuple[str, Place]]]:
        """Further names in files, of layers in which several of these may lie one below the other.

        Returns:
            What a file calls it -> each layer in it, and where its rows lie.
        """
        return {}


SD15 = KeyMap(
    "SD 1.5",
    {"denoiser": PartKeys("lora_unet", "unet"), "text_encoder": PartKeys("lora_te", "text_encoder")},
)


def read(path: Path, *, keys: KeyMap, layers: Mapping[str, Shape]) -> AdapterFile:
    """An adapter file, for a base with these layers.

    Raises:
        AdapterError: the file is for another family or another size of base, of a kind that is
            not read, incomplete, or has a key that attaches to nothing.
        FileProblem: this is not a safetensors file, or it is cut off.
    """
    tensors, metadata = tensorfile.read(path)
    return from_tensors(tensors, metadata, keys=keys, layers=layers, where=path)


def from_tensors(
    tensors: Mapping[str, RawTensor],
    metadata: Mapping[str, str],
    *,
    keys: KeyMap,
    layers: Mapping[str, Shape],
    where: object = None,
) -> AdapterFile:
    """As `read`, from a file's contents; `where` is named in errors."""
    halves, strange = _halves(tensors, keys, layers, where)
    if strange or not halves:
        raise _misfit(list(tensors), strange, keys.family, where)
    found: dict[str, LayerWeights] = {}
    for name in (name for name in layers if name in halves):
        half_tensors = halves[name]
        if "down" not in half_tensors or "up" not in half_tensors:
            raise AdapterError(f"this file is incomplete: layer {name} lacks one of its halves", where=where)
        down, up = half_tensors["down"], half_tensors["up"]
        if not _fits(down.shape, up.shape, layers[name]):
            raise _wrong_size(name, down.shape, up.shape, layers[name], list(tensors), where)
        rank = down.shape[0]
        if "alpha" in half_tensors:
            alpha = _scalar(half_tensors["alpha"], name, where)
        else:
            alpha = _peft_alpha(metadata, keys.diffusers(name), rank, where)
        found[name] = LayerWeights(
            tensorfile.as_float32(down).reshape(rank, *layers[name][1:]),
            tensorfile.as_float32(up).reshape(layers[name][0], rank, *[1] * (len(layers[name]) - 2)),
            alpha,
        )
        if not found[name].finite:
            raise AdapterError(f"this file is damaged: layer {name} holds values that are not numbers", where=where)
    return AdapterFile(found, dict(metadata))


def to_bytes(adapter: AdapterFile, *, keys: KeyMap, precision: Precision = "F16") -> bytes:
    """An adapter as a file with true hashes; equal adapters give equal bytes.

    Alpha is written in fp32; under PEFT's names not where it is the rank of every layer, as some programs take no
    other key there.

    Raises:
        AdapterError: a value is not a number, or too large for fp16.
    """
    tensors: dict[str, RawTensor] = {}
    plain = keys.written_ends == PEFT_ENDS and all(layer.alpha == layer.rank for layer in adapter.layers.values())
    for name, layer in adapter.layers.items():
        stem, (down_end, up_end) = keys.written(name), keys.written_ends
        tensors[f"{stem}{down_end}"] = _stored(layer.down, precision)
        tensors[f"{stem}{up_end}"] = _stored(layer.up, precision)
        if not plain:
            tensors[f"{stem}.alpha"] = tensorfile.raw(np.array(layer.alpha, dtype=np.float32))
        limit = float(np.finfo(np.float16).max) if precision == "F16" else math.inf
        if not layer.finite or max(np.abs(layer.down).max(), np.abs(layer.up).max()) > limit:
            raise AdapterError(f"layer {name} holds values that {precision} cannot hold, or that are not numbers")
    return tensorfile.to_bytes(tensors, {**adapter.metadata, **hashes(tensors, adapter.metadata)})


def _split(key: str) -> tuple[str, Half | None]:
    for ending, half in ENDINGS.items():
        if key.endswith(ending):
            return key[: -len(ending)], half
    return key, None


def _halves(
    tensors: Mapping[str, RawTensor], keys: KeyMap, layers: Mapping[str, Shape], where: object
) -> tuple[dict[str, dict[Half, RawTensor]], list[str]]:
    """What a file holds of each layer, and the keys that belong to none."""
    stems = {stem: name for name in layers if part_of(name) in keys.parts for stem in keys.stems(name)}
    fused = keys.fused(layers)
    halves: dict[str, dict[Half, RawTensor]] = {}
    strange: list[str] = []
    for key, tensor in tensors.items():
        stem, half = _split(key)
        owners = [(stems[stem], Place(stem))] if stem in stems else fused.get(stem, ())
        if not owners or half is None:
            strange.append(key)
            continue
        rows = max((place.rows[1] for _, place in owners if place.rows), default=None)
        if half == "up" and rows is not None and tensor.shape[:1] != (rows,):
            raise AdapterError(
                f"this LoRA is for a base of another size: {key} is {list(tensor.shape)}, here it has {rows} rows",
                where=where,
                fix="use it with the base it was made for",
            )
        for name, place in owners:
            if half in halves.setdefault(name, {}):
                raise AdapterError(f"this file changes layer {name} twice", where=where)
            halves[name][half] = _share(tensor, place) if half == "up" else tensor
    return halves, strange


def _share(up: RawTensor, place: Place) -> RawTensor:
    """What of an up belongs to one of the layers in it."""
    data = up.data
    if place.rows is not None:
        first, last = place.rows
        size = len(data) // up.shape[0]
        data = data[first * size : last * size]
        up = RawTensor(up.dtype, (last - first, *up.shape[1:]), data)
    if place.halves_swapped:
        half = len(data) // 2
        up = RawTensor(up.dtype, up.shape, bytes(data[half:]) + bytes(data[:half]))
    return up


def _fits(down: Shape, up: Shape, weight: Shape) -> bool:
    """Whether both halves belong to a weight; a 1x1 kernel may be written or left out."""
    rank = down[0] if down else 0
    kernel = (*down[2:], 1, 1)[:2]
    return (
        rank > 0
        and len(down) in (2, 4)
        and (down[1], *kernel) == (weight[1], *(*weight[2:], 1, 1)[:2])
        and up in ((weight[0], rank), (weight[0], rank, 1, 1))
    )


def _scalar(tensor: RawTensor, name: str, where: object) -> float:
    if math.prod(tensor.shape) != 1:
        raise AdapterError(f"this file is damaged: alpha of {name} is not one number", where=where)
    return float(tensorfile.as_float32(tensor).reshape(()))


def _stored(values: NDArray[np.float32], precision: Precision) -> RawTensor:
    if precision == "BF16":
        bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to nearest, ties to even
        return RawTensor("BF16", values.shape, rounded.astype("<u2").tobytes())
    with np.errstate(over="ignore"):
        return tensorfile.raw(values.astype(np.float16 if precision == "F16" else np.float32))


def _peft_alpha(metadata: Mapping[str, str], stem: str, rank: int, where: object) -> float:
    """Alpha of a file without alpha keys: PEFT's settings where diffusers stored them, else the rank (scale 1)."""
    if PEFT_SETTINGS not in metadata:
        return float(rank)
    try:
        settings: dict[str, Any] = json.loads(metadata[PEFT_SETTINGS])
        part, _, path = stem.partition(".")
        patterns: dict[str, float] = settings.get(f"{part}.alpha_pattern") or {}
        alpha = float(settings.get(f"{part}.lora_alpha", rank))
        for pattern, value in patterns.items():
            if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", path):
                alpha = float(value)
                break
        # rsLoRA divides by the root of the rank instead (Kalajdzievski 2023, arXiv:2312.03732).
        return alpha * math.sqrt(rank) if settings.get(f"{part}.use_rslora") else alpha
    except (ValueError, TypeError, AttributeError, re.error) as error:
        raise AdapterError(f"the settings under {PEFT_SETTINGS} in this file are damaged", where=where) from error


def _misfit(keys: list[str], strange: list[str], family: str, where: object) -> AdapterError:
    """What to say about a file some of whose keys attach to nothing."""
    if not keys:
        return AdapterError("this file holds no adapter", where=where)
    if kind := kind_of(strange):
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
    return AdapterError(
        f"{about}{len(strange)} of {len(keys)} keys in this file belong to no layer of the base: {listed}",
        where=where,
        fix="use it with the base it was made for",
    )


def _wrong_size(name: str, down: Shape, up: Shape, weight: Shape, keys: list[str], where: object) -> AdapterError:
    """What to say about a layer of another size. The width of the text tells Stable Diffusion's versions apart."""
    widths = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}
    text = widths.get(down[1]) if name.endswith(("attn2.to_k", "attn2.to_v")) and len(down) > 1 else None
    about = f"this LoRA is for {text}" if text else "this LoRA is for a base of another size"
    theirs, ours = f"{list(down)} and {list(up)}", list(weight)
    return AdapterError(
        f"{about}: its halves for {name} are {theirs}, the weight of this base is {ours}",
        where=where,
        fix="use it with the base it was made for",
    )
