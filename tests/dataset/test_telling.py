"""How a caption is told, in the order of rules that kohya-ss/sd-scripts has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from velatura.dataset.telling import read_lists, told, varies, wordings
from velatura.errors import DatasetError
from velatura.recipe import FolderSettings

TAGS = "mara, red boat, sea, clouds, sun"


def rules(**given: Any) -> FolderSettings:
    return FolderSettings(**{"variants": 200, **given})


def said(caption: str, lists: Any = None, *, seed: int = 1, **given: Any) -> tuple[str, ...]:
    return wordings(caption, rules(**given), lists or {}, seed=seed)


def test_a_caption_left_to_no_chance_has_one_wording() -> None:
    assert said("a boat, on the sea") == ("a boat, on the sea",)
    assert said("a boat, on the sea", trigger="mara") == ("mara, a boat, on the sea",)
    assert said("a boat", shuffle=True) == ("a boat",)
    assert said("{a|b} __c__") == ("{a|b} __c__",), "wildcards are words where they are not asked for"
    assert not varies("{{boat}}", rules(wildcards=True))


def test_prefix_and_suffix_stand_round_trigger_and_caption() -> None:
    given = rules(prefix="photo of", suffix="in ink", trigger="mara")
    assert told("a boat", given, {}, seed=1) == "photo of mara, a boat in ink"
    assert told("", rules(prefix="photo of"), {}, seed=1) == "photo of"


def test_shuffled_tags_are_all_there_and_the_kept_ones_stay_in_front() -> None:
    found = said(TAGS, shuffle=True, keep_tokens=2)
    assert len(found) == 200
    assert len(set(found)) == 6, "three free tags have six orders"
    for one in found:
        assert one.startswith("mara, red boat, ")
        assert sorted(one.split(", ")) == sorted(TAGS.split(", "))
    assert max(Counter(found).values()) < 60, "each order about as often"


def test_a_mark_keeps_what_is_left_of_it_and_right_of_a_second() -> None:
    found = said("mara, ink ||| sea, sun, sky ||| masterpiece", shuffle=True, keep_separator="|||", keep_tokens=9)
    assert len(set(found)) == 6
    for one in found:
        assert one.startswith("mara, ink, ") and one.endswith(", masterpiece") and "|||" not in one
    assert said("mara ||| sea", keep_separator="|||") == ("mara, sea",), "the mark itself is never told"


def test_tags_are_left_out_at_the_rate_asked_for_but_never_the_kept_ones_or_the_trigger() -> None:
    found = said(TAGS, tag_dropout=0.3, keep_tokens=1)
    counts = Counter(tag for one in found for tag in one.split(", "))
    assert counts["mara"] == 200
    assert all(0.6 < counts[tag] / 200 < 0.8 for tag in ("red boat", "sea", "clouds", "sun"))
    assert all("mara" in one for one in said(TAGS, tag_dropout=0.9, trigger="mara"))


def test_another_separator_parts_the_tags() -> None:
    assert {one.count(", ") for one in said("a; b, c; d", shuffle=True, separator=";")} == {3}
    assert all("b, c" in one for one in said("a; b, c; d", shuffle=True, separator=";"))


def test_choices_are_drawn_evenly_and_doubled_braces_are_braces() -> None:
    found = Counter(said("a {red|blue|} boat {{x}}", wildcards=True))
    assert set(found) == {"a red boat {x}", "a blue boat {x}", "a  boat {x}"}
    assert min(found.values()) > 40
    assert set(said("{a {b|c}|d}", wildcards=True)) == {"a b", "a c", "d"}


def test_lists_are_read_from_files_and_may_name_one_another(tmp_path: Path) -> None:
    (tmp_path / "sky.txt").write_text("grey sky\n# a note\n__sun__ in the sky\n", encoding="utf-8")
    (tmp_path / "sun.txt").write_text("a sun\ntwo suns\n", encoding="utf-8")
    lists = read_lists(tmp_path, ["a boat, __sky__"])
    assert lists == {"sky": ("grey sky", "__sun__ in the sky"), "sun": ("a sun", "two suns")}
    assert set(said("__sky__", lists, wildcards=True)) == {"grey sky", "a sun in the sky", "two suns in the sky"}


def test_a_missing_list_and_a_circle_are_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"the wildcard __sky__, and there is no such file; write .* wildcards/sky"):
        read_lists(tmp_path, ["__sky__"])
    (tmp_path / "sky.txt").write_text("__sky__ again", encoding="utf-8")
    with pytest.raises(DatasetError, match="circle"):
        said("__sky__", read_lists(tmp_path, ["__sky__"]), wildcards=True)
    (tmp_path / "sky.txt").write_text("# nothing", encoding="utf-8")
    with pytest.raises(DatasetError, match="stands for nothing"):
        read_lists(tmp_path, ["__sky__"])


def test_wordings_are_a_function_of_seed_and_caption_alone() -> None:
    given: dict[str, Any] = {"shuffle": True, "tag_dropout": 0.2, "wildcards": True}
    first = said(TAGS + ", {a|b}", **given)
    said("another caption, with tags", **given)
    assert said(TAGS + ", {a|b}", **given) == first
    assert said(TAGS + ", {a|b}", seed=2, **given) != first


def test_what_a_picture_is_judged_by_has_its_tags_in_order_and_its_choices_made() -> None:
    given = rules(shuffle=True, tag_dropout=0.9, wildcards=True, trigger="mara")
    assert told("sea, {sun|moon}", given, {}, seed=1) in ("mara, sea, sun", "mara, sea, moon")


def test_lists_lie_in_their_folder_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("hidden")
    name = (tmp_path / "secret").as_posix()

    with pytest.raises(DatasetError, match="there is no such file"):
        read_lists(tmp_path / "wildcards", [f"a __{name}__"])


def test_a_choice_that_comes_to_the_name_of_a_list_is_said() -> None:
    with pytest.raises(DatasetError, match="comes to the wildcard __cats__"):
        said("a __{cats|cats}__", {}, wildcards=True)
    assert set(said("a {__x__|__x__}", {"x": ("red",)}, wildcards=True)) == {"a red"}
