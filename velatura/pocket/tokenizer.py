"""The pocket base's words: a byte-level BPE in CLIP's file format, learnt from its own captions.

Any text can be encoded, in any script; words that the base knows are one token each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from velatura.files import make_folder, write_text
from velatura.pocket.architecture import TOKENS, VOCABULARY

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
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=100_000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator([*captions, *EXTRA_WORDS.split()], trainer)
    learnt = json.loads(tokenizer.to_str())["model"]["merges"]
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in learnt]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = merges[: VOCABULARY - 2 - 2 * len(alphabet)]
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in merges)]
    fillers = [f"<|unused{index}|>" for index in range(VOCABULARY - 2 - len(tokens))]
    write(folder, [*tokens, *fillers, START, END], merges)


def write(folder: Path, tokens: list[str], merges: list[tuple[str, ...]]) -> None:
    """The tokenizer in the files that diffusers and transformers read."""
    make_folder(folder)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    write_text(folder / "merges.txt", "#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in merges))
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    write_text(folder / "special_tokens_map.json", json.dumps(special, indent=2))
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, "do_lower_case": True}
    write_text(folder / "tokenizer_config.json", json.dumps(config, indent=2))
