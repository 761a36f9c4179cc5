"""A tiny base in every layout that its family is read from, written as other programs write them.

Its weights are numbers that fp8 and fp16 hold as they are, so all layouts must give exactly the same base.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests import tiny, tiny_sdxl, tiny_z_image
from velatura import tensorfile
from velatura.bases import BaseFiles
from velatura.families.flux1 import save as flux1
from velatura.families.sd15 import save as sd15
from velatura.tensorfile import RawTensor
from velatura.weights import parts
from velatura.weights.containers import pickled

Tensors = dict[str, RawTensor]

PREFIXES: Mapping[str, Mapping[str, str]] = {
    "sd15": sd15.PREFIXES,
    "sdxl": tiny_sdxl.PREFIXES,
    "flux1": flux1.PREFIXES,
    "z_image": {"denoiser" if part == "transformer" else part: one for part, one in tiny_z_image.PREFIXES.items()},
}
"""Family -> part -> what its keys begin with where all are in one file."""

LLAMA_CPP = {"text_encoder_2": ("flux1", "T5ENCODER"), "text_encoder": ("z_image", "QWEN3")}
"""Text encoders that llama.cpp converts: part -> family, and what the `gguf` package calls the network."""

SCALE = 0.125
"""Of scaled fp8: a power of two, so that nothing is rounded."""


def exact(family: str, folder: Path) -> Path:
    """A tiny base as a diffusers folder, every weight one that fp8 holds."""
    tiny.BASES[family](folder)
    for path in folder.rglob("*.safetensors"):
        tensors, metadata = tensorfile.read(path)
        rounded = {
            name: tensorfile.raw(number(tensor).to(torch.float8_e4m3fn).float().numpy())
            for name, tensor in tensors.items()
        }
        path.write_bytes(tensorfile.to_bytes(rounded, metadata))
    return folder


def number(tensor: RawTensor) -> Tensor:
    return torch.from_numpy(tensorfile.as_float32(tensor).copy())


def one_file(family: str, folder: Path, place: Path) -> tuple[Tensors, dict[str, str]]:
    """Everything in one file in the authors' layout, and what it says of its size."""
    path = place / "scratch.safetensors"
    if family == "z_image":
        tiny_z_image.all_in_one(folder, path)
    else:
        writers = {"sd15": sd15.to_single_file, "sdxl": tiny_sdxl.single_file, "flux1": flux1.to_single_file}
        path.write_bytes(writers[family](folder))
    tensors, metadata = tensorfile.read(path)
    kept = {name: RawTensor(one.dtype, one.shape, bytes(one.data)) for name, one in tensors.items()}
    path.unlink()
    return kept, metadata


def apart(family: str, tensors: Mapping[str, RawTensor]) -> dict[str, Tensors]:
    """Each part's tensors without its prefix."""
    return {
        part: {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
        for part, prefix in PREFIXES[family].items()
    }


def given(paths: Mapping[str, Path]) -> BaseFiles:
    """Files of parts, as a user gives them."""
    texts = tuple(path for part, path in paths.items() if part.startswith("text_encoder"))
    return BaseFiles(paths["denoiser"], paths["vae"], texts)


def as_folder(family: str, folder: Path, place: Path) -> BaseFiles:
    return BaseFiles(shutil.copytree(folder, place / "base"))


def as_one_file(family: str, folder: Path, place: Path) -> BaseFiles:
    tensors, metadata = one_file(family, folder, place)
    (place / "base.safetensors").write_bytes(tensorfile.to_bytes(tensors, metadata))
    return BaseFiles(place / "base.safetensors")


def as_parts(family: str, folder: Path, place: Path) -> BaseFiles:
    tensors, metadata = one_file(family, folder, place)
    paths = {}
    for part, held in apart(family, tensors).items():
        paths[part] = place / f"{part}.safetensors"
        paths[part].write_bytes(tensorfile.to_bytes(held, metadata))
    return given(paths)


def as_parts_in_half_precision(family: str, folder: Path, place: Path) -> BaseFiles:
    files = as_parts(family, folder, place)
    for path in (files.model, *files.others):
        tensors, metadata = tensorfile.read(path)
        half = {name: tensorfile.raw(number(one).half().numpy()) for name, one in tensors.items()}
        path.write_bytes(tensorfile.to_bytes(half, metadata))
    return files


def in_fp8(tensor: RawTensor, scale: float = 1.0) -> RawTensor:
    small = (number(tensor) / scale).to(torch.float8_e4m3fn)
    assert torch.equal(small.float() * scale, number(tensor)), "nothing is rounded"
    return RawTensor("F8_E4M3", tensor.shape, small.view(torch.uint8).numpy().tobytes())


def as_fp8(family: str, folder: Path, place: Path) -> BaseFiles:
    tensors, metadata = one_file(family, folder, place)
    small = {name: in_fp8(one) if len(one.shape) > 1 else one for name, one in tensors.items()}
    (place / "base.safetensors").write_bytes(tensorfile.to_bytes(small, metadata))
    return BaseFiles(place / "base.safetensors")


def as_scaled_fp8(family: str, folder: Path, place: Path) -> BaseFiles:
    """As ComfyUI writes it: the denoiser's matrices, each with its scale beside it."""
    tensors, metadata = one_file(family, folder, place)
    prefix = PREFIXES[family]["denoiser"]
    for name in [name for name, one in tensors.items() if name.startswith(prefix) and len(one.shape) == 2]:
        if name.endswith(".weight"):
            tensors[name] = in_fp8(tensors[name], SCALE)
            tensors[f"{name.removesuffix('.weight')}.scale_weight"] = tensorfile.raw(torch.tensor(SCALE).numpy())
    tensors[f"{prefix}scaled_fp8"] = RawTensor("F8_E4M3", (0,), b"")
    (place / "base.safetensors").write_bytes(tensorfile.to_bytes(tensors, metadata))
    return BaseFiles(place / "base.safetensors")


def as_checkpoint(family: str, folder: Path, place: Path) -> BaseFiles:
    """As training programs pickle it. Such a file cannot say its size, so `pickled_says` must be told it."""
    tensors, metadata = one_file(family, folder, place)
    held = {name: number(one) for name, one in tensors.items()}
    torch.save({"state_dict": held, "global_step": 840_000}, place / "base.ckpt")
    (place / "base.json").write_text(json.dumps(metadata), encoding="utf-8")
    return BaseFiles(place / "base.ckpt")


def pickled_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pickled files be of the size that is written beside them."""
    read = pickled.read_header

    def told(path: Path) -> tensorfile.Header:
        header = read(path)
        metadata = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return tensorfile.Header(metadata, header.entries, header.data_start)

    monkeypatch.setattr(pickled, "read_header", told)


def as_gguf(family: str, folder: Path, place: Path) -> BaseFiles:
    """Denoiser, T5 and Qwen3 as GGUF, matrices in fp16; the others as safetensors."""
    gguf = pytest.importorskip("gguf")
    tensors, metadata = one_file(family, folder, place)
    paths = {}
    for part, held in apart(family, tensors).items():
        of, network = LLAMA_CPP.get(part, ("", ""))
        if part != "denoiser" and of != family:
            paths[part] = place / f"{part}.safetensors"
            paths[part].write_bytes(tensorfile.to_bytes(held, metadata))
            continue
        names = {name: name for name in held}
        if part != "denoiser":
            known = gguf.get_tensor_name_map(gguf.MODEL_ARCH[network], 4)
            named = {name: known.get_name(name, try_suffixes=(".weight",)) for name in held}
            names = {name: there for name, there in named.items() if there is not None}
        paths[part] = place / f"{part}-F16.gguf"
        writer = gguf.GGUFWriter(paths[part], family if part == "denoiser" else network.lower())
        writer.add_string(parts.CONFIG, metadata[parts.CONFIG])
        for name, there in names.items():
            values = number(held[name]).numpy()
            writer.add_tensor(there, values.astype("float16") if values.ndim > 1 else values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return given(paths)


SOURCES: Mapping[str, Callable[[str, Path, Path], BaseFiles]] = {
    "a diffusers folder": as_folder,
    "one file": as_one_file,
    "a file for each part": as_parts,
    "files in fp16": as_parts_in_half_precision,
    "a file in fp8": as_fp8,
    "a file in scaled fp8": as_scaled_fp8,
    "a pickled checkpoint": as_checkpoint,
    "GGUF": as_gguf,
}
"""What a base is given as -> what writes it: family, its diffusers folder, and where to."""
