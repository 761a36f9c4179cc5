"""The safetensors library is the oracle: it reads what we write, and we read what it writes."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch

from velatura import tensorfile
from velatura.errors import FileProblem
from velatura.tensorfile import RawTensor

METADATA = {"ss_network_dim": "16", "modelspec.title": "größe \N{ARTIST PALETTE}", "a": ""}


def some_arrays() -> dict[str, np.ndarray[Any, Any]]:
    draw = np.random.default_rng(0)
    return {
        "up.weight": draw.standard_normal((3, 5)).astype(np.float32),
        "up.alpha": np.array(4.0, np.float16),
        "table": draw.standard_normal((2, 2, 2)),
        "mask": np.array([True, False, True]),
        "codes": np.arange(7, dtype=np.uint8),
        "empty": np.zeros((0, 4), np.float32),
    }


def written(header: object, data: bytes = b"") -> bytes:
    """A file with a header of our making."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(tensorfile.to_bytes(some_arrays(), METADATA))

    loaded = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata() == METADATA

    assert loaded.keys() == some_arrays().keys()
    for name, array in some_arrays().items():
        assert loaded[name].dtype == array.dtype and loaded[name].shape == array.shape
        np.testing.assert_array_equal(loaded[name], array)


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int64],
    ids=str,
)
def test_we_read_what_the_library_writes(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.tensor([[0.0, -1.5, 448.0], [2**-6, -0.0625, 3.0]]).to(dtype)
    safetensors.torch.save_file({"w": values}, tmp_path / "a.safetensors", metadata=METADATA)

    tensors, metadata = tensorfile.read(tmp_path / "a.safetensors")

    assert metadata == METADATA
    assert tensors["w"].shape == (2, 3)
    np.testing.assert_array_equal(tensorfile.as_float32(tensors["w"]), values.float().numpy())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_all_256_codes_of_an_8_bit_float_are_what_torch_takes_them_for(dtype: torch.dtype) -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    name = "F8_E4M3" if dtype == torch.float8_e4m3fn else "F8_E5M2"

    ours = tensorfile.as_float32(RawTensor(name, (256,), bytes(codes.tolist())))

    np.testing.assert_array_equal(ours, codes.view(dtype).float().numpy())


def test_what_was_read_is_written_back_unchanged_in_every_type(tmp_path: Path) -> None:
    kinds = {"a": torch.bfloat16, "b": torch.float8_e4m3fn, "c": torch.float8_e5m2, "d": torch.float32}
    tensors = {name: torch.arange(6.0).to(kind) for name, kind in kinds.items()}
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors")

    (tmp_path / "b.safetensors").write_bytes(tensorfile.to_bytes(tensorfile.read(tmp_path / "a.safetensors")[0]))

    again = safetensors.torch.load_file(tmp_path / "b.safetensors")
    for name, tensor in tensors.items():
        assert again[name].dtype == tensor.dtype
        torch.testing.assert_close(again[name].float(), tensor.float(), rtol=0, atol=0)


def test_equal_content_gives_equal_bytes_in_any_order_of_insertion() -> None:
    forwards = tensorfile.to_bytes(some_arrays(), METADATA)
    backwards = tensorfile.to_bytes(dict(reversed(some_arrays().items())), dict(reversed(METADATA.items())))

    assert forwards == backwards
    assert forwards != tensorfile.to_bytes(some_arrays(), METADATA | {"a": "b"})


def test_every_tensor_lies_aligned_to_its_elements(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(tensorfile.to_bytes(some_arrays(), METADATA))
    header = tensorfile.read_header(path)

    for entry in header.entries.values():
        assert (header.data_start + entry.start) % tensorfile.ITEM_BYTES[entry.dtype] == 0


def test_arrays_of_another_layout_are_brought_into_the_files() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)

    for same in (array.T.copy().T, array.astype(">f4")):
        assert tensorfile.raw(same) == tensorfile.raw(array)


def test_a_tensor_whose_bytes_do_not_fit_its_shape_is_not_written() -> None:
    with pytest.raises(ValueError, match="w has 4 bytes"):
        tensorfile.to_bytes({"w": RawTensor("F32", (2,), b"1234")})


def test_a_file_cut_off_anywhere_is_one_sentence(tmp_path: Path) -> None:
    whole = tensorfile.to_bytes(some_arrays(), METADATA)
    path = tmp_path / "a.safetensors"

    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(FileProblem):
            tensorfile.read(path)


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 4,
        b"\xff" * 64,
        b"PK\x03\x04 this is a zip file, and not a small one",
        b"<!doctype html><html><body>404</body></html>",
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 100_000_001) + b"{}",
        written(b"not json"),
        written(b"\xff\xfe\xfd"),
        written(b"[" * 100_000),
        written([]),
        written("text"),
        written({"w": 5}),
        written({"__metadata__": 5}),
        written({"w": ENTRY | {"dtype": ["F32"]}}),
        written({"w": ENTRY | {"shape": [-1, -1]}}, b"1234"),
        written({"w": ENTRY | {"shape": [1.5]}}, b"1234"),
        written({"w": ENTRY | {"shape": "1"}}, b"1234"),
        written({"w": ENTRY | {"shape": [2]}}, b"1234"),
        written({"w": ENTRY | {"data_offsets": [4, 0]}}, b"1234"),
        written({"w": ENTRY | {"data_offsets": [0, 4, 8]}}, b"12345678"),
        written({"w": ENTRY | {"data_offsets": [-4, 0]}}, b"1234"),
        written({"w": ENTRY}, b"123"),
        written({"w": ENTRY | {"shape": [10**30], "data_offsets": [0, 4 * 10**30]}}, b"1234"),
        written({"w": ENTRY | {"dtype": "F4X", "data_offsets": [8, 4]}}, b"12345678"),
    ],
    ids=range(25),
)
def test_garbage_is_one_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)

    with pytest.raises(FileProblem) as caught:
        tensorfile.read(path)

    assert caught.value.where == str(path)


def test_a_whole_file_made_by_hand_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(written({"w": ENTRY}, struct.pack("<f", 2.5)))

    tensors, _ = tensorfile.read(tmp_path / "a.safetensors")

    assert tensorfile.as_float32(tensors["w"]).tolist() == [2.5]


def test_a_type_that_numbers_cannot_be_made_of_is_one_sentence() -> None:
    with pytest.raises(FileProblem, match="F4 cannot be read"):
        tensorfile.as_float32(RawTensor("F4", (2,), b"1"))


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="no such file"):
        tensorfile.read_header(tmp_path / "a.safetensors")


def test_the_tensor_hash_does_not_see_the_metadata() -> None:
    plain, told = (tensorfile.to_bytes(some_arrays(), metadata) for metadata in (None, METADATA))

    assert plain != told
    assert tensorfile.tensor_hash(plain) == tensorfile.tensor_hash(told)
    other = some_arrays() | {"codes": np.ones(7, np.uint8)}
    assert tensorfile.tensor_hash(plain) != tensorfile.tensor_hash(tensorfile.to_bytes(other))
