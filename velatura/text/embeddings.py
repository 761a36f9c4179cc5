"""Textual-inversion embeddings: vectors that take the place of a word, namely the name of their file.

    .safetensors   `emb_params`; `clip_l` and `clip_g` (SDXL); or one tensor under any name, as diffusers writes it
    .pt .bin       A1111's `string_to_param`, or one of the above; a pickle, of which tensors alone are read

In a prompt the bare name stands for them, as in A1111, or `embedding:name`, as in ComfyUI; case does not matter. A
bare name whose vectors are of another width than the base's is a word like any other, as in A1111, and `find` says so.
Source: Gal et al. 2022, arXiv:2208.01618.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from velatura import tensorfile
from velatura.errors import ModelError, SettingsError, nearest
from velatura.files import disk_problems, sha256
from velatura.text.clip_tokens import CHUNK, ClipTokenizer, Spellings, spellings, units
from velatura.text.weighted import Embedding, WeightedText

ENDINGS = (".safetensors", ".pt", ".bin")

_EXPLICIT = re.compile(r"\bembedding:([^\s,]+)")


@dataclass(frozen=True)
class Found:
    """The embeddings that prompts name."""

    embeddings: tuple[Embedding, ...] = ()
    passed_over: tuple[str, ...] = ()
    """A sentence for each file that is named and does not fit the base."""


def load(path: Path, widths: Sequence[int]) -> Embedding:
    """An embedding for a base whose CLIP text encoders have these widths.

    Raises:
        ModelError: it is damaged, of no known kind, or for another base.
    """
    embedding = read(path)
    if set(embedding.vectors) != set(widths):
        raise ModelError(_other_base(embedding, widths), where=path, fix="use it with the base that it was made for")
    return embedding


def read(path: Path) -> Embedding:
    """An embedding for whatever base.

    Raises:
        ModelError: it is damaged, or of no known kind.
    """
    arrays = _safetensors(path) if path.suffix.lower() == ".safetensors" else _pickle(path)
    if set(arrays) != {"clip_l", "clip_g"} and len(arrays) != 1:
        raise _unknown(path)
    vectors: dict[int, NDArray[np.float32]] = {}
    for array in arrays.values():
        if array.ndim not in (1, 2) or not array.size or not np.isfinite(array).all():
            raise _unknown(path)
        vectors[array.shape[-1]] = array.reshape(-1, array.shape[-1])
    counts = {len(array) for array in vectors.values()}
    if len(vectors) != len(arrays) or len(counts) != 1:
        raise _unknown(path)
    if max(counts) > CHUNK:
        raise ModelError(
            f"this embedding takes {max(counts)} tokens, and a chunk of a prompt holds {CHUNK}", where=path
        )
    return Embedding(path.stem, vectors, sha256(path))


def to_bytes(vectors: Mapping[str, NDArray[np.float32]]) -> bytes:
    """An embedding as a file that A1111, ComfyUI and diffusers read.

    Args:
        vectors: part of the base's text -> (tokens, width), "clip_l" and "clip_g" of SDXL.
    """
    named = vectors if len(vectors) > 1 else {"emb_params": next(iter(vectors.values()))}
    return tensorfile.to_bytes({name: tensorfile.raw(one.astype(np.float32)) for name, one in named.items()}, {})


def find(
    texts: Sequence[WeightedText], tokenizer: ClipTokenizer, widths: Sequence[int], folders: Sequence[Path]
) -> Found:
    """The embeddings that prompts name, out of folders and the folders in them.

    Args:
        widths: of the base's CLIP text encoders.
        folders: those that are missing are passed over.

    Raises:
        SettingsError: `embedding:name` means no file, or a name means several.
        ModelError: a file is damaged, or one that `embedding:name` means is for another base.
    """
    files = files_of(folders)
    spelt = spellings(files, tokenizer)
    pieces = [piece for text in texts for piece, _ in text.pieces]
    asked = {name for piece in pieces for name in _asked(piece, tokenizer, spelt, list(files))}
    found: dict[str, Embedding] = {}
    passed_over: list[str] = []
    while fresh := [name for piece in pieces for name in _named(piece, tokenizer, spelt) if name not in found]:
        path = _only(fresh[0], files)
        embedding = load(path, widths) if fresh[0] in asked else read(path)
        if set(embedding.vectors) == set(widths):
            found[fresh[0]] = embedding
            continue
        passed_over.append(f"{path.name} is read as words: {_other_base(embedding, widths)}")
        del files[fresh[0]]
        spelt = spellings(files, tokenizer)
    return Found(tuple(found.values()), tuple(passed_over))


def named(texts: Sequence[str], tokenizer: ClipTokenizer, embeddings: Sequence[Embedding]) -> tuple[Embedding, ...]:
    """Those of some embeddings that these texts name."""
    spelt = spellings([one.name for one in embeddings], tokenizer)
    names = {name for text in texts for name in _named(text, tokenizer, spelt)} if embeddings else set()
    return tuple(one for one in embeddings if one.name in names)


def _named(text: str, tokenizer: ClipTokenizer, spelt: Spellings) -> list[str]:
    return [one for one, _ in units(tokenizer.encode(text), spelt) if isinstance(one, str)]


def _asked(piece: str, tokenizer: ClipTokenizer, spelt: Spellings, known: list[str]) -> Iterator[str]:
    """What a text names outright, as `embedding:name`."""
    for word in _EXPLICIT.findall(piece):
        meant, _ = next(units(tokenizer.encode(f"embedding:{word}"), spelt))
        if not isinstance(meant, str):
            close = nearest(word, known)
            raise SettingsError(
                f"no embedding is named {word}",
                fix=f"did you mean {close}?" if close else "name a file in one of your folders of embeddings",
            )
        yield meant


def files_of(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """The embeddings in folders and the folders in them: name in small letters -> its files."""
    files: dict[str, list[Path]] = {}
    for folder in folders:
        if folder.is_dir():
            for path in sorted(folder.rglob("*")):
                if path.suffix.lower() in ENDINGS and path.is_file():
                    files.setdefault(path.stem.lower(), []).append(path)
    return files


def _only(name: str, files: Mapping[str, list[Path]]) -> Path:
    if len(files[name]) > 1:
        listed = ", ".join(str(path) for path in files[name][:5])
        raise SettingsError(
            f"{len(files[name])} embeddings are named {name}", where=listed, fix="rename all but the one you mean"
        )
    return files[name][0]


def _safetensors(path: Path) -> dict[str, NDArray[np.float32]]:
    try:
        return {name: tensorfile.as_float32(tensor) for name, tensor in tensorfile.read(path)[0].items()}
    except ValueError as error:
        raise _unknown(path) from error


def _pickle(path: Path) -> dict[str, NDArray[np.float32]]:
    import torch
    from torch.nn import ParameterDict

    with disk_problems(path):
        file = path.open("rb")
    # the first textual-inversion code kept its vectors in a ParameterDict
    with file, torch.serialization.safe_globals([ParameterDict]):
        try:
            held: Any = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises a dozen kinds over broken and over dangerous files
            raise ModelError(
                "this embedding is damaged, or holds more than tensors", where=path, fix="get its .safetensors version"
            ) from error
    if isinstance(held, dict) and "string_to_param" in held:
        held = held["string_to_param"]
        held = getattr(held, "_parameters", held)
    if not isinstance(held, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in held.values()):
        raise _unknown(path)
    return {str(name): tensor.detach().float().numpy() for name, tensor in held.items()}


def _unknown(path: Path) -> ModelError:
    return ModelError(
        "this is no embedding: it holds neither emb_params, nor clip_l and clip_g, nor a single tensor", where=path
    )


def _other_base(embedding: Embedding, widths: Sequence[int]) -> str:
    made_for = " and ".join(map(str, sorted(embedding.vectors)))
    taken = " and ".join(map(str, sorted(widths)))
    return f"its vectors have {made_for} values, those of this base {taken}"
