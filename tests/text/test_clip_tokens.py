"""CLIP's tokenizer against transformers', and its chunks against A1111's rules."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from velatura import randomness
from velatura.errors import ModelError, VelaturaError
from velatura.generation.reading import weighted
from velatura.text import clip_tokens
from velatura.text.clip_tokens import CHUNK, Chunk, ClipTokenizer, chunks
from velatura.text.weighted import BREAK, WeightedText, plain

TEXTS = (
    "",
    " ",
    "a red boat on the sea, yellow sun",
    "A Red BOAT  on\tthe\nsea",
    "it's the cat's, they've said we'll; I'd don't",
    "1girl, 2024, 3.14, 1,000,000, x2y",
    "masterpiece!!! ((best)) [worst] {a|b} <c> ... --- ___",
    "naïve café Zoë Ångström ﬁ Ⅷ ½",
    "e\u0301 and \u00e9",  # decomposed and composed
    "ночь над морем",
    "夜の海に赤い船",
    "바다 위의 빨간 배",
    "سفينة حمراء",
    "शेर और चूहा",
    "🦊 a fox 🇫🇷 👩‍👩‍👧 emoji",
    "İstanbul ẞ ß Σίσυφος ς",
    "zero\u200bwidth non\u00a0breaking \u3000wide",
    "null\0byte and \x07bell",
    "'s't''s'''",
    "a<|endoftext|>b <|startoftext|>",
    '\\backslash /slash "quotes" `ticks` ~tilde',
    "word" * 400,
    "many, words, " * 300,
    "\U0010ffff\ud7ff\ue000",
)


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> ClipTokenizer:
    return clip_tokens.load(base / "tokenizer")


@pytest.fixture(scope="module")
def reference(base: Path) -> Any:
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(base / "tokenizer", model_max_length=10**6)


def test_every_text_becomes_the_tokens_that_transformers_gives(tokenizer: ClipTokenizer, reference: Any) -> None:
    for text in TEXTS:
        assert tokenizer.encode(text) == reference(text, add_special_tokens=False).input_ids, repr(text)


def test_texts_drawn_from_all_of_unicode_become_the_same_tokens_too(tokenizer: ClipTokenizer, reference: Any) -> None:
    draw = randomness.generator(0, "texts")
    ranges = ((32, 127), (160, 1424), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF), (9, 14))
    for _ in range(300):
        chosen = [ranges[int(draw.integers(len(ranges)))] for _ in range(int(draw.integers(1, 30)))]
        text = "".join(chr(int(draw.integers(*span))) for span in chosen)
        assert tokenizer.encode(text) == reference(text, add_special_tokens=False).input_ids, repr(text)


def test_a_chunk_of_a_short_text_is_what_transformers_pads_it_to(tokenizer: ClipTokenizer, reference: Any) -> None:
    for text in ("", "a red boat", "ночь 🦊"):
        (chunk,) = chunks(plain(text), tokenizer)
        padded = reference(text, padding="max_length", max_length=CHUNK + 2).input_ids
        assert list(chunk.tokens) == padded


def test_counting_agrees_with_encoding(tokenizer: ClipTokenizer) -> None:
    assert tokenizer.count("") == 0
    assert tokenizer.count("many, words, " * 300) == len(tokenizer.encode("many, words, " * 300)) > 1000


def test_a_tokenizer_in_one_file_is_read_like_one_in_two(
    base: Path, reference: Any, tokenizer: ClipTokenizer, tmp_path: Path
) -> None:
    reference.save_pretrained(tmp_path)
    (tmp_path / "vocab.json").unlink(missing_ok=True)
    assert (tmp_path / "tokenizer.json").exists()
    single = clip_tokens.load(tmp_path)
    assert (single.start, single.end, single.pad, single.comma) == (
        tokenizer.start, tokenizer.end, tokenizer.pad, tokenizer.comma
    )  # fmt: skip
    for text in TEXTS:
        assert single.encode(text) == tokenizer.encode(text), repr(text)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff\xfe", b'{"a": "b"}', None])
def test_damaged_tokenizer_files_are_one_sentence(base: Path, tmp_path: Path, name: str, content: bytes | None) -> None:
    folder = shutil.copytree(base / "tokenizer", tmp_path / "tokenizer")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    if name == "tokenizer_config.json" and content in (None, b'{"a": "b"}'):
        clip_tokens.load(folder)  # CLIP's own names of the special tokens stand in
    else:
        with pytest.raises(VelaturaError):
            clip_tokens.load(folder)


def test_a_tokenizer_without_start_and_end_is_refused(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base / "tokenizer", tmp_path / "tokenizer")
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    del vocabulary["<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    with pytest.raises(ModelError, match="start and end"):
        clip_tokens.load(folder)


# --- chunks ----------------------------------------------------------------------------------


def words(tokenizer: ClipTokenizer, count: int, *, comma_at: int | None = None) -> str:
    """A text of so many tokens, one of which may be a comma."""
    text = " ".join("," if place == comma_at else "boat" for place in range(count))
    assert tokenizer.count(text) == count
    return text


def bodies(found: list[Chunk], tokenizer: ClipTokenizer) -> list[list[int]]:
    """Each chunk's tokens between start and end."""
    cut = []
    for chunk in found:
        assert len(chunk.tokens) == len(chunk.weights) == CHUNK + 2
        assert chunk.tokens[0] == tokenizer.start
        end = chunk.tokens.index(tokenizer.end)
        assert set(chunk.tokens[end + 1 :]) <= {tokenizer.pad}
        cut.append(list(chunk.tokens[1:end]))
    return cut


def test_an_empty_text_is_one_chunk_without_words(tokenizer: ClipTokenizer) -> None:
    for text in (plain(""), WeightedText((("  ", 1.3),)), weighted("")):
        assert bodies(chunks(text, tokenizer), tokenizer) == [[]]


@pytest.mark.parametrize(("count", "sizes"), [(75, [75]), (76, [75, 1]), (150, [75, 75]), (151, [75, 75, 1])])
def test_a_chunk_holds_75_tokens_and_nothing_is_cut(tokenizer: ClipTokenizer, count: int, sizes: list[int]) -> None:
    text = words(tokenizer, count)
    found = bodies(chunks(plain(text), tokenizer), tokenizer)
    assert [len(body) for body in found] == sizes
    assert [token for body in found for token in body] == tokenizer.encode(text)


@pytest.mark.parametrize(
    ("comma_at", "sizes"),
    [
        (74, [75, 5]),  # the comma is the last token of the chunk
        (70, [71, 9]),  # four words move with what follows
        (55, [56, 24]),  # 20 tokens back: the farthest that is moved
        (54, [75, 5]),  # 21 back: cut where it is full
        (75, [75, 5]),  # a comma that meets a full chunk begins the next
        (None, [75, 5]),
    ],
)
def test_a_full_chunk_is_closed_at_a_comma_that_is_near(
    tokenizer: ClipTokenizer, comma_at: int | None, sizes: list[int]
) -> None:
    text = words(tokenizer, 80, comma_at=comma_at)
    found = bodies(chunks(plain(text), tokenizer), tokenizer)
    assert [len(body) for body in found] == sizes
    assert [token for body in found for token in body] == tokenizer.encode(text)


def test_words_that_move_to_the_next_chunk_keep_their_weight(tokenizer: ClipTokenizer) -> None:
    loud = WeightedText(((words(tokenizer, 71, comma_at=70), 1.0), (words(tokenizer, 9), 1.5)))
    first, second = chunks(loud, tokenizer)
    assert set(first.weights) == {1.0}
    assert second.weights[1:10] == (1.5,) * 9
    assert set(second.weights[10:]) == {1.0}
    assert second.weights[0] == 1.0


def test_break_closes_a_chunk_even_an_empty_one(tokenizer: ClipTokenizer) -> None:
    a, b = tokenizer.encode("boat"), tokenizer.encode("sea")
    assert bodies(chunks(weighted("boat BREAK sea"), tokenizer), tokenizer) == [a, b]
    assert bodies(chunks(weighted("BREAK sea"), tokenizer), tokenizer) == [[], b]
    assert bodies(chunks(weighted("boat BREAK BREAK sea"), tokenizer), tokenizer) == [a, [], b]
    assert bodies(chunks(weighted("boat BREAK"), tokenizer), tokenizer) == [a]


def test_a_caption_that_says_break_is_not_broken(tokenizer: ClipTokenizer) -> None:
    assert len(chunks(plain("BREAK the ice"), tokenizer)) == 1
    assert len(chunks(WeightedText((BREAK, ("sea", 1.0))), tokenizer)) == 2


def test_weights_stand_on_the_tokens_of_their_words(tokenizer: ClipTokenizer) -> None:
    (chunk,) = chunks(weighted("a (red boat:1.4) [sea]"), tokenizer)
    assert chunk.weights[:6] == pytest.approx((1.0, 1.0, 1.4, 1.4, 1 / 1.1, 1.0))
