from __future__ import annotations

from pathlib import Path

import pytest

from velatura.cli import output


def test_columns_are_as_wide_as_they_need() -> None:
    text = output.table(("run", "state"), [("0001-ink", "finished"), ("0002", "x\ny")])

    assert text == "run       state\n0001-ink  finished\n0002      x y"


def test_wide_and_combining_letters_are_counted_as_a_terminal_shows_them() -> None:
    assert output.width("墨") == 2 and output.width("e\u0301") == 1
    lines = output.table(("", "."), [("墨", "."), ("ab", ".")]).splitlines()
    assert lines == ["    .", "墨  .", "ab  ."]


def test_file_names_cannot_command_the_terminal() -> None:
    assert output.printable("a\x1b[2Jb\x9bc\td\n") == "a�[2Jb�c\td\n"


def test_paths_are_shown_from_here_or_from_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    assert output.shown(tmp_path / "work" / "ink") == "ink"
    assert output.shown(tmp_path / "other") == "~/other"
    assert output.shown(Path("ink")) == "ink"
    assert output.shown(tmp_path.parent) == str(tmp_path.parent)
