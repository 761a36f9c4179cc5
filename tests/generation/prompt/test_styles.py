"""A1111's files of styles."""

from __future__ import annotations

from pathlib import Path

import pytest

from velatura.errors import SettingsError
from velatura.generation.prompt.styles import Style, files, find, read, styled

TABLE = (
    "\ufeffname,prompt,negative_prompt\r\n"
    '"ink, black","drawing of {prompt}, {prompt}",colour\r\n'
    "# a comment,x,y\r\n"
    "night, at night ,\r\n"
    '"two lines","a\nb",'
)


def test_a_table_is_read_with_its_quotes_its_comments_and_its_mark(tmp_path: Path) -> None:
    (tmp_path / "styles.csv").write_bytes(TABLE.encode())
    assert read(tmp_path / "styles.csv") == [
        Style("ink, black", "drawing of {prompt}, {prompt}", "colour"),
        Style("night", "at night ", ""),
        Style("two lines", "a\nb", ""),
    ]


def test_an_older_table_calls_the_prompt_text(tmp_path: Path) -> None:
    (tmp_path / "styles.csv").write_text("name,text\nink,drawing\n")
    assert read(tmp_path / "styles.csv") == [Style("ink", "drawing")]


def test_a_prompt_is_put_into_a_style_or_before_it() -> None:
    """As A1111's own function has it."""
    assert styled("a cat", ["drawing of {prompt}, {prompt}"]) == "drawing of a cat, a cat"
    assert styled(" a cat ", ["at night "]) == "a cat, at night"
    assert styled("", ["at night"]) == "at night"
    assert styled("a cat", ["ink of {prompt}", "", "at night"]) == "ink of a cat, at night"


def test_styles_are_found_in_folders_and_files_the_first_of_a_name_counts(tmp_path: Path) -> None:
    for name, text in {"own/styles.csv": "first", "own/styles_more.csv": "more", "user.csv": "last"}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"name,prompt\nink,{text}\n{text},x\n")
    places = [tmp_path / "own", tmp_path / "user.csv", tmp_path / "missing"]
    assert [path.name for path in files(places)] == ["styles.csv", "styles_more.csv", "user.csv"]
    assert [style.prompt for style in find(["last", "ink"], places)] == ["x", "first"]
    with pytest.raises(SettingsError, match="did you mean 'ink'"):
        find(["inc"], places)
    assert find([], [tmp_path / "damaged.csv"]) == []


@pytest.mark.parametrize("held", [b"a,b\n1,2\n", "name,prompt\nink,caf\u00e9\n".encode("latin-1"), b"name\nx\n"])
def test_what_is_no_table_of_styles_is_refused(tmp_path: Path, held: bytes) -> None:
    (tmp_path / "styles.csv").write_bytes(held)
    with pytest.raises(SettingsError) as caught:
        find(["ink"], [tmp_path])
    assert "styles" in caught.value.what
