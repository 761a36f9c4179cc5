"""What a text encoder does not read of a text is said in a sentence that a user can act on."""

from __future__ import annotations

from velatura.text.readers import Reader, unread

T5 = Reader("T5", 4, lambda text: len(text.split()))
CLIP = Reader("CLIP", 2, lambda text: len(text.split()), further="T5 reads on")


def test_texts_that_are_read_whole_are_passed_over() -> None:
    assert list(unread([T5, CLIP], ["one two", "", "one"], called="prompt")) == []
    assert list(unread([], ["word " * 1000], called="prompt")) == []


def test_the_sentence_says_how_many_are_too_long_for_whom_and_which_is_the_longest() -> None:
    texts = ["one two three", "one two three", "one two three four five six", "two"]
    assert list(unread([T5, CLIP], texts, called="caption")) == [
        "a caption is longer than the 4 tokens that T5 reads, and cut off there: “one two three four five six…” has 6",
        "2 captions are longer than the 2 tokens that CLIP reads, and cut off there; T5 reads on:"
        " “one two three four five six…” has 6",
    ]


def test_a_long_text_is_shown_by_its_beginning() -> None:
    (sentence,) = unread([T5], ["word " * 100], called="prompt")
    assert "“word word word word word word word word…” has 100" in sentence
