"""Whose pictures these are: noted, read from files, never guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.paintings import clouds
from velatura.dataset import rights
from velatura.dataset.adding import add
from velatura.dataset.rights import Record, Rights
from velatura.errors import DatasetError


def test_a_record_reads_back_as_it_was_written(tmp_path: Path) -> None:
    record = Record(Rights(author="me"), {'odd "名" \\ name.png': Rights(licence="CC BY 4.0", consent="a\nb\x7f")})
    (tmp_path / rights.FILE).write_text(record.to_toml(), encoding="utf-8")

    assert rights.load(tmp_path) == record
    assert record.of('odd "名" \\ name.png').author == "me"


def test_unknown_stays_unknown() -> None:
    record = Record(Rights(author="me"), {"b.png": Rights(source="a page")})

    assert rights.gaps(record, ["a.png", "b.png"]) == {"source": ["a.png"], "licence": ["a.png", "b.png"]}


def test_a_mistyped_key_is_named(tmp_path: Path) -> None:
    (tmp_path / rights.FILE).write_text('[all]\nauthr = "me"\n')
    with pytest.raises(DatasetError, match="did you mean author"):
        rights.load(tmp_path)


def test_cameras_painters_and_pages_are_read_from_the_files(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[271], exif[272], exif[315] = "Maker", "Model 1", "Ann"
    clouds(1, (64, 48)).save(tmp_path / "photo.jpg", exif=exif)
    text = PngInfo()
    text.add_text("parameters", "a boat\nSteps: 20, Sampler: Euler")
    clouds(2, (64, 48)).save(tmp_path / "painted.png", pnginfo=text)
    clouds(3, (64, 48)).save(tmp_path / "found.png")
    (tmp_path / "found.png.json").write_text(
        json.dumps({"author": {"name": "Bo"}, "post_url": "https://example.org/1"})
    )
    clouds(4, (64, 48)).save(tmp_path / "plain.png")

    add([tmp_path], tmp_path / "set")

    record = rights.load(tmp_path / "set")
    assert record.of("photo.jpg") == Rights(author="Ann", origin="camera: Maker Model 1")
    assert record.of("painted.png").origin == "generated: A1111 or its like"
    assert record.of("found.png") == Rights(author="Bo", source="https://example.org/1")
    assert record.of("plain.png") == Rights()


def test_what_no_text_file_can_hold_is_noted_all_the_same(tmp_path: Path) -> None:
    clouds(1, (64, 48)).save(tmp_path / "a.png")
    (tmp_path / "a.png.json").write_text('{"author": "A\\ud800nn\\u0000\\u007f", "license": "\\"CC\\\\0\\""}')

    add([tmp_path / "a.png"], tmp_path / "set")

    assert rights.load(tmp_path / "set").of("a.png") == Rights(author="A?nn\0\x7f", licence='"CC\\0"')
