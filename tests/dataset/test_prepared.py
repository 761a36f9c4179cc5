"""What training is given: the same for the same content, whole sentences, the right pixels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from velatura.dataset.images import open_image
from velatura.dataset.prepared import Prepared, lines, load, prepare
from velatura.dataset.scan import Dataset, scan
from velatura.dataset.split import Split, hold_out
from velatura.errors import DatasetError
from velatura.recipe import FolderSettings

Paint = Callable[..., Path]


@pytest.fixture
def dataset(paint: Paint, tmp_path: Path) -> Dataset:
    paint("1.png", 1, size=(96, 64), caption="a boat")
    paint("2.png", 2, size=(60, 60), caption="mara at night\na woman at night")
    paint("3.png", 3, size=(64, 200))
    paint("4.png", 4, size=(64, 64), caption="")
    paint("5.png", 5, size=(640, 640), caption="a tree")
    return scan(tmp_path)


def by_name(prepared: tuple[Prepared, ...]) -> dict[str, Prepared]:
    return {one.picture.name: one for one in prepared}


def test_each_picture_gets_bucket_captions_and_side(dataset: Dataset) -> None:
    split = Split((0, 1, 2), (3, 4))

    told = FolderSettings(trigger="mara")
    found = by_name(prepare(dataset, area=(64, 64), step=8, minimum=32, maximum=128, rules=told, split=split))

    assert {name: one.bucket for name, one in found.items()} == {
        "1.png": (80, 48),
        "2.png": (64, 64),
        "3.png": (32, 104),
        "4.png": (64, 64),
        "5.png": (64, 64),
    }
    assert {name: one.captions for name, one in found.items()} == {
        "1.png": ("mara, a boat",),
        "2.png": ("mara at night", "mara, a woman at night"),
        "3.png": ("mara",),
        "4.png": ("mara",),
        "5.png": ("mara, a tree",),
    }
    assert {name for name, one in found.items() if one.held_out} == {"4.png", "5.png"}


def test_without_trigger_and_captions_the_caption_is_empty(dataset: Dataset) -> None:
    assert by_name(prepare(dataset, area=(64, 64), step=8, minimum=32))["3.png"].captions == ("",)


def test_renaming_files_changes_nothing_that_training_sees(dataset: Dataset) -> None:
    def seen(of: Dataset) -> list[object]:
        split = hold_out(of, seed=3)
        prepared = prepare(of, area=(64, 64), step=8, minimum=32, rules=FolderSettings(trigger="mara"), split=split)
        return [(one.picture.sha256, one.bucket, one.resized, one.captions, one.held_out) for one in prepared]

    before = seen(dataset)
    for old, new in (("1", "z"), ("5", "0"), ("3", "4b")):
        for suffix in (".png", ".txt"):
            if (dataset.folder / (old + suffix)).exists():
                (dataset.folder / (old + suffix)).rename(dataset.folder / (new + suffix))
    renamed = scan(dataset.folder)

    assert [picture.sha256 for picture in renamed.pictures] != [picture.sha256 for picture in dataset.pictures]
    assert seen(renamed) == before


def test_pixels_come_at_the_bucket_s_size_and_say_where_from(dataset: Dataset) -> None:
    for one in prepare(dataset, area=(64, 64), step=8, minimum=32):
        image, geometry = load(one)
        assert image.size == one.bucket
        assert image.mode == "RGB"
        assert geometry.original == (one.picture.height, one.picture.width)
        assert geometry.target == (one.bucket[1], one.bucket[0])


def test_without_upscaling_small_pictures_keep_their_pixels(dataset: Dataset) -> None:
    one = by_name(prepare(dataset, area=(64, 64), step=8, no_upscale=True))["2.png"]

    assert (one.bucket, one.resized) == ((56, 56), (60, 60))
    image, geometry = load(one)
    assert image.tobytes() == open_image(one.picture.path).crop((2, 2, 58, 58)).tobytes()
    assert geometry.crop_top_left == (2, 2)


def test_a_picture_too_small_for_any_bucket_is_named(paint: Paint, tmp_path: Path) -> None:
    paint("tiny.png", 1, size=(5, 90))

    with pytest.raises(DatasetError, match=r"5 x 90.*tiny\.png"):
        prepare(scan(tmp_path), area=(64, 64), step=8, no_upscale=True)


def test_a_picture_exchanged_since_is_noticed(dataset: Dataset, paint: Paint) -> None:
    prepared = by_name(prepare(dataset, area=(64, 64), step=8, minimum=32))
    paint("1.png", 1, size=(64, 96))

    with pytest.raises(DatasetError, match="has changed"):
        load(prepared["1.png"])


def test_the_record_holds_one_line_per_picture_and_no_path(dataset: Dataset, tmp_path: Path) -> None:
    told, split = FolderSettings(trigger="🎨"), Split((0, 1, 2, 3), (4,))
    prepared = prepare(dataset, area=(64, 64), step=8, minimum=32, rules=told, split=split)

    records = {record["name"]: record for record in map(json.loads, lines(prepared))}

    assert len(records) == 5
    assert records["1.png"] == {
        "name": "1.png",
        "sha256": dataset.pictures[0].sha256,
        "bucket": [80, 48],
        "captions": ["🎨, a boat"],
        "split": "train",
    }
    assert records["5.png"]["split"] == "held out"
    assert not any("\n" in line or tmp_path.name in line for line in lines(prepared))
