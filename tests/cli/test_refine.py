"""`velatura refine` as a user has it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

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


def test_a_mask_with_nothing_in_it_is_named_before_a_base_is_loaded(velatura: Velatura, picture: Path) -> None:
    Image.new("L", (64, 64)).save(picture.with_name("empty.png"))
    answer = velatura("refine", "inpaint", picture, "--mask", "images/empty.png", "--base", "pocket")
    assert answer.code == 2
    assert "the mask is black all over, so there is nothing to paint (images/empty.png); draw in white" in answer.err
    assert "loading" not in answer.err
    answer = velatura("refine", "inpaint", picture, "--box", "0,0,64,64", "--invert")
    assert "the mask is white all over, so there is nothing to paint; leave --invert out" in answer.err


@pytest.mark.parametrize(
    ("words", "wanted"),
    [(["--to", "96"], (96, 96)), (["--to", "0x32"], (32, 32)), (["--to", "80x70"], (80, 70)), ([], (128, 128))],
)
def test_of_a_size_the_other_side_follows(
    velatura: Velatura, picture: Path, words: list[str], wanted: tuple[int, int]
) -> None:
    answer = velatura("refine", "upscale", picture, *words, "--steps", 1, "--denoising", 0, "--tile", 128, "--json")
    assert answer.code == 0, answer.err
    with Image.open(picture.with_name(answer.json[-1]["summary"]["files"][0])) as image:
        assert image.size == wanted


def test_several_detectors_stand_one_after_the_other_with_what_is_theirs(velatura: Velatura, picture: Path) -> None:
    words = ("--find", "scene, confidence=1", "--find", "scene, steps=1", "--box", "8,8,40,40", "--json")
    answer = velatura("refine", "detail", picture, *words)
    assert answer.code == 0, answer.err
    settings = velatura("read", "images/4-detail.png", "--json").json[0]["settings"]
    assert (settings["ADetailer confidence"], settings["ADetailer steps 2nd"]) == ("1", "1")
    answer = velatura("refine", "detail", picture, "--find", "scene, step=1")
    assert (answer.code, "a find has no setting 'step'" in answer.err) == (2, True)


def test_a_size_that_is_none_is_refused(velatura: Velatura, picture: Path) -> None:
    for told in ("5000x", "large", "2x3x4"):
        answer = velatura("refine", "upscale", picture, "--to", told)
        assert (answer.code, f"'{told}' is no size" in answer.err) == (2, True)


def test_pictures_that_are_not_there_are_named(velatura: Velatura) -> None:
    answer = velatura("refine", "inpaint", "images/*.png", "--box", "1,2,3,4")
    assert answer.code == 2
    assert "no picture is called like" in answer.err
