"""`velatura refine` as a user has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Velatura
from tests.paintings import clouds
from tests.tiny import base as base


@pytest.fixture
def picture(velatura: Velatura, base: Path, home: Path, tmp_path: Path) -> Path:
    (home / "config.toml").write_text(f"[folders]\nbases = ['{base.parent}']\n", encoding="utf-8")
    answer = velatura("generate", "a boat", "--base", base, "--seed", 4, "--steps", 2, "--out", "images")
    assert answer.code == 0, answer.err
    return tmp_path / "images" / "4.png"


def test_a_part_of_every_picture_that_is_meant_is_painted_anew(velatura: Velatura, picture: Path) -> None:
    clouds(1, (64, 64)).save(picture.with_name("mask.png"))
    answer = velatura("refine", "inpaint", "images/4*.png", "--mask", "images/mask.png", "--json", "--seed", 6)
    assert answer.code == 0, answer.err
    assert answer.json[-1]["summary"]["files"] == ["4-inpaint.png"]
    assert velatura("read", "images/4-inpaint.png", "--json").json[0]["settings"]["Seed"] == "6"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "it is not said which part is to be painted anew"),
        (["--box", "1,2,3"], "'1,2,3' is no box; write left,top,right,bottom"),
        (["--box", "1,2,30,400"], "is not in the picture of 64 x 64 pixels"),
        (["--mask", "none.png"], "none.png"),
        (["--box", "1,2,30,40", "--fill", "orginal"], "did you mean 'original'"),
    ],
)
def test_mistakes_end_in_a_sentence(velatura: Velatura, picture: Path, words: list[str], sentence: str) -> None:
    answer = velatura("refine", "inpaint", picture, *words)
    assert (answer.code, len(answer.err.strip().splitlines()[-1:])) == (2, 1)
    assert sentence in answer.err
    assert list(picture.parent.iterdir()) == [picture]


def test_pictures_that_are_not_there_are_named(velatura: Velatura) -> None:
    answer = velatura("refine", "inpaint", "images/*.png", "--box", "1,2,3,4")
    assert answer.code == 2
    assert "no picture is called like" in answer.err
