"""Words on pictures are set in a typeface that has their letters, and what none has is seen to be missing."""

from __future__ import annotations

import pytest
from PIL import ImageFont

from velatura import lettering
from velatura.lettering import GAP, lacks, shown, typeface


def test_plain_words_are_set_in_pillow_s_own_typeface() -> None:
    font = typeface("01 plain (copy).png", 14)

    assert bytes(font.getmask("plain.png")) == bytes(ImageFont.load_default(14).getmask("plain.png"))
    assert not lacks("01 plain (copy).png", font)


def test_what_no_typeface_has_becomes_an_ellipsis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "FILES", ())
    for name, drawn in {
        "Müller.png": f"M{GAP}ller.png",
        "猫たち.png": f"{GAP}.png",
        "bad\udcff.png": f"bad{GAP}.png",
        "a\x01b": f"a{GAP}b",
    }.items():
        font = typeface(name, 14)
        assert lacks(name, font)
        assert shown(name, font) == drawn


def test_a_typeface_of_the_system_is_taken_where_it_has_more(monkeypatch: pytest.MonkeyPatch) -> None:
    if not any(map(lettering._found, lettering.FILES)):
        pytest.skip("this system has no typeface that is known")
    name = "Müller été.png"
    font = typeface(name, 14)

    assert not lacks(name, font)
    assert shown(name, font) == name
    assert lacks(name, typeface("plain", 14))
    assert font.size == 14


def test_accents_that_stand_alone_are_joined_and_signs_that_show_nothing_left_out() -> None:
    font = typeface("plain", 14)

    assert shown("a\u200db\ufe0f\ufeff", font) == "ab"
    assert not lacks("a\u200db", font)
    assert lettering._composed("e\u0301") == "é"


def test_files_that_are_no_typefaces_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "FILES", ("no such typeface.ttf",))

    assert typeface("é", 14) is typeface("e", 14)
