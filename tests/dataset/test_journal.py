"""Edits that can be taken back."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from velatura.dataset import journal
from velatura.errors import DatasetError, FileProblem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "set"
    made.mkdir()
    for name in ("a", "b", "c"):
        (made / f"{name}.txt").write_text(f"caption of {name}", encoding="utf-8")
    return made


def content(folder: Path) -> dict[str, str]:
    """Every file outside of what is kept."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and journal.FOLDER not in path.parts
    }


def change_everything(folder: Path) -> None:
    with journal.edit(folder, "everything at once") as edit:
        edit.write_text("a.txt", "written anew")
        edit.write_text("new.txt", "not there before")
        edit.remove("b.txt")
        edit.rename([("c.txt", "a2.txt"), ("a.txt", "c.txt")])
        edit.write_text("masks/a.txt", "in a folder")


def test_undo_brings_every_file_back_and_redo_every_change(folder: Path) -> None:
    before = content(folder)
    change_everything(folder)
    after = content(folder)

    assert after == {
        "a2.txt": "caption of c",
        "c.txt": "written anew",
        "masks/a.txt": "in a folder",
        "new.txt": "not there before",
    }
    assert journal.undo(folder).told == "everything at once"
    assert content(folder) == before
    journal.redo(folder)
    assert content(folder) == after
    journal.undo(folder)
    assert content(folder) == before


def test_a_file_written_twice_in_one_edit_comes_back_as_it_was_before_both(folder: Path) -> None:
    with journal.edit(folder, "twice") as edit:
        edit.write_text("a.txt", "once")
        edit.write_text("a.txt", "twice")

    assert (folder / "a.txt").read_text(encoding="utf-8") == "twice"
    journal.undo(folder)
    assert (folder / "a.txt").read_text(encoding="utf-8") == "caption of a"


def test_edits_are_undone_from_the_last_to_the_first(folder: Path) -> None:
    for text in ("one", "two"):
        with journal.edit(folder, text) as edit:
            edit.write_text("a.txt", text)

    assert [journal.undo(folder).told for _ in range(2)] == ["two", "one"]
    with pytest.raises(DatasetError, match="nothing to undo"):
        journal.undo(folder)
    assert [journal.redo(folder).told for _ in range(2)] == ["one", "two"]


def test_names_can_be_swapped(folder: Path) -> None:
    with journal.edit(folder, "swap") as edit:
        edit.rename([("a.txt", "b.txt"), ("b.txt", "a.txt")])

    assert content(folder)["a.txt"] == "caption of b"
    journal.undo(folder)
    assert content(folder)["a.txt"] == "caption of a"


def test_no_name_is_given_twice_and_none_that_is_taken(folder: Path) -> None:
    before = content(folder)
    for pairs in ([("a.txt", "x.txt"), ("b.txt", "X.txt")], [("a.txt", "b.txt")]):
        with pytest.raises(DatasetError, match="two files named"), journal.edit(folder, "clash") as edit:
            edit.rename(pairs)
    assert content(folder) == before


def test_an_edit_that_fails_leaves_the_folder_as_it_was(folder: Path) -> None:
    before = content(folder)

    with pytest.raises(RuntimeError), journal.edit(folder, "fails") as edit:
        edit.write_text("a.txt", "half-way")
        edit.remove("b.txt")
        raise RuntimeError

    assert content(folder) == before


def test_a_full_disk_leaves_the_folder_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(folder)
    real = os.fsync
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(journal.os, "fsync", full)
    with pytest.raises(FileProblem, match="disk is full"), journal.edit(folder, "too much") as edit:
        edit.write_text("a.txt", "first")
        edit.write_text("b.txt", "second")

    assert content(folder) == before


def test_a_disk_too_full_to_note_that_an_edit_begins_leaves_no_trace_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, line: str) -> None:
        path.touch()
        raise FileProblem("the disk is full", where=path)

    monkeypatch.setattr(journal, "append_line", full)
    with pytest.raises(FileProblem), journal.edit(folder, "change"):
        raise AssertionError("it is not begun")

    assert journal.history(folder) == [] and journal.unfinished(folder) is None


@pytest.mark.parametrize("last", range(8))
def test_killed_at_any_change_nothing_is_lost(folder: Path, last: int) -> None:
    before = content(folder)
    program = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from velatura.dataset import journal
count = 0
def ending(name):
    real = getattr(journal, name)
    def step(*arguments):
        global count
        if count == {last}:
            os._exit(9)
        count += 1
        return real(*arguments)
    setattr(journal, name, step)
ending("_forward"); ending("_keep"); ending("_move")
with journal.edit(Path({str(folder)!r}), "killed") as edit:
    edit.write_text("a.txt", "new")
    edit.remove("b.txt")
    edit.rename([("c.txt", "b.txt")])
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False)

    assert ended.returncode == 9
    with journal.edit(folder, "the next"):
        pass
    assert content(folder) == before


def test_an_interrupted_edit_that_can_go_on_goes_on(folder: Path) -> None:
    before = content(folder)
    with pytest.raises(KeyboardInterrupt), journal.edit(folder, "resize", resumable=True) as edit:
        edit.write_text("a.txt", "done")
        edit.settle("a.txt", "a.txt")
        raise KeyboardInterrupt

    with pytest.raises(DatasetError, match="interrupted: resize"), journal.edit(folder, "another"):
        pass
    with journal.edit(folder, "resize", resumable=True) as edit:
        assert edit.settled == {"a.txt": "a.txt"}
        edit.write_text("b.txt", "done too")

    assert content(folder) | {"c.txt": ""} == {"a.txt": "done", "b.txt": "done too", "c.txt": ""}
    journal.undo(folder)
    assert content(folder) == before


def test_what_was_written_since_is_never_overwritten_by_an_undo(folder: Path) -> None:
    with journal.edit(folder, "take out") as edit:
        edit.remove("a.txt")
    (folder / "a.txt").write_text("by hand", encoding="utf-8")

    with pytest.raises(DatasetError, match=r"there is a new a\.txt"):
        journal.undo(folder)

    assert (folder / "a.txt").read_text(encoding="utf-8") == "by hand"


def test_a_change_by_hand_after_an_edit_is_kept_when_the_edit_is_undone(folder: Path) -> None:
    with journal.edit(folder, "write") as edit:
        edit.write_text("a.txt", "by the program")
    (folder / "a.txt").write_text("by hand", encoding="utf-8")

    undone = journal.undo(folder)

    assert (folder / "a.txt").read_text(encoding="utf-8") == "caption of a"
    assert (undone.folder / "after" / "a.txt").read_text(encoding="utf-8") == "by hand"


def test_an_edit_that_changes_nothing_leaves_no_trace(folder: Path) -> None:
    with journal.edit(folder, "nothing"):
        pass
    assert not (folder / journal.FOLDER).exists()


def test_two_processes_do_not_edit_one_dataset(folder: Path) -> None:
    with journal.edit(folder, "one") as edit:
        edit.write_text("a.txt", "one")
        with pytest.raises(DatasetError, match="another process"), journal.edit(folder, "two"):
            pass


def test_where_the_disk_knows_no_links_files_are_copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(journal.os, "link", refused)
    before = content(folder)
    change_everything(folder)
    journal.undo(folder)

    assert content(folder) == before


def test_forgetting_frees_what_was_kept(folder: Path) -> None:
    change_everything(folder)
    after = content(folder)

    assert journal.forget(folder) > 0
    assert journal.history(folder) == []
    assert content(folder) == after


def test_a_name_never_leads_out_of_the_dataset(folder: Path) -> None:
    for name in ("../a.txt", "/a.txt", ""):
        with pytest.raises(ValueError, match="not a name"), journal.edit(folder, "out") as edit:
            edit.write_text(name, "x")
