"""CLIP's tokenizer and its chunks: 75 tokens between a start and an end, as A1111 cuts them.

A tokenizer is read from a diffusers folder (`tokenizer.json`, or `vocab.json` and `merges.txt`)
or built of its plain parts, with the `tokenizers` library alone, so counting tokens needs neither torch
nor transformers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from velatura.errors import ModelError
from velatura.files import disk_problems
from velatura.text.tokenizer_files import damage
from velatura.text.weighted import BREAK, Embedding, WeightedText

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
"""CLIP's split into words."""

CHUNK = 75
"""Tokens of one chunk, start and end not counted."""

COMMA_REACH = 20
"""A chunk that fills within this many tokens after a comma is closed at the comma, as in A1111."""


@dataclass(frozen=True)
class ClipTokenizer:
    """Text to token numbers."""

    tokenizer: Tokenizer
    start: int
    end: int
    pad: int
    """Fills up behind the end; CLIP-L repeats the end, OpenCLIP uses 0."""
    comma: int | None

    def encode(self, text: str) -> list[int]:
        """Token numbers without start and end."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def count(self, text: str) -> int:
        """How many tokens a text takes."""
        # No token reaches over a space, and captions of one set have few words: most are counted already.
        return sum(map(self._count_of_word, text.split(" ")))

    @cached_property
    def _count_of_word(self) -> Callable[[str], int]:
        return lru_cache(maxsize=1 << 16)(lambda word: len(self.encode(word)))

    @cached_property
    def chunked(self) -> Callable[[WeightedText], tuple[Chunk, ...]]:
        """`chunks`, remembered, as the captions of a training return; with the tokenizer, so that it may go."""
        return lru_cache(maxsize=1024)(lambda text: tuple(chunks(text, self)))


class Vocabulary(NamedTuple):
    """What a tokenizer consists of."""

    vocab: dict[str, int]
    """Token -> its number."""
    merges: list[str]
    """Pairs, a space between, the first to merge first."""
    special_tokens: dict[str, str]
    """"bos_token", "eos_token" and, where it is another, "pad_token"."""


@dataclass(frozen=True)
class Chunk:
    """75 tokens with start, end and padding, and the weight of each."""

    tokens: tuple[int, ...]
    weights: tuple[float, ...]
    embeddings: tuple[tuple[int, Embedding], ...] = ()
    """Where in the chunk, the start counted, the vectors of an embedding stand instead of tokens."""


def load(folder: Path) -> ClipTokenizer:
    """The tokenizer of a diffusers folder's `tokenizer/`.

    Raises:
        ModelError: its files are missing or damaged.
    """
    return build(read_vocabulary(folder), folder)


def build(vocabulary: Vocabulary, where: Path) -> ClipTokenizer:
    """The tokenizer that consists of these parts.

    Args:
        where: the file or folder that they come from.

    Raises:
        ModelError: the parts do not fit each other.
    """
    with damage(where):
        return _finished(_assembled(vocabulary), vocabulary.special_tokens, where)


def read_vocabulary(folder: Path) -> Vocabulary:
    """The parts of the tokenizer in a diffusers folder's `tokenizer/`.

    Raises:
        ModelError: its files are missing or damaged.
    """
    with damage(folder), disk_problems(folder):
        special = _special_tokens(folder)
        if (folder / "vocab.json").exists():
            tokens = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
            lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
            return Vocabulary(tokens, [line for line in lines if line and not line.startswith("#version")], special)
        model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        return Vocabulary(model["vocab"], merges, special)


def _finished(tokenizer: Tokenizer, special: Mapping[str, str], where: Path) -> ClipTokenizer:
    start, end = (tokenizer.token_to_id(special[name]) for name in ("bos_token", "eos_token"))
    pad = tokenizer.token_to_id(special.get("pad_token", special["eos_token"]))
    if start is None or end is None or pad is None:
        raise ModelError("the tokenizer has no start and end tokens", where=where, fix="fetch the base again")
    # What pads may be a word too: OpenCLIP's "!" is one that people write.
    tokenizer.add_special_tokens(sorted({special["bos_token"], special["eos_token"]}))
    # `tokenizer.json` may ask for both; captions are cut into chunks here, and nothing is dropped
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return ClipTokenizer(tokenizer, start, end, pad, tokenizer.token_to_id(",</w>"))


def _special_tokens(folder: Path) -> dict[str, str]:
    found = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        if path.exists():
            for key, value in json.loads(path.read_text(encoding="utf-8")).items():
                if key in ("bos_token", "eos_token", "pad_token") and value is not None:
                    found[key] = value["content"] if isinstance(value, dict) else str(value)
    return found


def _assembled(vocabulary: Vocabulary) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    pairs = [line.partition(" ") for line in vocabulary.merges]
    merges = [(left, right) for left, _, right in pairs]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary.vocab, merges=merges, continuing_subword_prefix="", end_of_word_suffix="</w>")
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


Spellings = Mapping[int, Sequence[tuple[list[int], str]]]
"""First token -> the names that begin with it, as tokens and as they are called; the longest first."""


def spellings(names: Iterable[str], tokenizer: ClipTokenizer) -> Spellings:
    """How embeddings of these names stand in a text: A1111's bare name, ComfyUI's `embedding:name` and its ending.

    What is compared are tokens, as in A1111: case and spaces do not matter, and the beginning of a word is no name.
    """
    found: dict[int, list[tuple[list[int], str]]] = {}
    for name in names:
        for text in (name, *(f"embedding:{name}{ending}" for ending in ("", ".safetensors", ".pt", ".bin"))):
            if tokens := tokenizer.encode(text):
                found.setdefault(tokens[0], []).append((tokens, name))
    return {first: sorted(spelt, key=lambda one: -len(one[0])) for first, spelt in found.items()}


def units(tokens: Sequence[int], spelt: Spellings) -> Iterator[tuple[int | str, int]]:
    """Tokens, and in the place of some a name, each with the token that it begins with."""
    at = 0
    while at < len(tokens):
        names = ((len(one), name) for one, name in spelt.get(tokens[at], ()) if [*tokens[at : at + len(one)]] == one)
        length, unit = next(names, (1, tokens[at]))
        yield unit, tokens[at]
        at += length


class _Filling:
    """A chunk in the making: for each place a token, its weight, and the embedding that begins there."""

    def __init__(self) -> None:
        self.places: list[tuple[int, float, Embedding | None]] = []
        self.comma = -1

    def closed(self, tokenizer: ClipTokenizer) -> Chunk:
        missing = CHUNK - len(self.places)
        return Chunk(
            (tokenizer.start, *(token for token, _, _ in self.places), tokenizer.end, *[tokenizer.pad] * missing),
            (1.0, *(weight for _, weight, _ in self.places), 1.0, *[1.0] * missing),
            tuple((at + 1, one) for at, (_, _, one) in enumerate(self.places) if one is not None),
        )


def chunks(text: WeightedText, tokenizer: ClipTokenizer) -> list[Chunk]:
    """Cut a weighted text into chunks of 75 tokens; at least one, empty where there is no text.

    A1111's rule: when a chunk is full and its last comma is at most 20 tokens back, everything
    behind the comma moves into the next chunk. `BREAK` closes a chunk, even an empty one. The vectors of an
    embedding stay together: those that do not fit into the rest of a chunk begin the next.
    """
    embeddings = {embedding.name: embedding for embedding in text.embeddings}
    spelt = spellings(embeddings, tokenizer)
    finished: list[Chunk] = []
    chunk = _Filling()

    def close(moved: Sequence[tuple[int, float, Embedding | None]] = ()) -> None:
        nonlocal chunk
        finished.append(chunk.closed(tokenizer))
        chunk = _Filling()
        chunk.places += moved

    for piece, weight in text.pieces:
        if (piece, weight) == BREAK:
            close()
            continue
        for unit, token in units(tokenizer.encode(piece), spelt):
            if token == tokenizer.comma:
                chunk.comma = len(chunk.places)
            elif len(chunk.places) == CHUNK and chunk.comma != -1 and CHUNK - chunk.comma <= COMMA_REACH:
                moved = chunk.places[chunk.comma + 1 :]
                del chunk.places[chunk.comma + 1 :]
                close(moved)
            embedding = embeddings[unit] if isinstance(unit, str) else None
            length = 1 if embedding is None else len(embedding)
            if len(chunk.places) + length > CHUNK:
                close()
            chunk.places.append((token if embedding is None else 0, weight, embedding))
            chunk.places += [(0, weight, None)] * (length - 1)
    if chunk.places or not finished:
        close()
    return finished
