"""The pocket base's words, in CLIP's files and in Qwen's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from velatura.pocket import tokenizer
from velatura.pocket.architecture import VOCABULARY
from velatura.text import clip_tokens, qwen_tokens
from velatura.text.qwen_tokens import QUESTION

CAPTIONS = ["a red boat at night, crescent moon", "two blue cars in the snow"]

Learn = Callable[[list[str], Path], None]

LEARN: dict[str, Learn] = {"CLIPTokenizer": tokenizer.learn, "Qwen2Tokenizer": tokenizer.learn_chat}

every_form = pytest.mark.parametrize("form", sorted(LEARN))


def test_words_of_the_captions_are_one_token_each(tmp_path: Path) -> None:
    tokenizer.learn(CAPTIONS, tmp_path)
    known = clip_tokens.load(tmp_path)

    assert known.count("A red boat at night") == 5
    assert known.count("crescent moon") == 2
    assert known.count("zzyzx 日本") > 5


def test_words_of_a_chat_are_one_token_each_with_the_space_before_them(tmp_path: Path) -> None:
    tokenizer.learn_chat(CAPTIONS, tmp_path)
    known = qwen_tokens.load(tmp_path, vocabulary=VOCABULARY)

    assert known.count("a red boat at night") == 5
    assert known.count("two cars, a watercolour") == 5
    assert known.count("zzyzx 日本") > 5
    assert known.count(QUESTION.format("")) == 8
    assert max(known.encode(QUESTION.format("ä"))) == VOCABULARY - 1


def test_a_chat_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

    tokenizer.learn_chat(CAPTIONS, tmp_path)
    known, theirs = qwen_tokens.load(tmp_path, vocabulary=VOCABULARY), Qwen2Tokenizer.from_pretrained(tmp_path)

    for text in ("a red boat", "", "Zwei  blaue Autos,\n日本 it's 42"):
        asked = [{"role": "user", "content": text}]
        told = theirs.apply_chat_template(asked, tokenize=False, add_generation_prompt=True, enable_thinking=True)
        assert told == QUESTION.format(text)
        assert theirs(told).input_ids == known.asked(text, 77)


@every_form
def test_learning_the_same_captions_twice_gives_the_same_files(form: str, tmp_path: Path) -> None:
    for name in ("one", "other"):
        LEARN[form](CAPTIONS, tmp_path / name)

    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(tokenizer.FILES[form])
    for name in tokenizer.FILES[form]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
