from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from velatura import schema
from velatura.errors import FileProblem, RecipeError
from velatura.schema import Settings


class Inner(Settings):
    """What lies inside."""

    size: int = Field(default=3, gt=0)
    """Pixels."""
    limit: float | None = Field(default=2.5, gt=0)
    """Watts; "none": as many as it takes."""


class Outer(Settings):
    """Everything."""

    name: str = "a"
    words: list[str] = Field(default=[])
    """Said in turn."""
    on: bool = False
    inner: Inner = Inner()


TRICKY = [
    "",
    'quotes " and \\ backslashes',
    "line\nends\r\n and tabs\t",
    "\x00\x07\x1f\x7f",
    "größe \N{ARTIST PALETTE} \u2028",
    "# no comment",
    "'single'",
    "C:\\new\\table",
]


@pytest.mark.parametrize("text", TRICKY, ids=range(len(TRICKY)))
@pytest.mark.parametrize("comments", [False, True])
def test_any_text_comes_back_from_toml(text: str, comments: bool) -> None:
    settings = Outer(name=text, words=[text, text], inner=Inner(limit=None))

    assert schema.build(Outer, tomllib.loads(schema.to_toml(settings, comments=comments))) == settings


@pytest.mark.parametrize("number", [1e-4, 1e-5, 1.0, 1e16, 1e22, 0.1 + 0.2, 3])
def test_any_number_comes_back_from_toml_as_the_number_it_was(number: float) -> None:
    settings = schema.build(Inner, {"limit": number})
    text = schema.to_toml(settings)

    assert schema.build(Inner, tomllib.loads(text)) == settings
    assert schema.to_toml(schema.build(Inner, tomllib.loads(text))) == text


def test_a_setting_without_a_value_is_the_word_none() -> None:
    text = schema.to_toml(Inner(limit=None))

    assert 'limit = "none"' in text
    assert schema.build(Inner, tomllib.loads(text)).limit is None


def test_none_is_only_a_word_where_a_setting_cannot_be_without_value() -> None:
    assert schema.build(Outer, {"name": "none"}).name == "none"
    with pytest.raises(RecipeError, match=r"size.*got 'none'"):
        schema.build(Inner, {"size": "none"})


def test_comments_say_what_each_group_and_setting_means() -> None:
    text = schema.to_toml(Outer(), comments=True)

    assert "# Everything.\n" in text and "[inner]\n# What lies inside.\n" in text
    assert '# Watts; "none": as many as it takes.\nlimit = 2.5\n' in text
    assert "#" not in schema.to_toml(Outer())


def test_a_long_list_has_one_entry_per_line() -> None:
    words = ["a red boat on a lake at night, seen from above"] * 3
    text = schema.to_toml(Outer(words=words))

    assert max(map(len, text.splitlines())) < 60
    assert tomllib.loads(text)["words"] == words


@pytest.mark.parametrize(
    ("tree", "sentence", "fix"),
    [
        ({"inner": {"sice": 4}}, "unknown setting inner.sice", "did you mean inner.size?"),
        ({"size": 4}, "unknown setting size", "did you mean inner.size?"),
        ({"iner": {"size": 4}}, "unknown setting iner", "did you mean inner?"),
        ({"xyzzy": 4}, "unknown setting xyzzy", "`velatura new`"),
        ({"inner": {"size": 0}}, "inner.size: input should be greater than 0, got 0", "change it"),
        ({"inner": 5}, "inner is a group of settings, not a value", "change it"),
        ({"inner": {"limit": float("nan")}}, "inner.limit: input should be a finite number", "change it"),
        ({"words": ["a", {}]}, "words.1: input should be a valid string", "change it"),
    ],
    ids=range(8),
)
def test_a_wrong_key_or_value_is_one_sentence(tree: dict[str, Any], sentence: str, fix: str) -> None:
    with pytest.raises(RecipeError) as caught:
        schema.build(Outer, tree, where="a.toml")

    assert caught.value.what.startswith(sentence)
    assert fix in str(caught.value.fix)
    assert caught.value.where == "a.toml"
    assert "\n" not in str(caught.value)


def test_an_enormous_value_is_quoted_in_part() -> None:
    with pytest.raises(RecipeError) as caught:
        schema.build(Inner, {"size": "x" * 10_000})

    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("data", [b"\xff\xfea\x00", b"name = \xff"], ids=["utf-16", "latin-1"])
def test_a_file_that_is_not_utf_8_is_one_sentence(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.toml").write_bytes(data)

    with pytest.raises(RecipeError, match="the brief is not UTF-8 text"):
        schema.read_tree(tmp_path / "a.toml", what="brief")


def test_a_file_as_windows_editors_save_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b'\xef\xbb\xbfname = "x"\r\nwords = [\r\n"a"]\r\n')

    assert schema.read_tree(tmp_path / "a.toml", what="recipe") == {"name": "x", "words": ["a"]}


def test_a_file_that_is_not_toml_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("a = 1\nb = = 2\n")

    with pytest.raises(RecipeError, match="line 2"):
        schema.read_tree(tmp_path / "a.toml", what="recipe")


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="no such file"):
        schema.read_tree(tmp_path / "a.toml", what="recipe")


def test_every_key_is_known_by_its_full_name() -> None:
    assert schema.known_keys(Outer) == ["name", "words", "on", "inner.size", "inner.limit"]
