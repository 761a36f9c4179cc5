"""The command: axes and settings as they are written, a sheet that is gone on with, and mistakes in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tiny import base as base
from velatura import cli


def run(*told: str) -> int:
    return cli.main(["compare", *told])


def test_a_sheet_is_painted_gone_on_with_and_widened(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sheet"
    told = ["a boat", "--base", str(base), "--set", "steps=1", "--set", "seed=3", "--out", str(folder)]
    assert run(*told, "--x", "cfg=2,3", "--y", "prompt.replace=boat,house") == 0
    out = capsys.readouterr().out
    assert "cells: 4" in out and "page: sheet.html" in out
    assert {"sheet.toml", "sheet.html", "sheet.png", "cells.json"} <= {path.name for path in folder.iterdir()}

    assert run(str(folder), "--x", "cfg=2-4", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["event"] == "done" and lines[-1]["summary"]["painted"] == 2 and lines[-1]["summary"]["cells"] == 6
    written = (folder / "sheet.toml").read_text(encoding="utf-8")
    assert written.count("[[axes]]") == 2 and "values = [2, 3, 4]" in written


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (["a boat"], "a sheet needs an axis"),
        (["a boat", "--x", "sed=1,2"], "did you mean seed?"),
        (["a boat", "--x", "seed"], "'seed' has no values"),
        (["a boat", "--x", "seed=1", "--set", "stepps=3"], "did you mean steps?"),
        (["a boat", "--x", "seed=1", "--set", "seed=1-3"], "is not one value"),
        (["missing.toml"], "there is no such file"),
    ],
)
def test_mistakes_end_in_a_sentence(
    told: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*told) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
