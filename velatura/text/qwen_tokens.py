"""Qwen's tokenizer: bytes merged into tokens, and the form of a chat.

Read from a folder (`tokenizer.json`, or `vocab.json` and `merges.txt`) with the `tokenizers` library alone, so
counting tokens needs neither torch nor transformers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura.errors import ModelError
from velatura.files import disk_problems
from velatura.text.tokenizer_files import damage

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen's split into words."""

QUESTION = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
"""What the chat template makes of one question: the answer is begun, and thinking is left to the model."""

START = "<|im_start|>"
"""The mark without which there is no chat."""

# fmt: off
MARKS = (
    "<|endoftext|>", START, "<|im_end|>",
    "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>",
    "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
)
# fmt: on
"""Qwen3's marks, numbered on from the end of `vocab.json`, which does not hold them."""


@dataclass(frozen=True)
class QwenTokenizer:
    """Text to token numbers."""

    tokenizer: Tokenizer

    def encode(self, text: str) -> list[int]:
        """Token numbers; marks in the text are read as marks."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def asked(self, text: str, longest: int) -> list[int]:
        """Token numbers of a text put as a question; cut off at the end, the chat's form with it, where too long."""
        return self.encode(QUESTION.format(text))[:longest]

    def count(self, text: str) -> int:
        """How many tokens a text takes."""
        return len(self.encode(text))


def has_files(folder: Path) -> bool:
    """Whether a folder holds a tokenizer."""
    return (folder / "tokenizer.json").exists() or all(
        (folder / name).exists() for name in ("vocab.json", "merges.txt")
    )


def load(folder: Path, *, vocabulary: int) -> QwenTokenizer:
    """The tokenizer in a folder.

    Args:
        vocabulary: how many tokens the text encoder knows.

    Raises:
        ModelError: its files are missing or damaged, or belong to another model.
    """
    from tokenizers import Tokenizer

    with damage(folder), disk_problems(folder):
        if (folder / "tokenizer.json").exists():
            made = Tokenizer.from_file(str(folder / "tokenizer.json"))
        else:
            made = _assembled(folder)
    return _finished(made, folder, vocabulary)


def build(settings: Any, where: Path, *, vocabulary: int) -> QwenTokenizer:
    """The tokenizer that the contents of a `tokenizer.json` describe.

    Args:
        where: the file that they come from.
        vocabulary: how many tokens the text encoder knows.

    Raises:
        ModelError: they are damaged, or belong to another model.
    """
    from tokenizers import Tokenizer

    with damage(where):
        made = Tokenizer.from_str(json.dumps(settings))
    return _finished(made, where, vocabulary)


def _assembled(folder: Path) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokens = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition(" ") for line in lines if line and not line.startswith("#version")]
    tokenizer = Tokenizer(models.BPE(vocab=tokens, merges=[(left, right) for left, _, right in pairs]))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.add_special_tokens(_marks(folder / "tokenizer_config.json"))
    return tokenizer


def _marks(config: Path) -> list[str]:
    """The marks in the order of their numbers: as the settings list them, or else Qwen3's."""
    if config.exists():
        listed = json.loads(config.read_text(encoding="utf-8")).get("added_tokens_decoder")
        if listed:
            return [listed[number]["content"] for number in sorted(listed, key=int)]
    return list(MARKS)


def _finished(tokenizer: Tokenizer, where: Path, vocabulary: int) -> QwenTokenizer:
    if tokenizer.token_to_id(START) is None or tokenizer.get_vocab_size() > vocabulary:
        raise ModelError(
            "this tokenizer is not the one of the base's text encoder", where=where, fix="use the one of Qwen3"
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return QwenTokenizer(tokenizer)
