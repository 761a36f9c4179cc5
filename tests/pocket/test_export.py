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
    def exported(state: Path, folder: Path, *, version: int, commit: str, kind: str) -> None:
        assert kind == "epsilon"
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


@pytest.mark.parametrize(
    "told", [("--kind", "v"), ("--kind", "flow", "--to", "base", "--single-file", "one.safetensors")]
)
def test_another_kind_neither_replaces_the_built_in_base_nor_is_a_file_of_another_family(
    told: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "export", lambda *given, **more: pytest.fail("written"))
    monkeypatch.setattr(sys, "argv", ["export", "--state", str(tmp_path), *told])
    with pytest.raises(SystemExit, match="2"):
        export.main()
    assert "epsilon" in capsys.readouterr().err
