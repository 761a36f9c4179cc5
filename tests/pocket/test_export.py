"""The export's command; what it writes of a training is tried where the training is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import tiny
from velatura.families.sd15.save import to_single_file
from velatura.pocket import export


def test_the_base_is_also_written_as_one_file_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exported(state: Path, folder: Path, *, version: int, commit: str) -> None:
        tiny.sd15(folder)

    monkeypatch.setattr(export, "export", exported)
    folder, single = tmp_path / "base", tmp_path / "new" / "pocket.safetensors"
    told = ["export", "--state", str(tmp_path), "--to", str(folder)]
    monkeypatch.setattr(sys, "argv", told)
    export.main()
    assert not single.exists()
    monkeypatch.setattr(sys, "argv", [*told, "--single-file", str(single)])
    export.main()
    assert single.read_bytes() == to_single_file(folder)
