"""Files that are damaged or made to do harm: one sentence each, little memory, no crash.

Mutations are drawn from named streams, so a failure can be made again. VELATURA_FUZZ=N draws N of them.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adapters.algebra.files import STEMS, random_lora
from velatura import randomness, tensorfile
from velatura.adapters import formats
from velatura.adapters.algebra.inspect import inspect
from velatura.adapters.algebra.overlap import overlap
from velatura.adapters.algebra.resize import Rule, resize
from velatura.adapters.algebra.scale import scale
from velatura.adapters.algebra.sides import spelled
from velatura.adapters.algebra.spectrum import spectrum
from velatura.errors import VelaturaError
from velatura.families import names

COUNT = int(os.environ.get("VELATURA_FUZZ", "2000"))

MEMORY = 8_000_000
"""Bytes that reading any of these files may take; each is of a few kilobytes."""

Draw = np.random.Generator
Parts = tuple[dict[str, Any], bytes]
"""A header as JSON would have it, and the bytes behind it."""


def valid(*, dora: bool = False) -> Parts:
    """A file with layers of several kinds."""
    draw = np.random.default_rng(0)
    tensors = random_lora(stems=STEMS[1:3], rank=4)
    other = STEMS[3]
    tensors |= {
        f"{other}.hada_w{number}_{half}": draw.standard_normal(shape).astype(np.float32)
        for number in (1, 2)
        for half, shape in (("a", (24, 3)), ("b", (3, 20)))
    }
    tensors[f"{STEMS[0]}.lokr_w1"] = tensors[f"{STEMS[0]}.lokr_w2"] = draw.standard_normal((4, 5)).astype(np.float32)
    if dora:
        tensors[f"{STEMS[2]}.dora_scale"] = np.ones((24, 1), np.float32)
    told = {"ss_network_dim": "4", "ss_tag_frequency": '{"a": {"sea": 3}}', "velatura.lineage": "[]"}
    data = tensorfile.to_bytes(tensors, told)
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def file_of(parts: Parts) -> bytes:
    text = json.dumps(parts[0]).encode()
    return struct.pack("<Q", len(text)) + text + parts[1]


def any_key(parts: Parts, draw: Draw) -> str:
    return sorted(key for key in parts[0] if key != "__metadata__")[draw.integers(len(parts[0]) - 1)]


STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**62, 2**80, 1.5, float("nan"), "", "x", [], [0], [[0, 4]], {}, {"a": 1},
    "F32", "I4", "BF16",
)  # fmt: skip


def cut(data: bytes, draw: Draw) -> bytes:
    return data[: draw.integers(len(data))]


def flipped(data: bytes, draw: Draw) -> bytes:
    changed = bytearray(data)
    for place in draw.integers(len(data), size=draw.integers(1, 9)):
        changed[place] = draw.integers(256)
    return bytes(changed)


def grown(data: bytes, draw: Draw) -> bytes:
    return data + draw.bytes(int(draw.integers(1, 64)))


def length(data: bytes, draw: Draw) -> bytes:
    told = (0, 1, 2, 100, len(data), len(data) - 8, 2**31, 2**32, 2**60, 2**63, 2**64 - 1, 99_999_999, 100_000_001)
    return struct.pack("<Q", told[draw.integers(len(told))]) + data[8:]


def field(parts: Parts, draw: Draw) -> bytes:
    entry = parts[0][any_key(parts, draw)]
    name = ("dtype", "shape", "data_offsets")[draw.integers(3)]
    if draw.random() < 0.15:
        del entry[name]
    elif name != "dtype" and draw.random() < 0.6:
        at = draw.integers(max(1, len(entry[name])))
        entry[name] = [*entry[name][:at], STRANGE[draw.integers(len(STRANGE))], *entry[name][at + 1 :]]
    else:
        entry[name] = STRANGE[draw.integers(len(STRANGE))]
    return file_of(parts)


def overlapping(parts: Parts, draw: Draw) -> bytes:
    one, other = any_key(parts, draw), any_key(parts, draw)
    parts[0][one]["data_offsets"] = list(parts[0][other]["data_offsets"])
    return file_of(parts)


def shape(parts: Parts, draw: Draw) -> bytes:
    entry = parts[0][any_key(parts, draw)]
    count = int(np.prod(entry["shape"], dtype=np.int64))
    shapes = ([count], [1, count], [count, 1], [1] * 7 + [count], [1] * 40 + [count], [count, 1, 1, 1], [2, count // 2])
    entry["shape"] = list(shapes[draw.integers(len(shapes))])
    return file_of(parts)


def renamed(parts: Parts, draw: Draw) -> bytes:
    key = any_key(parts, draw)
    stem, _, end = key.partition(".")
    ends = (
        ".lora_mid.weight",
        ".oft_blocks",
        ".oft_R.weight",
        ".oft_R.scaled_oft",
        ".boft_R",
        ".lora_A.weight",
        ".alpha",
        ".unheard_of",
        ".a1.weight",
        ".diff",
        ".weight",
        "",
    )
    new = (f"{stem}.{ends[draw.integers(len(ends))]}", f"{STEMS[1]}.{end}", "\x00\x1b[2J" + key, "", key * 40)
    parts[0][new[draw.integers(len(new))]] = parts[0].pop(key)
    return file_of(parts)


def values(parts: Parts, draw: Draw) -> bytes:
    entry = parts[0][any_key(parts, draw)]
    first, last = entry["data_offsets"]
    poison = (np.nan, np.inf, -np.inf, 3e38, 1e-45, 0.0)[draw.integers(6)]
    poisoned = np.frombuffer(parts[1][first:last], np.float32).copy()
    poisoned[draw.integers(len(poisoned)) :] = poison
    return file_of((parts[0], parts[1][:first] + poisoned.tobytes() + parts[1][last:]))


def metadata(parts: Parts, draw: Draw) -> bytes:
    told = parts[0]["__metadata__"]
    key = sorted(told)[draw.integers(len(told))]
    told[key] = ("[" * 5000, "{", "null", "[1]", '{"a": [1]}', '{"a": {"b": "c"}}', "\x1b[31m", "9" * 5000)[
        draw.integers(8)
    ]
    if draw.random() < 0.3:
        parts[0]["__metadata__"] = STRANGE[draw.integers(len(STRANGE))]
    return file_of(parts)


def doubled(parts: Parts, draw: Draw) -> bytes:
    key = any_key(parts, draw)
    text = json.dumps(parts[0]).encode()
    text = text[:-1] + b"," + json.dumps({key: parts[0][key]}).encode()[1:]
    return struct.pack("<Q", len(text)) + text + parts[1]


ON_BYTES: tuple[Callable[[bytes, Draw], bytes], ...] = (cut, flipped, grown, length)
ON_PARTS: tuple[Callable[[Parts, Draw], bytes], ...] = (
    field, field, overlapping, shape, renamed, values, metadata, doubled,
)  # fmt: skip


def mutated(number: int) -> bytes:
    draw = randomness.generator(number, "fuzz")
    which = draw.integers(len(ON_BYTES) + len(ON_PARTS))
    if which < len(ON_BYTES):
        return ON_BYTES[which](file_of(valid()), draw)
    return ON_PARTS[which - len(ON_BYTES)](valid(dora=bool(draw.random() < 0.3)), draw)


def uses(path: Path, out: Path) -> Iterator[Callable[[], object]]:
    """Everything that reads a file of unknown origin."""
    yield lambda: inspect(path)
    yield lambda: spectrum(path)
    yield lambda: resize(path, out, Rule("fro", 0.9))
    yield lambda: scale(path, out, ["ALL:0.5"])
    yield lambda: overlap(*spelled([path, path]))
    yield lambda: formats.read(path, keys=names.keys("sd15"), layers=SMALL)
    yield lambda: formats.read(path, keys=names.keys("sd15"), layers=SMALL, partial=True)


SMALL = {
    "denoiser.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": (24, 20),
    "denoiser.mid_block.attentions.0.proj_in": (24, 20),
    "denoiser.up_blocks.1.attentions.2.transformer_blocks.0.ff.net.2": (24, 20),
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": (16, 25),
}
"""The layers that the valid file is for."""


def answered(data: bytes, folder: Path) -> list[str | None]:
    """What each use says: a sentence, or nothing where it went through."""
    path, said = folder / "a.safetensors", []
    path.write_bytes(data)
    for place, use in enumerate(uses(path, folder / "b.safetensors")):
        try:
            with np.errstate(all="ignore"):
                use()
        except VelaturaError as error:
            assert error.what and "\n" not in error.what, place
            said.append(error.what)
        else:
            said.append(None)
    assert not [left for left in folder.iterdir() if left.name.endswith(".part")]
    return said


def test_the_file_that_is_mutated_is_read_by_everything(tmp_path: Path) -> None:
    assert not any(answered(file_of(valid()), tmp_path))


def test_thousands_of_mutated_files_end_in_a_sentence_or_in_a_result(tmp_path: Path) -> None:
    refused = 0
    for number in range(COUNT):
        try:
            refused += any(answered(mutated(number), tmp_path))
        except Exception as error:
            raise AssertionError(f"mutation {number}: {type(error).__name__}: {error}") from error
    assert COUNT * 0.3 < refused < COUNT


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 90_000_000) + b"[" * 1000,
        pickle.dumps({"state_dict": [0] * 100}),
        b"PK\x03\x04" + bytes(200),
        b"GGUF" + bytes(60),
        b"\x89PNG\r\n\x1a\n" + bytes(60),
        file_of(({"a.lora_up.weight": {"dtype": "F32", "shape": [2**62, 0], "data_offsets": [0, 0]}}, b"")),
        file_of(({"a.lora_up.weight": {"dtype": "F32", "shape": [0] * 70, "data_offsets": [0, 0]}}, b"")),
        file_of(({"a.lora_up.weight": {"dtype": "F32", "shape": [2**31, 2**33], "data_offsets": [0, 8]}}, bytes(8))),
    ],
    ids=range(12),
)
def test_hostile_files_take_no_memory(tmp_path: Path, data: bytes) -> None:
    tracemalloc.start()
    try:
        said = answered(data, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert all(said) and peak < MEMORY


@pytest.mark.parametrize("filling", [b"{},", b"[],", b'"":{},', b"0,", b"{}{}{}"], ids=str)
def test_a_header_of_many_small_values_is_refused_before_it_is_parsed(tmp_path: Path, filling: bytes) -> None:
    text = b"[" + filling * (9_000_000 // len(filling)) + b"0]"
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)

    tracemalloc.start()
    try:
        with pytest.raises(VelaturaError):
            inspect(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 12 * len(text)


def test_a_pickle_under_another_name_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(pickle.dumps(random_lora()))

    with pytest.raises(VelaturaError, match="pickled"):
        inspect(path)
