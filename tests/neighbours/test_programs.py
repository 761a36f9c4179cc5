"""What other programs have is used by its name, behind what the user names."""

from __future__ import annotations

from pathlib import Path

import pytest

from velatura import settings
from velatura.errors import SettingsError
from velatura.neighbours import programs


def put(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"weights")
    return folder / name


def test_bases_parts_loras_and_embeddings_of_other_programs_are_found_by_name(neighbourhood: Path) -> None:
    base = put(neighbourhood / "stable-diffusion-webui" / "models" / "Stable-diffusion" / "mine", "dream.safetensors")
    vae = put(neighbourhood / "ComfyUI" / "models" / "vae", "kl.safetensors")
    lora = put(neighbourhood / "stable-diffusion-webui-forge" / "models" / "Lora", "ink.safetensors")
    put(neighbourhood / "sd.webui" / "webui" / "embeddings", "bad.pt")

    assert settings.find_base("dream") == base
    assert settings.find_part("kl", "vaes") == vae
    assert settings.find_lora("ink") == lora
    assert settings.load().folders("embeddings") == (neighbourhood / "sd.webui" / "webui" / "embeddings",)


def test_folders_that_comfyui_was_told_of_are_among_them(neighbourhood: Path, tmp_path: Path) -> None:
    base = put(tmp_path / "big disk" / "checkpoints", "dream.safetensors")
    (neighbourhood / "ComfyUI").mkdir()
    (neighbourhood / "ComfyUI" / "extra_model_paths.yaml").write_text(
        f"mine:\n  base_path: {tmp_path / 'big disk'}\n  checkpoints: checkpoints\n  vae: not/there\n"
    )
    assert settings.find_base("dream.safetensors") == base
    assert settings.load().folders("vaes") == ()


def test_what_the_user_names_comes_first(home: Path, neighbourhood: Path, tmp_path: Path) -> None:
    put(neighbourhood / "ComfyUI" / "models" / "checkpoints", "dream.safetensors")
    own = put(tmp_path / "own", "dream.safetensors")
    (home / "config.toml").write_text(f"[folders]\nbases = ['{tmp_path / 'own'}']\n")
    assert settings.find_base("dream") == own


def test_a_name_that_two_programs_have_is_refused_unless_it_is_one_file(neighbourhood: Path) -> None:
    first = put(neighbourhood / "ComfyUI" / "models" / "checkpoints", "dream.safetensors")
    linked = neighbourhood / "stable-diffusion-webui" / "models" / "Stable-diffusion"
    linked.mkdir(parents=True)
    try:
        (linked / "dream.safetensors").symlink_to(first)
    except OSError:
        pytest.skip("this system makes no links without being asked")
    assert settings.find_base("dream").resolve() == first.resolve()
    (linked / "dream.safetensors").unlink()
    put(linked, "dream.safetensors")
    with pytest.raises(SettingsError, match="2 files are named dream"):
        settings.find_base("dream")


def test_the_settings_can_leave_them_out(home: Path, neighbourhood: Path) -> None:
    put(neighbourhood / "ComfyUI" / "models" / "checkpoints", "dream.safetensors")
    (home / "config.toml").write_text("neighbours = false\n")
    with pytest.raises(SettingsError, match="no base model is named dream"):
        settings.find_base("dream")


def test_the_usual_places_are_many_and_none_is_walked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    there = list(programs.places())
    assert tmp_path in there and tmp_path / "Documents" in there and Path.cwd() in there
    put(tmp_path / "Documents" / "ComfyUI" / "models" / "loras", "ink.safetensors")
    put(tmp_path / "Music" / "ComfyUI" / "models" / "loras", "pen.safetensors")
    told = [one for one in programs.neighbours() if one.at.is_relative_to(tmp_path)]
    assert [one.at for one in told] == [tmp_path / "Documents" / "ComfyUI"]
