"""ComfyUI's list of further model folders: what people write there, and what nobody should."""

from __future__ import annotations

from pathlib import Path

import pytest

from velatura.errors import SettingsError
from velatura.neighbours import comfy_paths

EXAMPLE = """
#Rename this to extra_model_paths.yaml and ComfyUI will load it
comfyui:
    base_path: {base}
    is_default: true
    checkpoints: models/checkpoints/
    text_encoders: |
        models/text_encoders/
        models/clip/   # legacy location
    clip_vision: models/clip_vision/
    unet: {elsewhere}
a111:
    base_path: sub/webui
    vae: models/VAE
    loras: |
         models/Lora

         models/Ly CORIS
    upscale_models: models/ESRGAN
not_used:
"""


def listed(folder: Path, text: str | bytes) -> dict[str, list[Path]]:
    path = folder / "extra_model_paths.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return comfy_paths.read(path)


def test_groups_lists_and_relative_places_are_read(tmp_path: Path) -> None:
    base, elsewhere = tmp_path / "base", tmp_path / "else where"
    found = listed(tmp_path, EXAMPLE.format(base=base.as_posix(), elsewhere=elsewhere.as_posix()))

    assert found == {
        "bases": [base / "models/checkpoints", elsewhere],
        "loras": [tmp_path / "sub/webui/models/Lora", tmp_path / "sub/webui/models/Ly CORIS"],
        "vaes": [tmp_path / "sub/webui/models/VAE"],
        "text_encoders": [base / "models/text_encoders", base / "models/clip"],
        "embeddings": [],
        "controlnets": [],
        "detectors": [],
        "upscalers": [tmp_path / "sub/webui/models/ESRGAN"],
    }


def test_the_user_s_folder_and_the_environment_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", str(tmp_path / "models"))

    assert listed(tmp_path, "a:\n  base_path: $MODELS\n  vae: vae")["vaes"] == [tmp_path / "models" / "vae"]
    assert listed(tmp_path, "a:\n  vae: ~/vae")["vaes"] == [Path.home() / "vae"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "a:\n"])
def test_a_list_without_folders_is_empty(tmp_path: Path, text: str) -> None:
    assert not any(listed(tmp_path, text).values())
    assert not any(comfy_paths.read(tmp_path / "missing").values())


@pytest.mark.parametrize(
    "text",
    [
        "\tcomfyui:\n\t\tcheckpoints: x",
        "comfyui:\n\tcheckpoints: x",
        "- a\n- b",
        "just text",
        "a: b",
        "a:\n  checkpoints: [x, y]",
        "a:\n  checkpoints: {x: y}",
        "a:\n  base_path: 5",
        'a:\n  vae: "\\0"\n',
        "a: !!python/object/apply:os.system ['true']",
        "a: {",
        b"\xff\xfe\x00",
        "[" * 5000,
        "a:\n  vae: " + "x" * (1 << 20),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_anything_else_is_one_sentence(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(SettingsError, match="not a list of ComfyUI's model folders"):
        listed(tmp_path, text)
