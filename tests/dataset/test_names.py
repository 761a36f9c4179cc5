"""Names of every script, and odd ones, go through adding, renaming, exporting and undoing."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import pytest

from tests.paintings import clouds
from velatura.dataset import journal
from velatura.dataset.adding import add
from velatura.dataset.exporting import export
from velatura.dataset.names import free_name, legal_name, numbered
from velatura.dataset.scan import scan
from velatura.randomness import generator

SCRIPTS = {
    "Latin": (0x61, 0x7A),
    "Latin with accents": (0xC0, 0x17F),
    "Greek": (0x3B1, 0x3C9),
    "Cyrillic": (0x430, 0x44F),
    "Armenian": (0x561, 0x586),
    "Hebrew": (0x5D0, 0x5EA),
    "Arabic": (0x627, 0x64A),
    "Devanagari": (0x905, 0x939),
    "Bengali": (0x985, 0x9B9),
    "Tamil": (0xB85, 0xBB9),
    "Thai": (0xE01, 0xE30),
    "Georgian": (0x10D0, 0x10F0),
    "Hangul": (0xAC00, 0xD7A3),
    "Hiragana": (0x3041, 0x3096),
    "Katakana": (0x30A1, 0x30FA),
    "Han": (0x4E00, 0x9FA5),
    "Ethiopic": (0x1200, 0x1248),
    "emoji": (0x1F600, 0x1F64F),
    "Gothic": (0x10330, 0x10340),
    "combining marks": (0x300, 0x32F),
    "ASCII signs": (0x20, 0x7E),
}


def drawn(script: str, seed: int) -> str:
    """A word of assigned signs of one script."""
    first, last = SCRIPTS[script]
    signs = [sign for code in range(first, last + 1) if unicodedata.category(sign := chr(code)) not in ("Cn", "Co")]
    stream = generator(seed, "names", script)
    return "".join(signs[int(stream.integers(len(signs)))] for _ in range(int(stream.integers(1, 12))))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_legal_name_is_legal_stays_itself_and_keeps_its_letters(script: str) -> None:
    for seed in range(200):
        word = drawn(script, seed)
        name = legal_name(word)

        assert legal_name(name) == name
        assert len(name.encode()) <= 80
        assert not set(name) & set('<>:"/\\|?*') and name == name.strip(" .")
        assert unicodedata.is_normalized("NFC", name)
        if script not in ("ASCII signs", "combining marks"):
            assert name == unicodedata.normalize("NFC", word)


@pytest.mark.parametrize("script", SCRIPTS)
def test_pictures_of_every_script_come_in_and_go_out_under_their_names(script: str, tmp_path: Path) -> None:
    words = list(dict.fromkeys(legal_name(drawn(script, seed)) or "x" for seed in range(3)))
    for seed, word in enumerate(words):
        path = tmp_path / "source" / f"{word}.png"
        path.parent.mkdir(exist_ok=True)
        clouds(seed, (24, 24)).save(path)
        path.with_suffix(".txt").write_text(word, encoding="utf-8") if path.stem == word else None
        (tmp_path / "source" / f"{word}.txt").write_text(word, encoding="utf-8")
    before = scan(tmp_path / "source")

    add([tmp_path / "source"], tmp_path / "set")
    export(scan(tmp_path / "set"), tmp_path / "out.zip", "civitai")
    add([tmp_path / "out.zip"], tmp_path / "again")

    again = scan(tmp_path / "again")
    assert {(one.sha256, one.captions) for one in again.pictures} == {
        (one.sha256, one.captions) for one in before.pictures
    }
    assert all(one.captions == (one.name.removesuffix(".png").strip(),) for one in before.pictures)
    journal.undo(tmp_path / "again")
    assert [path for path in (tmp_path / "again").iterdir() if path.name != ".originals"] == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows takes no such names")
@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a:b", "con", "what?", " a ", "a.", "*", '"', "a" * 240, "a\u202eb"])
def test_names_that_no_system_should_have_come_in_under_legal_ones(name: str, tmp_path: Path) -> None:
    path = tmp_path / "source" / f"{name}.png"
    path.parent.mkdir()
    clouds(0, (24, 24)).save(path)
    (tmp_path / "source" / f"{name}.txt").write_text("told", encoding="utf-8")

    (new,) = add([tmp_path / "source"], tmp_path / "set").names

    assert legal_name(new.removesuffix(".png")) == new.removesuffix(".png")
    assert scan(tmp_path / "set").pictures[0].captions == ("told",)


def test_names_that_differ_in_case_or_accents_alone_are_numbered() -> None:
    taken: set[str] = set()
    names = []
    for name in ("a", "A", "straße", "STRASSE", "a"):
        names.append(free_name(name, taken))
        taken.add(names[-1].casefold())

    assert names == ["a", "A-2", "straße", "STRASSE-2", "a-3"]


def test_numbers_have_as_many_digits_as_they_need() -> None:
    assert list(numbered(3)) == ["01", "02", "03"]
    assert numbered(120)[0] == "001"
