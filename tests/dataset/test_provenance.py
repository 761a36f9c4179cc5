"""Findings of where pictures come from, as files and rights.toml say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dataset.c2pa import stores
from velatura.dataset import provenance, rights, survey
from velatura.dataset.adding import add
from velatura.dataset.findings import Finding
from velatura.dataset.framing import Target
from velatura.dataset.reframing import Options, reframe
from velatura.dataset.rights import Rights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = ("generated.jpg", "photo-v1.jpg", "reserved.avif")
    add([stores.GOLDEN / name for name in names], tmp_path / "set")
    return tmp_path / "set"


def findings(folder: Path, kind: str = "") -> dict[str, Finding]:
    return {one.kind: one for one in provenance.check(survey.survey(folder), rights.load(folder), kind=kind)}


def test_what_manifests_say_is_found(folder: Path) -> None:
    found = findings(folder)

    assert found["generated"].names == ("generated.jpg",)
    assert found["place"].names == ("photo-v1.jpg",)
    assert found["reserved"].names == ("reserved.avif",)
    assert found["reserved"].level == "warning"
    assert found["rights"].what == "unknown: author of 1, source of 2, licence of 2 of 3 pictures"
    assert "consent of 3" in findings(folder, "character")["rights"].what


def test_rights_toml_holds_it_too(folder: Path) -> None:
    record = rights.load(folder)

    assert record.of("reserved.avif") == Rights(
        "Bo Lind, Cy", "negative 12", "(c) 2026 Bo Lind; no training of generative models"
    )
    assert record.of("photo-v1.jpg").author == "Ann Ström"
    assert record.of("photo-v1.jpg").origin == "camera: Lumen L-1 (C2PA, signature not checked)"


def test_noted_consent_settles_what_is_reserved(folder: Path) -> None:
    record = rights.load(folder).with_told(["reserved.avif"], {"consent": "Bo Lind, by letter, 2 May 2026"})
    (folder / rights.FILE).write_text(record.to_toml(), encoding="utf-8")

    assert "reserved" not in findings(folder)


def test_what_was_said_is_known_when_it_is_cleaned_out_of_the_files(folder: Path) -> None:
    for _ in reframe(folder, Options(Target(), strip=True), told="clean"):
        pass

    found = findings(folder)
    assert all(b"c2pa" not in path.read_bytes() for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
    assert "place" not in found
    assert [Path(name).stem for name in found["generated"].names] == ["generated"]
    assert [Path(name).stem for name in found["reserved"].names] == ["reserved"]
