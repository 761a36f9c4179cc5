"""Latents and encoded captions kept in the user's cache folder, so that a second start encodes nothing.

    CACHE/encoded/3f/3fa9....safetensors      a shard: records of one start, written whole and never changed

A record is found by a hash of all that it depends on: the picture's content and how it is cut, or the caption's words,
and the weights, settings and program that encode it. An edited caption or picture therefore has another record, and
nothing that is stale can be found. Numbers are kept in the narrowest of bf16, fp16 and fp32 that holds every one of
them exactly: with and without the cache a training is the same, bit for bit.

What is found is mapped, and so in memory as far as there is room. A damaged shard is deleted and its records are made
again; of two processes each writes shards of its own. The shards longest out of use go where all are more than
`cache_limit` of the user's settings.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from velatura import settings as user
from velatura import tensorfile
from velatura.errors import FileProblem
from velatura.files import make_folder, writing
from velatura.tensorfile import RawTensor

FORMAT = 1
"""Counts up when what is encoded changes; records of other counts are not found."""

SHARD = 256_000_000
"""Bytes after which a shard is written, so that a start that is ended loses little."""

TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.bool: "BOOL"}
NAMED = {name: dtype for dtype, name in TYPES.items()}

PLACES = ("latents", "tokens", "pooled", "mask")
"""What a record may hold."""

Record = dict[str, Tensor]
"""The tensors of one thing that was encoded, by what they are."""


def key(*parts: Any) -> str:
    """The name of a record: a hash of all that it depends on, in plain values."""
    told = json.dumps([FORMAT, *parts], sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(told.encode(), digest_size=20).hexdigest()


class Cache:
    """The records of one kind of encoder."""

    def __init__(self, encoder: str, *, keep: bool = True) -> None:
        """Find what is there.

        Args:
            encoder: a hash of what encodes; its records lie in a folder of their own.
            keep: otherwise nothing is found and nothing is written: all stays in memory.
        """
        told = user.load()
        self._root, self._limit = told.cache / "encoded", int(told.cache_limit * 1e9) if keep else 0
        self._folder = self._root / encoder[:16]
        self._shards: dict[Path, tuple[dict[str, RawTensor], dict[str, str]]] = {}
        self._found: dict[str, Path] = {}
        self._records: dict[str, Record] = {}
        self._used: set[Path] = set()
        self._waiting: list[str] = []
        self._bytes = 0
        self.problem: FileProblem | None = None
        """Why nothing can be kept; what is encoded then stays in memory."""
        for path in sorted(self._folder.glob("*.safetensors")) if self._limit else []:
            with contextlib.suppress(FileProblem):
                self._add(path)

    def get(self, name: str) -> Record | None:
        """A record, mapped; None where there is none, or a damaged one."""
        if name in self._records:
            return self._records[name]
        path = self._found.get(name)
        if path is None:
            return None
        record = _read(*self._shards[path], name)
        if record is None:
            self._forget(path)
            return None
        if path not in self._used:
            self._used.add(path)
            with contextlib.suppress(OSError):
                os.utime(path)  # in use: others go before it
        self._records[name] = record
        return record

    def get_made(self, name: str) -> Record:
        """A record that was found or put."""
        return self._records[name]

    def put(self, name: str, record: Mapping[str, Tensor]) -> None:
        """Keep a record; it is on the disk after `flush`, or sooner."""
        self._records[name] = {which: tensor.detach().cpu() for which, tensor in record.items()}
        self._waiting.append(name)
        self._bytes += sum(tensor.numel() * tensor.element_size() for tensor in record.values())
        if self._bytes >= SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what waits, and make room where there is too much; where the disk refuses it stays in memory."""
        if not self._waiting or not self._limit or self.problem is not None:
            return
        path = self._folder / f"{key(*sorted(self._waiting))}.safetensors"
        try:
            make_folder(self._folder)
            _write(path, {name: self._records[name] for name in self._waiting})
            self._add(path)
        except FileProblem as problem:
            self.problem = problem
            return
        for name in self._waiting:  # from now on mapped, and read back whole
            self._records[name] = _read(*self._shards[path], name) or self._records[name]
        self._waiting, self._bytes = [], 0
        self._make_room()

    def _add(self, path: Path) -> None:
        """A shard's records.

        Raises:
            FileProblem: it is damaged, and has been deleted.
        """
        try:
            self._shards[path] = tensorfile.read(path)
        except FileProblem:
            _delete(path)
            raise
        for place in self._shards[path][0]:
            self._found[place.partition("/")[0]] = path

    def _forget(self, path: Path) -> None:
        """Give up a damaged shard; what was found whole in it is kept anew."""
        for name in [name for name, there in self._found.items() if there == path]:
            whole = self._records.get(name) or _read(*self._shards[path], name)
            if whole is not None:
                self._records[name] = whole
                self._waiting.append(name)
        self._found = {name: there for name, there in self._found.items() if there != path}
        del self._shards[path]
        _delete(path)

    def _make_room(self) -> None:
        """Delete the shards longest out of use until the rest is within the limit; none that is used here."""
        own = {self._found[name] for name in self._records if name in self._found} | self._used
        known = []
        for path in self._root.glob("*/*.safetensors"):
            with contextlib.suppress(OSError):
                told = path.stat()
                known.append((told.st_mtime, told.st_size, path))
        total = sum(size for _, size, _ in known)
        for _, size, path in sorted(known):
            if total <= self._limit:
                return
            if path not in own:
                _delete(path)
                total -= size


def _write(path: Path, records: Mapping[str, Record]) -> None:
    tensors: dict[str, RawTensor] = {}
    marks: dict[str, str] = {}
    for name, record in records.items():
        for which, tensor in record.items():
            raw = _narrowest(tensor)
            tensors[f"{name}/{which}"] = raw
            marks[f"{name}/{which}"] = f"{TYPES[tensor.dtype]} {zlib.crc32(raw.data)}"
    with writing(path) as file:
        file.write(tensorfile.head(tensors, marks))
        for place in tensorfile.order(tensors):
            file.write(tensors[place].data)


def _read(tensors: Mapping[str, RawTensor], marks: Mapping[str, str], name: str) -> Record | None:
    """A record of a shard, each tensor as it was; None where one is damaged."""
    record = {}
    for place in [one for one in PLACES if f"{name}/{one}" in tensors]:
        raw = tensors[f"{name}/{place}"]
        dtype, _, mark = marks.get(f"{name}/{place}", "").partition(" ")
        if dtype not in NAMED or raw.dtype not in NAMED or str(zlib.crc32(raw.data)) != mark:
            return None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            kept = torch.frombuffer(raw.data, dtype=NAMED[raw.dtype]) if len(raw.data) else torch.empty(0)
        record[place] = kept.reshape(raw.shape).to(NAMED[dtype])
    return record


def _narrowest(tensor: Tensor) -> RawTensor:
    """The tensor in the smallest type that holds each of its numbers exactly."""
    held = tensor.contiguous()
    if held.dtype == torch.float32:
        for dtype in (torch.bfloat16, torch.float16):
            narrow = held.to(dtype)
            if torch.equal(narrow.float().view(torch.int32), held.view(torch.int32)):
                held = narrow
                break
    data = held.reshape(-1).view(torch.uint8).numpy().tobytes()
    return RawTensor(TYPES[held.dtype], tuple(tensor.shape), data)


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):  # another process has it open, or was first
        path.unlink()
