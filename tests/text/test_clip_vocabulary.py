"""CLIP's vocabulary in the package: known numbers, and two other programs' tokenizers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from velatura import tensorfile
from velatura.errors import ModelError
from velatura.text import clip_files, clip_tokens, clip_vocabulary
from velatura.text.clip_tokens import ClipTokenizer

KNOWN = {
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "a photograph of an astronaut riding a horse": [320, 8853, 539, 550, 18376, 6765, 320, 4558],
    "hello world!": [3306, 1002, 256],
    "": [],
}
"""Numbers that are published in many places."""

TEXTS = (
    *KNOWN,
    "Masterpiece, best quality, 1girl, (blue hair:1.2), 4k",
    "it's a dog's life; they've said so, i'm sure, we'll see, i'd say",
    "größe ночь 東京 🦊 🎨 café naïve",
    "supercalifragilisticexpialidocious xqzzyv",
    "tabs\tand\nlines   and  spaces",
    "\N{LATIN SMALL LETTER E}\N{COMBINING ACUTE ACCENT} 1234567890 !!! ... --- <> __",
)


@pytest.fixture(scope="module")
def own() -> ClipTokenizer:
    return clip_tokens.build(clip_vocabulary.vocabulary(), Path("the package"))


def bare_file(folder: Path) -> Path:
    path = folder / "clip.safetensors"
    path.write_bytes(tensorfile.to_bytes({"a": np.zeros(1, np.float32)}))
    return path


@pytest.mark.parametrize("text", KNOWN)
def test_known_texts_have_their_known_numbers(own: ClipTokenizer, text: str) -> None:
    assert own.encode(text) == KNOWN[text]


def test_the_vocabulary_is_clip_s_by_size_and_by_its_marks(own: ClipTokenizer) -> None:
    vocab, merges, _ = clip_vocabulary.vocabulary()
    assert (len(vocab), len(merges)) == (49408, 48894)
    assert sorted(vocab.values()) == list(range(49408))
    assert (own.start, own.end, own.pad, own.comma) == (49406, 49407, 49407, 267)
    assert (vocab["!"], vocab["!</w>"], vocab["in"], vocab["the</w>"]) == (0, 256, 512, 518)


def test_openclip_fills_up_with_the_number_zero() -> None:
    assert clip_tokens.build(clip_vocabulary.vocabulary("!"), Path("the package")).pad == 0


def test_texts_are_cut_as_transformers_cuts_them(own: ClipTokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    vocab, merges, _ = clip_vocabulary.vocabulary()
    pairs = [tuple(pair.split(" ")) for pair in merges]
    theirs = transformers.CLIPTokenizer(vocab=vocab, merges=pairs)
    for text in TEXTS:
        assert own.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], text
    assert own.encode("a photo of a cat") != own.encode("a photo of a dog")


@pytest.mark.skipif(importlib.util.find_spec("open_clip") is None, reason="open_clip is not installed")
def test_texts_are_cut_as_open_clip_cuts_them(own: ClipTokenizer) -> None:
    tokenizer: Any = importlib.import_module("open_clip.tokenizer").SimpleTokenizer()
    for text in TEXTS:
        assert own.encode(text) == tokenizer.encode(text), text


def test_a_file_without_a_tokenizer_is_given_clip_s(tmp_path: Path) -> None:
    path = bare_file(tmp_path)
    assert clip_files.load(path, {"vocab_size": 49408}).encode("a photo of a cat") == KNOWN["a photo of a cat"]
    second = clip_files.load(path, {"vocab_size": 49408}, name="tokenizer_2", pad="!")
    assert (second.pad, second.end) == (0, 49407)


def test_a_text_encoder_of_another_vocabulary_is_not_given_clip_s(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not the one of the base") as problem:
        clip_files.load(bare_file(tmp_path), {"vocab_size": 32128})
    assert "in a folder named tokenizer" in str(problem.value.fix)


def test_the_licence_lies_beside_the_merges() -> None:
    folder = Path(clip_vocabulary.__file__).parent
    assert "Copyright (c) 2021 OpenAI" in (folder / "clip_merges.LICENSE.txt").read_text(encoding="utf-8")
    assert (folder / "clip_merges.txt.bz2").stat().st_size < 1_000_000
