"""Every format of weights gives the same names, shapes and numbers, and runs nobody's program."""

from __future__ import annotations

import importlib.util
import io
import os
import pickle
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import sparse
from velatura import settings, tensorfile
from velatura.doctor import machine
from velatura.errors import FileProblem, MissingExtra, ModelError, VelaturaError
from velatura.weights import containers
from velatura.weights.containers import gguf as gguf_format
from velatura.weights.parts import PartFiles
from velatura.weights.source import held

WEIGHTS = {
    "model.a.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "model.b.bias": torch.tensor([0.5, -2.0], dtype=torch.float16),
    "model.c": torch.tensor(3.0, dtype=torch.bfloat16),
}

TYPES = {"model.a.weight": "F32", "model.b.bias": "F16", "model.c": "BF16"}


def check(path: Path, names: set[str] | None = None) -> None:
    header, tensors = containers.read_header(path), containers.tensors(path)
    wanted = {name: WEIGHTS[name] for name in names or WEIGHTS}
    assert set(header.entries) == set(tensors) == set(wanted)
    for name, tensor in wanted.items():
        assert header.entries[name].shape == tuple(tensor.shape) == tuple(tensors[name].shape)
        assert torch.equal(tensors[name].float(), tensor.float())


def test_the_endings_of_the_settings_are_those_that_can_be_read() -> None:
    assert set(containers.FORMATS) == set(settings.WEIGHT_ENDINGS)


def test_safetensors_are_mapped(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(WEIGHTS, path := tmp_path / "a.safetensors")
    check(path)
    assert {name: entry.dtype for name, entry in containers.read_header(path).entries.items()} == TYPES


@pytest.mark.parametrize("called", [".safetensors", ".ckpt", ".gguf", ".bin"])
def test_a_file_under_a_wrong_ending_is_read_as_what_it_is(tmp_path: Path, called: str) -> None:
    from safetensors.torch import save_file

    save_file(WEIGHTS, tmp_path / "a.safetensors")
    torch.save(WEIGHTS, tmp_path / "b.ckpt")
    check((tmp_path / "a.safetensors").rename(tmp_path / f"a{called}"))
    pickled_file = (tmp_path / "b.ckpt").rename(tmp_path / f"b{called}")
    if called == ".safetensors":
        with pytest.raises(ModelError, match=r"rename it to \.ckpt"):
            containers.read_header(pickled_file)
    else:
        check(pickled_file)
    written = gguf_file(tmp_path / "c.gguf", {"a": torch.ones(2, 32)}, "F32")
    assert torch.equal(containers.tensors(written.rename(written.with_suffix(called)))["a"], torch.ones(2, 32))
    (other := tmp_path / f"d{called}").write_bytes(b"\x89PNG\r\n" * 20)
    with pytest.raises(VelaturaError):
        containers.read_header(other)


# --- pickled files ---------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".ckpt", ".pt", ".PTH"])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda held: held,
        lambda held: {"state_dict": held, "global_step": 5, "epoch": 2, "lr_schedulers": []},
        lambda held: {**held, "names": ["a"], "step": 3},
    ],
)
def test_pickled_weights_are_read_as_they_are(
    tmp_path: Path, ending: str, old: bool, wrapped: Callable[[Any], Any]
) -> None:
    path = tmp_path / f"größe \N{ARTIST PALETTE}{ending}"
    torch.save(wrapped(WEIGHTS), path, _use_new_zipfile_serialization=not old)
    check(path)
    assert {name: entry.dtype for name, entry in containers.read_header(path).entries.items()} == TYPES


class Program:
    """What a pickle may hold."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("was here",)


@pytest.mark.parametrize("old", [False, True])
def test_a_program_in_a_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": WEIGHTS, "callbacks": Program()}, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(ModelError, match=r"holds more than weights.*safetensors") as problem:
        containers.read_header(path)
    assert "\n" not in str(problem.value)
    assert not (tmp_path / "was here").exists()


def test_a_plain_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Program(), protocol=2))
    with pytest.raises(VelaturaError):
        containers.tensors(tmp_path / "a.pt")
    assert not (tmp_path / "was here").exists()


def test_a_file_that_unpacks_to_more_than_its_size_is_refused_unopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 1_000_000)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("was opened"))
    with pytest.raises(ModelError, match="unpacks to more than its size"):
        containers.read_header(path)


def test_an_old_file_that_the_memory_cannot_hold_is_refused_unopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(WEIGHTS, path := tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    monkeypatch.setattr(machine, "memory", lambda: (1000, 100))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("was opened"))
    with pytest.raises(ModelError, match="memory is too small"):
        containers.read_header(path)


@pytest.mark.parametrize("value", [5, [WEIGHTS], {"a": 1}, {"state_dict": {}}])
def test_a_file_without_weights_says_so(tmp_path: Path, value: Any) -> None:
    torch.save(value, path := tmp_path / "a.pt")
    with pytest.raises(ModelError, match="holds no weights"):
        containers.read_header(path)


@pytest.mark.parametrize("kept", [0, 1, 10, 300, -30])
def test_a_pickled_file_that_is_cut_off_is_one_sentence(tmp_path: Path, kept: int) -> None:
    torch.save(WEIGHTS, path := tmp_path / "a.ckpt")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(VelaturaError):
        containers.tensors(path)


@pytest.mark.parametrize("ending", [".safetensors", ".ckpt", ".gguf"])
def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path, ending: str) -> None:
    with pytest.raises(FileProblem, match="no such file"):
        containers.read_header(tmp_path / f"a{ending}")


def test_a_tensor_that_claims_to_be_huge_is_not_made_huge(tmp_path: Path) -> None:
    """A shape of 10**12 over one number takes no memory until it is copied, which its shape forbids."""
    torch.save({"a": torch.zeros(1).expand(1_000_000, 1_000_000)}, path := tmp_path / "a.ckpt")
    assert containers.read_header(path).entries["a"].shape == (1_000_000, 1_000_000)


def test_a_header_is_read_again_when_the_file_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for names in (("a",), ("a", "b")):
        path.write_bytes(tensorfile.to_bytes({name: np.zeros(2, np.float32) for name in names}))
        assert set(containers.read_header(path).entries) == set(names)


def test_a_part_is_what_stands_behind_its_prefix_in_all_of_its_files(tmp_path: Path) -> None:
    torch.save(WEIGHTS, first := tmp_path / "1.ckpt")
    (second := tmp_path / "2.safetensors").write_bytes(tensorfile.to_bytes({"model.d": np.ones(2, np.float32)}))
    part = held(PartFiles((first, second), "model."))
    assert set(part) == {"a.weight", "b.bias", "c", "d"}
    assert torch.equal(part["a.weight"], WEIGHTS["model.a.weight"])


# --- GGUF ------------------------------------------------------------------------------------


def gguf_file(
    path: Path,
    tensors: dict[str, Tensor],
    kind: str,
    shapes: dict[str, tuple[int, ...]] | None = None,
    words: int = 0,
    **told: str,
) -> Path:
    """A file in which every matrix is in this type, and all else in fp32."""
    gguf = pytest.importorskip("gguf")
    quants = pytest.importorskip("gguf.quants")
    writer = gguf.GGUFWriter(path, "flux")
    writer.add_token_list([f"word {number}" for number in range(words)])
    writer.add_token_scores([0.5] * words)
    for key, value in told.items():
        writer.add_string(key, value)
    for name, shape in (shapes or {}).items():
        writer.add_array(f"comfy.gguf.orig_shape.{name}", [int(length) for length in shape])
    for name, tensor in tensors.items():
        wanted = gguf.GGMLQuantizationType[kind if tensor.dim() > 1 else "F32"]
        writer.add_tensor(name, quants.quantize(tensor.float().numpy(), wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("kind", "error"), [("F32", 0.0), ("F16", 1e-3), ("BF16", 1e-2), ("Q8_0", 2e-2), ("Q4_0", 0.3)]
)
def test_gguf_is_multiplied_out(tmp_path: Path, kind: str, error: float) -> None:
    drawn = {"a.weight": torch.randn(3, 64, generator=torch.Generator().manual_seed(0)), "a.bias": torch.ones(3)}
    path = gguf_file(tmp_path / "größe \N{ARTIST PALETTE}.gguf", drawn, kind)
    header, tensors = containers.read_header(path), containers.tensors(path)
    assert {name: entry.shape for name, entry in header.entries.items()} == {"a.weight": (3, 64), "a.bias": (3,)}
    assert (header.entries["a.weight"].dtype, header.entries["a.bias"].dtype) == (kind, "F32")
    assert float((tensors["a.weight"] - drawn["a.weight"]).abs().max()) <= error
    assert torch.equal(tensors["a.bias"], drawn["a.bias"])
    tensors["a.weight"].add_(1)  # a copy of one's own
    assert float((tensors["a.weight"] - drawn["a.weight"]).abs().max()) <= error


def test_a_tensor_that_was_reshaped_gets_its_shape_back(tmp_path: Path) -> None:
    convolution = torch.arange(64, dtype=torch.float32).reshape(2, 32)
    path = gguf_file(tmp_path / "a.gguf", {"a": convolution}, "F32", {"a": (2, 8, 2, 2)})
    assert containers.read_header(path).entries["a"].shape == (2, 8, 2, 2)
    assert torch.equal(containers.tensors(path)["a"], convolution.reshape(2, 8, 2, 2))


@pytest.mark.parametrize("shape", [(5, 5), (0, 64), (1 << 30, 1 << 30)])
def test_a_gguf_header_that_lies_about_shapes_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = gguf_file(tmp_path / "a.gguf", {"a": torch.ones(2, 32)}, "F32", {"a": shape})
    with pytest.raises(FileProblem, match="damaged"):
        containers.read_header(path)


@pytest.mark.parametrize("lie", ["an array", "a text", "the fields", "the tensors"])
def test_a_gguf_header_that_counts_beyond_the_file_is_refused_at_once(tmp_path: Path, lie: str) -> None:
    pytest.importorskip("gguf")
    many, array, text, byte = (1 << 60), 9, 8, 0
    fields, tensors = {"the fields": (many, 0), "the tensors": (0, many)}.get(lie, (1, 0))
    data = b"GGUF" + struct.pack("<IQQ", 3, tensors, fields)
    if lie == "an array":
        data += struct.pack("<Q1sIIQ", 1, b"a", array, byte, many)
    elif lie == "a text":
        data += struct.pack("<Q1sIQ", 1, b"a", text, many)
    (path := tmp_path / "a.gguf").write_bytes(data + b"\0" * 64)
    with pytest.raises(FileProblem, match="damaged"):
        containers.read_header(path)


@pytest.mark.parametrize("kept", [0, 4, 40, 200, -8])
def test_a_gguf_file_that_is_cut_off_is_one_sentence(tmp_path: Path, kept: int) -> None:
    path = gguf_file(tmp_path / "a.gguf", {"a": torch.ones(2, 32)}, "F32")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FileProblem):
        containers.read_header(path)


def test_without_its_package_the_header_of_gguf_is_read_and_its_weights_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = gguf_file(tmp_path / "a.gguf", {"a": torch.ones(2, 32)}, "Q8_0")
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "gguf" else real(name, *more))
    assert containers.read_header(path).entries["a"].dtype == "Q8_0"
    with pytest.raises(MissingExtra) as problem:
        containers.tensors(path)
    assert problem.value.fix == 'pip install "velatura[gguf]"'


def test_the_types_of_gguf_are_those_of_its_package() -> None:
    gguf = pytest.importorskip("gguf")
    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {number: theirs[number] for number in gguf_format.TYPES} == gguf_format.TYPES


def test_a_gguf_header_with_a_tokenizer_is_the_package_s_and_read_at_once(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    drawn = {"a.weight": torch.ones(3, 64), "a.bias": torch.ones(3), "b": torch.ones(5, 2, 3)}
    path = gguf_file(tmp_path / "a.gguf", drawn, "F16", words=2000, **{"velatura.config": "größe"})
    header = containers.read_header(path)
    theirs = gguf.GGUFReader(path)
    assert header.data_start == theirs.data_offset
    assert header.metadata == {"general.architecture": "flux", "velatura.config": "größe"}
    for tensor in theirs.tensors:
        entry = header.entries[tensor.name]
        assert (entry.dtype, entry.start, entry.end - entry.start) == (
            tensor.tensor_type.name,
            tensor.data_offset - theirs.data_offset,
            tensor.n_bytes,
        )
        assert list(entry.shape) == [int(length) for length in reversed(tensor.shape)]

    path = gguf_file(tmp_path / "large.gguf", drawn, "F16", words=150_000)
    before = time.process_time()
    containers.read_header(path)
    assert time.process_time() - before < 1, "the package's own reader takes ten seconds"


def test_weights_of_a_type_that_is_not_known_are_one_sentence(tmp_path: Path) -> None:
    path = gguf_file(tmp_path / "a.gguf", {"a": torch.ones(2, 32)}, "F32")
    data = bytearray(path.read_bytes())
    place = data.rindex(struct.pack("<Q1sIQQI", 1, b"a", 2, 32, 2, 0)) + 29
    data[place : place + 4] = struct.pack("<I", 99)
    path.write_bytes(data)
    with pytest.raises(ModelError, match="type 99 cannot be read"):
        containers.read_header(path)


def test_what_pytorch_writes_is_not_compressed(tmp_path: Path) -> None:
    """Else the check of sizes would refuse real files."""
    torch.save(WEIGHTS, buffer := io.BytesIO())
    with zipfile.ZipFile(buffer) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.skipif(sys.platform != "linux", reason="needs files with holes, and Linux's way of counting memory")
def test_a_file_larger_than_the_machine_s_memory_is_mapped(tmp_path: Path) -> None:
    total = (machine.memory() or (1 << 34, 0))[0]
    rows = total // (1 << 21) + 1
    path = sparse.write(tmp_path / "large.safetensors", {"a": ("F32", (rows, 1 << 20)), "b": ("BF16", (2, 3))})
    assert path.stat().st_size > 2 * total
    found = containers.tensors(path)
    assert found["a"].shape == (rows, 1 << 20)
    assert float(found["a"][-1, -1]) == 0.0
    assert found["b"].dtype == torch.bfloat16
