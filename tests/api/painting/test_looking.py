"""What a detector finds, told and drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from velatura import api
from velatura.api.painting import looking
from velatura.errors import SettingsError
from velatura.generation.finds import Find


def test_finds_are_drawn_on_a_copy_and_no_file_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (64, 48), "white").save(tmp_path / "a.png")
    shape = Image.new("L", (64, 48))
    shape.paste(255, (12, 12, 20, 20))
    told = [Find((8, 8, 40, 30), 0.9, "face", shape)]
    monkeypatch.setattr(looking, "detector", lambda *_: lambda _: told)
    assert api.look("scene", tmp_path / "a.png", 0.3, tmp_path / "out.png") == told
    with Image.open(tmp_path / "out.png") as image:
        assert image.getpixel((8, 29)) == looking.PEN
        assert image.getpixel((60, 40)) == (255, 255, 255)
        assert image.getpixel((14, 18)) not in (looking.PEN, (255, 255, 255))
    with pytest.raises(SettingsError, match="there already"):
        api.look("scene", tmp_path / "a.png", 0.3, tmp_path / "out.png")
