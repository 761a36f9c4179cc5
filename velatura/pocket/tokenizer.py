"""The pocket base's words: a byte-level BPE learnt from its own captions, in the files of CLIP or of Qwen.

Any text can be encoded, in any script; words that the base knows are one token each. CLIP marks the end of a word,
Qwen counts the space before it as its first letter.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from velatura.files import make_folder, write_text
from velatura.pocket.architecture import TOKENS, VOCABULARY
from velatura.text import clip_tokens, qwen_tokens

START, END = "<|startoftext|>", "<|endoftext|>"

CHAT_END, CHAT_PAD = "<|im_end|>", "<|endoftext|>"

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""How a chat is written; of one question it makes `velatura.text.qwen_tokens.QUESTION`."""

FILES: Mapping[str, tuple[str, ...]] = {
    "CLIPTokenizer": ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"),
    "Qwen2Tokenizer": ("vocab.json", "merges.txt", "tokenizer_config.json"),
}
"""What is written, by the name of the tokenizer's class."""

EXTRA_WORDS = (
    "a an the of in on at by with and or to from for style drawing painting sketch picture image photo photograph "
    "illustration art artwork portrait landscape still life line lines ink pencil wash watercolour watercolor pixel "
    "neon paper cut stipple woodcut print contour map pastel chalk blueprint mosaic charcoal oil comic cartoon colour "
    "color colours colors dark light bright soft simple small large big old young happy little beautiful face hair"
)
"""Words that people write in captions although no drawn scene names them."""


def learn(captions: Iterable[str], folder: Path) -> None:
    """Learn the merges and write CLIP's `FILES`."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    normalize = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Split(Regex(clip_tokens.WORDS), behavior="removed", invert=True)
    texts = (normalize.normalize_str(text) for text in [*captions, *EXTRA_WORDS.split()])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = best_merges(_counted(texts, split), VOCABULARY - 2 - 2 * len(alphabet), end="</w>")
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in merges)]
    fillers = [f"<|unused{index}|>" for index in range(VOCABULARY - 2 - len(tokens))]
    _write(folder, [*tokens, *fillers, START, END], merges)
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    write_text(folder / "special_tokens_map.json", json.dumps(special, indent=2))
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, "do_lower_case": True}
    write_text(folder / "tokenizer_config.json", json.dumps(config, indent=2))


def learn_chat(captions: Iterable[str], folder: Path) -> None:
    """Learn the merges and write Qwen's `FILES`, with its chat's form."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    split = pre_tokenizers.Split(Regex(qwen_tokens.WORDS), behavior="isolated")
    further = [form.format(word) for word in EXTRA_WORDS.split() for form in ("{}", " {}")]
    asked = [*captions, *further]
    asked += ["user", "assistant"] * len(asked)  # stand in every question
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    marks = (CHAT_PAD, qwen_tokens.START, CHAT_END)
    texts = (normalizers.NFC().normalize_str(text) for text in asked)
    merges = best_merges(_counted(texts, split), VOCABULARY - len(marks) - len(alphabet), end="")
    tokens = list(dict.fromkeys([*alphabet, *("".join(pair) for pair in merges)]))
    fillers = [f"<|unused{index}|>" for index in range(VOCABULARY - len(marks) - len(tokens))]
    _write(folder, [*tokens, *fillers], merges)
    told = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": {str(VOCABULARY - 3 + n): {"content": mark, **told} for n, mark in enumerate(marks)},
        "eos_token": CHAT_END,
        "pad_token": CHAT_PAD,
        "unk_token": None,
        "model_max_length": 512,
        "chat_template": CHAT,
    }
    write_text(folder / "tokenizer_config.json", json.dumps(config, indent=2))


def _counted(texts: Iterable[str], split: Any) -> Counter[str]:
    """How often each word occurs, in the letters that stand for bytes."""
    from tokenizers import pre_tokenizers

    cut = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in cut.pre_tokenize_str(text))
    return words


def best_merges(words: Mapping[str, int], most: int, *, end: str) -> list[tuple[str, str]]:
    """The pairs to merge, the most frequent first; equal ones in the order of the alphabet.

    Args:
        end: what marks a word's last letter.

    Own code because the tokenizers library breaks ties by chance, and a base must come out the same twice.
    Source: Sennrich et al. 2016, arXiv:1508.07909.
    """
    pieces = {word: (*word[:-1], word[-1] + end) for word in words}
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


def _write(folder: Path, tokens: list[str], merges: list[tuple[str, str]]) -> None:
    make_folder(folder)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    write_text(folder / "merges.txt", "#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in merges))
