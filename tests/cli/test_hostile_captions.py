"""Odd and hostile captions through every command that reads them: the right thing, or one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Velatura
from tests.paintings import clouds

Text = str | bytes

MANY = ", ".join(f"tag {number}" for number in range(1000))

READ: dict[str, tuple[Text, str]] = {
    "a thousand tags": (MANY, MANY),
    "right to left": ("שלום עולם, مرحبا", "שלום עולם, مرحبا"),
    "right to left, with marks of direction": ("\u202eabc\u202c, x", "\u202eabc\u202c, x"),
    "tags with parentheses and colons": (
        "jeanne_(alter), re:zero, :3, (hat:1.2), \\(escaped\\)",
        "jeanne_(alter), re:zero, :3, (hat:1.2), \\(escaped\\)",
    ),
    "UTF-8 with a mark": (b"\xef\xbb\xbfgr\xc3\xb6\xc3\x9fer", "größer"),
    "UTF-16": ("größer, 山".encode("utf-16"), "größer, 山"),
    "UTF-16 without a mark": ("plain words".encode("utf-16-le"), "plain words"),
    "Windows-1252": ("größer".encode("cp1252"), "größer"),
    "only commas": (", , ,", ", , ,"),
    "line ends of three systems": (b"one\r\ntwo\rthree\n", "one\ntwo\nthree"),
    "a line of the terminal's commands": ("red \x1b[31mhat", "red \x1b[31mhat"),
    "almost a megabyte": ("x" * 999_000, "x" * 999_000),
}
"""What a caption file holds, and what it says."""

REFUSED: dict[str, tuple[bytes, str]] = {
    "more than a megabyte": (b"x" * 1_000_001, "too large for a caption"),
    "NULs": (b"one\x00two\x00\x00", "is not text"),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "is not text"),
    "UTF-16 that is cut off": ("größer".encode("utf-16")[:-1], "is not text"),
}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A set of two, of which the first is told plainly."""
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("1", "2"):
        clouds(int(name), (48, 32)).save(folder / f"{name}.png")
    (folder / "1.txt").write_text("plain, words")
    return folder


def put(folder: Path, text: Text) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "2.txt").write_bytes(data)
    return data


@pytest.mark.parametrize("what", READ)
def test_it_is_edited_counted_found_and_taken_back_byte_for_byte(velatura: Velatura, written: Path, what: str) -> None:
    text, says = READ[what]
    before = put(written, text)

    shown = velatura("dataset", "edit", "set", "--add", "new tag", "--dry-run", "--all")
    assert shown.code == 0 and "would change: 2 of 2" in shown.out and "\x1b" not in shown.out
    assert velatura("dataset", "edit", "set", "--add", "new tag").code == 0
    told = (written / "2.txt").read_text(encoding="utf-8").splitlines()
    lines = [one for one in says.split("\n") if one.strip(" ,")]
    assert told == ([f"{one}, new tag" for one in lines] or ["new tag"])
    assert velatura("dataset", "undo", "set").code == 0 and (written / "2.txt").read_bytes() == before

    stats = velatura("dataset", "stats", "set", "--json").json[0]
    assert stats["captioned"] == 2 and sum(one["pictures"] for one in stats["buckets"]["sizes"]) == 2
    assert velatura("dataset", "stats", "set", "--where", "not caption:plain or letters:>0").code == 0
    dry = velatura("dataset", "caption", "set", "2", "--template", "drawing, {caption}", "--dry-run")
    assert dry.code in (0, 1) and "Traceback" not in dry.err and "\x1b" not in dry.out


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_named_in_one_sentence_and_left_alone(velatura: Velatura, written: Path, what: str) -> None:
    data, sentence = REFUSED[what]
    put(written, data)

    for words in (
        ("edit", "--add", "x"),
        ("edit", "--unify", "--sort", "frequency", "--dry-run"),
        ("stats",),
        ("caption", "--template", "drawing", "--replace-own"),
    ):
        command, *rest = words
        answer = velatura("dataset", command, "set", *rest)
        assert answer.code in (0, 1) and answer.err.count("2.txt") + answer.err.count("2.png") == 1, answer
        assert sentence in answer.err and (written / "2.txt").read_bytes() == data


def test_tags_with_parentheses_and_colons_are_found_renamed_and_removed(velatura: Velatura, written: Path) -> None:
    put(written, "jeanne (alter), re:zero, :3, ^_^, (Long_Hair:1.2)")

    found = velatura(
        "dataset", "stats", "set", "--where", 'tag:"jeanne (alter)" and tag:":3" and tag:re:zero', "--json"
    )
    assert found.json[0]["names"] == ["2.png"]
    velatura("dataset", "edit", "set", "--rename", "long hair", "short hair", "--remove", ":3, jeanne (alter)")
    assert (written / "2.txt").read_text() == "re:zero, ^_^, short hair\n"


def test_a_damaged_note_of_authors_is_one_sentence_for_every_captioner(velatura: Velatura, written: Path) -> None:
    (written / "authors.json").write_bytes(b"\x00{")
    answer = velatura("dataset", "caption", "set", "--template", "drawing")
    assert answer.code == 2 and "who wrote captions is damaged" in answer.err
    assert (written / "1.txt").read_text() == "plain, words" and not (written / ".originals").exists()
