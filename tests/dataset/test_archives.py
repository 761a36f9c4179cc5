"""Zips that mean harm, or are broken, do none."""

from __future__ import annotations

import io
import stat
import warnings
import zipfile
from pathlib import Path

import pytest

from tests.paintings import clouds
from velatura.dataset import archives
from velatura.dataset.adding import add
from velatura.errors import DatasetError, VelaturaError


def png() -> bytes:
    buffer = io.BytesIO()
    clouds(1, (32, 32)).save(buffer, "PNG")
    return buffer.getvalue()


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a/../../evil.png", "C:\\evil.png", "..\\evil.png"])
def test_nothing_is_written_outside(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, png())
        archive.writestr("good.png", png())

    added = add([tmp_path / "a.zip"], tmp_path / "set")

    assert added.names == ("good.png",)
    assert "outside of its folder" in str(added.problems[0])
    assert [name for name in everything(tmp_path) if "evil" in name] == []


def test_links_in_a_zip_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png())
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(tmp_path / "secret.png"))
        archive.writestr("good.png", png())

    added = add([tmp_path / "a.zip"], tmp_path / "set")

    assert added.names == ("good.png",) and "link or a device" in str(added.problems[0])


def test_a_bomb_is_stopped_by_what_comes_out_of_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(50 << 20))

    with pytest.raises(DatasetError, match=r"bomb\.png in the zip unpacks to far more"):
        add([tmp_path / "a.zip"], tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILES", 2)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", b"")

    with pytest.raises(DatasetError, match="3 files"):
        add([tmp_path / "a.zip"], tmp_path / "set")


@pytest.mark.parametrize("cut", [0, 10, 60, -30])
def test_a_zip_that_is_cut_off_is_said_to_be_damaged(cut: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        archive.writestr("a.png", png())
    (tmp_path / "a.zip").write_bytes((tmp_path / "whole.zip").read_bytes()[:cut])

    with pytest.raises(DatasetError, match="damaged"):
        add([tmp_path / "a.zip"], tmp_path / "set")


def test_every_byte_that_is_wrong_ends_in_a_sentence_or_in_pictures(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "whole.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", png())
        archive.writestr("a.txt", "a boat " * 30)
    data = (tmp_path / "whole.zip").read_bytes()
    for place in range(0, len(data), max(1, len(data) // 60)):
        (tmp_path / "a.zip").write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        target = tmp_path / f"set-{place}"
        try:
            add([tmp_path / "a.zip"], target)
        except VelaturaError:
            assert not target.exists()


def test_names_that_differ_by_case_or_are_illegal_stay_apart(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for seed, name in enumerate(("a.png", "A.png", "con.png", "what?.png", "folder./x.png")):
            buffer = io.BytesIO()
            clouds(seed, (32, 32)).save(buffer, "PNG")
            archive.writestr(name, buffer.getvalue())

    names = archives.unpack(tmp_path / "a.zip", (tmp_path / "out"))

    assert names == []
    assert everything(tmp_path / "out") == ["A-2.png", "a.png", "con_.png", "folder", "folder/x.png", "what-.png"]


def test_captions_stay_with_their_pictures_where_names_differ_by_case_alone(tmp_path: Path) -> None:
    zipped = tmp_path / "set.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(zipped, "w") as archive:
        warnings.simplefilter("ignore")  # of the name that stands twice
        for name in ("a.txt", "A.txt", "masks/a.png", "A.png", "a.png", "a.png", "12:30.png", "con.png", "con.txt"):
            archive.writestr(name, name)
    made = tmp_path / "made"
    made.mkdir()

    assert archives.unpack(zipped, made) == []

    told = {path.relative_to(made).as_posix(): path.read_text() for path in made.rglob("*") if path.is_file()}
    given = {text: Path(name).stem for name, text in told.items() if text != "a.png"}
    assert given["a.txt"] == given["masks/a.png"] == "a" and given["A.txt"] == given["A.png"] == "A-2"
    assert sorted(name for name, text in told.items() if text == "a.png") == ["a-3.png", "a.png"]
    assert given["con.txt"] == given["con.png"] == "con_" and "12-30.png" in told
