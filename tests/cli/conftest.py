"""The command line as a user has it: words in; exit code, stdout and stderr out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from velatura import cli


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[Any]:
        """Every line of stdout, which must be JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


Velatura = Callable[..., Answer]


@pytest.fixture
def velatura(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Velatura:
    """`velatura("new", "ink")` runs the command in tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "_prepare", lambda: None)  # it changes the whole process

    def command(*words: object) -> Answer:
        capsys.readouterr()
        code = cli.main([str(word) for word in words])
        return Answer(code, *capsys.readouterr())

    return command


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of three pictures that nobody would take for one another, two of them with a caption."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    round_light, falling_light = Image.radial_gradient("L"), Image.linear_gradient("L")
    round_light.resize((96, 64)).convert("RGB").save(folder / "a.png")
    falling_light.resize((64, 64)).convert("RGB").save(folder / "b.jpg")
    round_light.crop((0, 0, 100, 200)).convert("RGB").save(folder / "größe \N{ARTIST PALETTE}.png")
    (folder / "a.txt").write_text("a boat", encoding="utf-8")
    (folder / "b.caption").write_bytes("ein Haus, größer".encode("cp1252"))
    return folder
