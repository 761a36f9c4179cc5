"""What a plan warns of: each at its edge, and nothing where nothing is unwise."""

from __future__ import annotations

import pytest

from velatura import recipe
from velatura.training import unwise


def test_small_sets_are_not_seen_for_ever() -> None:
    assert not list(unwise.steps(1000, 2000, 20))
    (often,) = unwise.steps(8000, 8000, 20)
    assert "seen 400 times" in often and "7000 steps are plenty" in often
    (seldom,) = unwise.steps(20, 20, 10)
    assert "seen 2.0 times" in seldom


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"train": {"learning_rate": 1e-4}}, ""),
        ({"train": {"learning_rate": 1e-2}}, "high"),
        ({"train": {"learning_rate": 1e-4}, "adapter": {"rank": 128, "alpha": 1.0}}, "low"),
        ({"train": {"learning_rate": 1e-4}, "adapter": {"rank": 128, "alpha": 1.0, "rslora": True}}, ""),
        ({"train": {"learning_rate": 1.0, "optimizer": "prodigy"}}, ""),
        ({"train": {"learning_rate": 5e-4, "optimizer": "lion"}}, "high"),
    ],
)
def test_the_rate_counts_with_alpha_and_rank(settings: dict[str, object], word: str) -> None:
    told = recipe.build({"version": recipe.NEWEST, **settings})

    warned = list(unwise.rate(told, small=False))
    assert [word in one for one in warned] == [True] * bool(word)
    assert not list(unwise.rate(told, small=True))


def test_a_picture_alone_in_its_size_is_named() -> None:
    sizes = {(512, 512): 4, (640, 384): 1}

    (warned,) = unwise.buckets(sizes, 2)
    assert "640x384" in warned
    assert not list(unwise.buckets(sizes, 1))


@pytest.mark.parametrize(("words", "known"), [("cat", True), ("red cat", True), ("m4ra", False), ("red mara", False)])
def test_a_trigger_of_known_words_has_a_meaning_already(words: str, known: bool) -> None:
    def count(text: str) -> int:
        return 1 if text in ("cat", "red") else 3

    assert bool(list(unwise.trigger(words, count))) == known


def test_memory_that_is_not_there_is_said() -> None:
    assert not list(unwise.memory(None, 8, 4, graphics=True))
    assert not list(unwise.memory(3, 8, 4, graphics=True))
    (spill,) = unwise.memory(9_000_000_000, 8_000_000_000, 4_000_000_000, graphics=True)
    assert "9.0 GB" in spill and "many times slower" in spill
    (full,) = unwise.memory(5_000_000_000, 8_000_000_000, 4_000_000_000, graphics=False)
    assert "close other programs" in full
