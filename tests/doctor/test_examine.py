from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from velatura import settings, tensorfile
from velatura.doctor import examine, machine, packages
from velatura.doctor.examine import Finding
from velatura.doctor.packages import Needed


def found(looks: object, subject: str) -> list[Finding]:
    return [finding for finding in looks() if finding.subject == subject]  # type: ignore[operator]


def pocket_base(folder: Path) -> Path:
    """A folder that looks like a base."""
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    weights = tensorfile.to_bytes({"w": np.zeros(1000, np.float32)})
    (folder / "unet" / "model.safetensors").write_bytes(weights)
    return folder


def test_everything_is_looked_at_and_said_in_one_line_each() -> None:
    findings = examine.examine()

    subjects = {finding.subject for finding in findings}
    assert {"Velatura", "Python", "memory", "disk", "torch", "device", "settings", "cache", "pocket base"} <= subjects
    assert {"extra studio", "extra caption"} <= subjects
    for finding in findings:
        assert finding.says and "\n" not in finding.says
        assert finding.state == "good" or finding.fix or finding.subject == "memory"


def test_a_missing_extra_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "extras", lambda: {"caption": [Needed("onnxruntime", ">=1.20", None)]})

    (finding,) = examine._extras()

    assert finding.state == "note" and finding.fix == 'pip install "velatura[caption]"'


@pytest.mark.parametrize(
    ("version", "good"), [(None, False), ("0.29.9", False), ("0.30.0", True), ("1.0.0rc1", True), ("2.0+cpu", True)]
)
def test_a_package_is_good_when_it_is_new_enough(version: str | None, good: bool) -> None:
    assert Needed("x", ">=0.30", version).good is good


def test_a_core_package_that_is_missing_or_old_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "core", lambda: [Needed("rich", ">=13", None), Needed("numpy", ">=1.26", "1.20")])

    missing, old = examine._core()

    assert (missing.state, missing.says, missing.fix) == ("wrong", "missing", 'pip install "rich>=13"')
    assert (old.state, old.says) == ("wrong", "1.20, but >=1.26 is needed")


def test_core_and_extras_are_those_of_the_package_itself() -> None:
    core = {one.name for one in packages.core()}

    assert {"torch", "typer", "pydantic"} <= core
    assert not core & {"fastapi", "onnxruntime"}
    assert {one.name for one in packages.extras()["studio"]} == {"fastapi", "uvicorn", "jinja2"}


def test_a_package_run_from_its_source_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PACKAGE", "a-package-that-nobody-has")

    (finding,) = examine._core()

    assert finding.state == "note" and packages.extras() == {}


def test_a_torch_that_cannot_be_loaded_is_wrong_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)

    (finding,) = examine._torch()

    assert finding.state == "wrong" and "torch cannot be loaded: " in finding.says


def test_the_pocket_base_is_whole_damaged_or_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.BUILT_IN_BASES, "pocket", tmp_path / "base")
    (missing,) = examine._pocket()
    pocket_base(tmp_path / "base")
    (whole,) = examine._pocket()
    weights = tmp_path / "base" / "unet" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (damaged,) = examine._pocket()
    weights.unlink()
    (empty,) = examine._pocket()

    assert (missing.state, missing.says) == ("wrong", "missing")
    assert (whole.state, whole.says) == ("good", "0 MB in 1 files")
    assert damaged.state == "wrong" and damaged.says.startswith("damaged: ")
    assert empty.state == "wrong"


def test_broken_settings_are_wrong_and_hide_nothing_else(home: Path) -> None:
    (home / "config.toml").write_text("[folders\n")

    assert [finding.state for finding in examine._folders()] == ["good", "wrong"]
    list(examine._neighbours())


def test_a_folder_of_the_settings_that_is_gone_is_noted(home: Path, tmp_path: Path) -> None:
    (home / "config.toml").write_text(f"[folders]\nbases = ['{tmp_path}', '{tmp_path / 'gone'}']\n")

    there, gone = found(examine._folders, "folder of bases")

    assert there.state == "good" and gone.state == "note" and gone.says.endswith("is not there")


def test_folders_of_other_programs_are_told_and_whether_they_are_used(home: Path, neighbourhood: Path) -> None:
    checkpoints = neighbourhood / "ComfyUI" / "models" / "checkpoints"
    for folder in (checkpoints, neighbourhood / "ComfyUI" / "models" / "loras"):
        folder.mkdir(parents=True)
    for name in ("a.safetensors", "b.ckpt", "notes.txt"):
        (checkpoints / name).touch()

    (told,) = found(examine._neighbours, "ComfyUI")
    assert told.says == f"2 bases, 0 LoRAs in {neighbourhood / 'ComfyUI'}, used by their names"
    (home / "config.toml").write_text("neighbours = false\n")
    (told,) = found(examine._neighbours, "ComfyUI")
    assert told.says.endswith("not used, as your settings say")


def test_every_kind_of_folder_of_another_program_is_told(neighbourhood: Path) -> None:
    forge = neighbourhood / "stable-diffusion-webui-forge"
    for name in ("models/Stable-diffusion", "models/VAE", "models/text_encoder", "embeddings"):
        (forge / name).mkdir(parents=True)
    (forge / "models" / "VAE" / "kl.pt").touch()

    (told,) = found(examine._neighbours, "Forge")

    assert told.says.startswith("0 bases, 1 autoencoders, 0 text encoders, 0 embeddings in ")


def test_a_broken_list_of_comfyui_s_further_folders_is_noted(neighbourhood: Path) -> None:
    (neighbourhood / "ComfyUI" / "models" / "checkpoints").mkdir(parents=True)
    (neighbourhood / "ComfyUI" / "extra_model_paths.yaml").write_text("\tmine: [")

    broken, told = found(examine._neighbours, "ComfyUI")

    assert (broken.state, "not a list of ComfyUI's model folders" in broken.says) == ("note", True)
    assert told.says.startswith("0 bases")


def test_the_hugging_face_cache_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert found(examine._neighbours, "Hugging Face") == []
    (tmp_path / "hub" / "models--ada--dream").mkdir(parents=True)

    (counted,) = found(examine._neighbours, "Hugging Face")

    assert counted.state == "good" and counted.says.startswith("1 models in ")


def test_little_memory_and_disk_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory", lambda: (8 * 1024**3, 1024**3))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())

    (memory,), (disk,) = examine._memory(), examine._disk()

    assert (memory.state, memory.says) == ("note", "1.0 of 8.0 GB free")
    assert disk.state == "wrong"


def test_a_system_that_does_not_tell_its_memory_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory", lambda: None)

    (memory,) = examine._memory()

    assert memory.state == "note"
