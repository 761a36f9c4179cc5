"""Captions arrive whole, whatever editor and system wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest

from velatura.dataset.captions import read_captions, with_trigger
from velatura.errors import DatasetError


def written(folder: Path, data: bytes) -> Path:
    path = folder / "01.txt"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_unicode_encoding_reads_the_same(tmp_path: Path, encoding: str) -> None:
    caption = "une fenêtre, „Öl“ 🎨 a boat"

    assert read_captions(written(tmp_path, caption.encode(encoding))).captions == (caption,)


def test_unicode_needs_no_remark_where_it_says_what_it_is(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert read_captions(written(tmp_path, "façade".encode(encoding))).note is None


def test_a_windows_file_is_read_and_remarked_on(tmp_path: Path) -> None:
    read = read_captions(written(tmp_path, "café – “night”".encode("cp1252")))

    assert read.captions == ("café – “night”",)
    assert read.note is not None
    assert "UTF-8" in read.note


def test_other_scripts_come_through(tmp_path: Path) -> None:
    caption = "水彩画の港、夜, лодка, قارب"

    assert read_captions(written(tmp_path, caption.encode())).captions == (caption,)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_each_line_that_is_not_blank_is_a_caption(tmp_path: Path, end: str) -> None:
    text = end.join(["  a red boat ", "", "a boat at night", ""])

    assert read_captions(written(tmp_path, text.encode())).captions == ("a red boat", "a boat at night")


def test_an_unusual_separator_does_not_break_a_line(tmp_path: Path) -> None:
    assert read_captions(written(tmp_path, "a\x0bb\u2028c".encode())).captions == ("a\x0bb\u2028c",)


@pytest.mark.parametrize("data", [b"", b" \r\n\n", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_an_empty_file_is_the_empty_caption(tmp_path: Path, data: bytes) -> None:
    assert read_captions(written(tmp_path, data)).captions == ("",)


@pytest.mark.parametrize("data", [b"\x00\x01\x02\x03\x00\xff\x00\x00", b"\xff\xfea", b"\x81\x8d\x90", bytes(range(32))])
def test_what_is_not_text_is_an_error_and_never_an_empty_caption(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DatasetError, match="not text"):
        read_captions(written(tmp_path, data))


def test_a_file_too_large_for_a_caption_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="too large"):
        read_captions(written(tmp_path, b"a" * 1_000_001))


@pytest.mark.parametrize(
    ("caption", "trigger", "told"),
    [
        ("a red boat", "mara", "mara, a red boat"),
        ("", "mara", "mara"),
        ("mara, a red boat", "mara", "mara, a red boat"),
        ("a portrait of Mara at night", "mara", "a portrait of Mara at night"),
        ("a marathon", "mara", "mara, a marathon"),
        ("a boat, c++ style", "c++ style", "a boat, c++ style"),
        ("a red boat", None, "a red boat"),
        ("a red boat", "  ", "a red boat"),
    ],
)
def test_the_trigger_stands_in_front_unless_it_is_said_already(caption: str, trigger: str | None, told: str) -> None:
    assert with_trigger(caption, trigger) == told
