"""The pocket base's words: a byte-level BPE in CLIP's file format, learnt from its own captions.

Any text can be encoded, in any script; words that the base knows are one token each.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

from velatura.files import make_folder, write_text
from velatura.pocket.architecture import TOKENS, VOCABULARY
from velatura.text.clip_tokens import WORDS

START, END = "<|startoftext|>", "<|endoftext|>"

EXTRA_WORDS = (
    "a an the of in on at by with and or to from for style drawing painting sketch picture image photo photograph "
    "illustration art artwork portrait landscape still life line lines ink pencil wash watercolour watercolor pixel "
    "neon paper cut stipple woodcut print contour map pastel chalk blueprint mosaic charcoal oil comic cartoon colour "
    "color colours colors dark light bright soft simple small large big old young happy little beautiful face hair"
)
"""Words that people write in captions although no drawn scene names them."""


def learn(captions: Iterable[str], folder: Path) -> None:
    """Learn the merges and write `vocab.json`, `merges.txt`, `tokenizer_config.json` and `special_tokens_map.json`."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    normalize = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    cut = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    words: Counter[str] = Counter()
    for text in [*captions, *EXTRA_WORDS.split()]:
        words.update(word for word, _ in cut.pre_tokenize_str(normalize.normalize_str(text)))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = best_merges(words, VOCABULARY - 2 - 2 * len(alphabet))
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in merges)]
    fillers = [f"<|unused{index}|>" for index in range(VOCABULARY - 2 - len(tokens))]
    write(folder, [*tokens, *fillers, START, END], merges)


def best_merges(words: Mapping[str, int], most: int) -> list[tuple[str, str]]:
    """The pairs to merge, the most frequent first; equal ones in the order of the alphabet.

    Own code because the tokenizers library breaks ties by chance, and a base must come out the same twice.
    Source: Sennrich et al. 2016, arXiv:1508.07909.
    """
    pieces = {word: (*word[:-1], word[-1] + "</w>") for word in words}
    merges: list[tuple[str, str]] = []
    while len(merges) < most:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in pieces.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = {word: _merged(parts, best) for word, parts in pieces.items()}
    return merges


def _merged(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    joined: list[str] = []
    place = 0
    while place < len(parts):
        if parts[place : place + 2] == pair:
            joined.append("".join(pair))
            place += 2
        else:
            joined.append(parts[place])
            place += 1
    return tuple(joined)


def write(folder: Path, tokens: list[str], merges: list[tuple[str, str]]) -> None:
    """The tokenizer in the files that diffusers and transformers read."""
    make_folder(folder)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    write_text(folder / "merges.txt", "#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in merges))
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    write_text(folder / "special_tokens_map.json", json.dumps(special, indent=2))
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, "do_lower_case": True}
    write_text(folder / "tokenizer_config.json", json.dumps(config, indent=2))
