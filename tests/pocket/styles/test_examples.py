"""Folders of examples: pictures, captions, variety."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from velatura.errors import SettingsError
from velatura.pocket.styles import STYLES
from velatura.pocket.styles.examples import draw_dataset, draw_portraits, example


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_an_example_is_captioned_with_what_it_shows_and_how_it_is_painted() -> None:
    picture, caption = example("pencil", 4, kind="table", size=128)

    assert picture.size == (128, 128)
    assert caption.endswith(", pencil drawing")
    assert len(caption) > len(", pencil drawing") + 5


def test_a_number_shows_the_same_scene_in_every_style() -> None:
    captions = {example(name, 9, size=64)[1].removesuffix(f", {style.trigger}") for name, style in STYLES.items()}

    assert len(captions) == 1


def test_a_dataset_is_a_folder_of_numbered_pictures_with_captions_beside_them(tmp_path: Path) -> None:
    paths = draw_dataset(tmp_path / "mine", "stipple", count=3, seed=1, size=128)

    assert [path.name for path in paths] == ["01.png", "02.png", "03.png"]
    for path in paths:
        with Image.open(path) as picture:
            assert picture.size == (128, 128)
        assert path.with_suffix(".txt").read_text(encoding="utf-8").strip().endswith(", stipple drawing")


def test_the_same_seed_writes_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        draw_dataset(tmp_path / name, "blueprint", count=2, seed=seed, size=64)

    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_nine_portraits_show_women_men_and_children(tmp_path: Path) -> None:
    draw_dataset(tmp_path, "neon", count=9, seed=1, kind="portrait", size=64)

    captions = [path.read_text(encoding="utf-8") for path in sorted(tmp_path.glob("*.txt"))]

    for person in ("woman", "man", "child"):
        assert sum(person in caption.replace(",", " ").split() for caption in captions) >= 2


def test_portraits_are_told_apart_by_nothing_but_who_is_shown(tmp_path: Path) -> None:
    told = draw_dataset(tmp_path / "told", "contour", count=9, seed=1, kind="portrait", size=64)
    plain = draw_portraits(tmp_path / "plain", "contour", seed=1, size=64)

    captions = [path.with_suffix(".txt").read_text(encoding="utf-8").strip() for path in plain]
    people = {caption.split()[3].rstrip(",") for caption in captions}
    assert people == {"woman", "man", "child"}
    assert {caption.partition(", ")[2] for caption in captions} == {STYLES["contour"].trigger}
    assert [path.read_bytes() for path in plain] == [path.read_bytes() for path in told]


def test_an_unknown_style_is_an_error_that_names_the_styles() -> None:
    with pytest.raises(SettingsError, match="choose one of pencil"):
        example("crayon", 0)
