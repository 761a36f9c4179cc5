from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from velatura import files
from velatura.errors import FileProblem


def names(folder: Path) -> list[str]:
    """What lies in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def refuse(number: int) -> Callable[..., None]:
    """A system call that always fails."""

    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"

    files.write_bytes(path, b"one")
    files.write_bytes(path, b"two")

    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["a.bin"]


def test_text_is_utf_8_with_line_feeds(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "größe\n")

    assert (tmp_path / "a.txt").read_bytes() == "größe\n".encode()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")
    owner = os if call == "fsync" else Path
    monkeypatch.setattr(owner, call, refuse(errno.ENOSPC))

    with pytest.raises(FileProblem, match="the disk is full"):
        files.write_bytes(path, b"new")

    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_an_interruption_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)

    with pytest.raises(KeyboardInterrupt):
        files.write_bytes(tmp_path / "a.bin", b"new")

    assert names(tmp_path) == []


def test_a_disk_that_cannot_sync_folders_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def only_files(handle: int) -> None:
        if os.fstat(handle).st_mode & 0o040000:
            raise OSError(errno.EINVAL, "not for folders")
        sync(handle)

    monkeypatch.setattr(os, "fsync", only_files)

    files.write_bytes(tmp_path / "a.bin", b"new")

    assert (tmp_path / "a.bin").read_bytes() == b"new"


def test_two_threads_that_write_one_file_leave_one_of_the_two_whole(tmp_path: Path) -> None:
    texts = ["a" * 100_000, "b" * 100_000]
    threads = [threading.Thread(target=files.write_text, args=(tmp_path / "a.txt", text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (tmp_path / "a.txt").read_text() in texts
    assert names(tmp_path) == ["a.txt"]


def test_the_longest_name_a_disk_allows_can_be_written(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / ("x" * 255), b"1")

    assert len(names(tmp_path)) == 1


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="no such file or folder"):
        files.write_bytes(tmp_path / "nowhere" / "a.bin", b"1")


def test_a_file_in_the_place_of_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")

    with pytest.raises(FileProblem, match="a file stands where a folder is needed"):
        files.make_folder(tmp_path / "runs")
    with pytest.raises(FileProblem, match="a file stands where a folder is needed"):
        files.make_folder(tmp_path / "runs" / "0001")


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "may only be read"),
        (errno.EIO, "the disk refused"),
    ],
)
def test_every_refusal_of_the_disk_has_its_sentence(tmp_path: Path, number: int, sentence: str) -> None:
    with pytest.raises(FileProblem, match=sentence) as caught, files.disk_problems(tmp_path):
        refuse(number)()

    assert caught.value.where == str(tmp_path)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("closed", "way", "asked", "sentence"),
    [
        ("project", os.X_OK, "project/dataset/01.png", "the folder may not be entered"),
        ("project/recipe.toml", os.R_OK, "project/recipe.toml", "the file or folder may not be read"),
        ("project/recipe.toml", os.W_OK, "project/recipe.toml", "the file or folder may not be written to"),
        ("project", os.W_OK, "project/new.toml", "nothing may be written into the folder"),
    ],
)
def test_what_is_closed_is_named_and_not_what_was_asked_for_within(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str, way: int, asked: str, sentence: str
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "recipe.toml").write_text("")
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: access(path, mode) and not (path == tmp_path / closed and mode == way)
    )
    with pytest.raises(FileProblem, match=sentence) as caught, files.disk_problems(tmp_path / asked):
        refuse(errno.EACCES)()

    assert caught.value.where == str(tmp_path / closed)


def test_a_line_is_appended_behind_one_that_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    files.append_line(path, "one")
    with path.open("ab") as file:
        file.write(b"tor")

    files.append_line(path, "two")
    files.append_line(path, "three")

    assert path.read_bytes() == b"one\ntor\ntwo\nthree\n"


def test_the_hash_is_that_of_the_whole_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * (files.BLOCK // 256) + b"and a rest"
    (tmp_path / "a.bin").write_bytes(data)

    assert files.sha256(tmp_path / "a.bin") == hashlib.sha256(data).hexdigest()
