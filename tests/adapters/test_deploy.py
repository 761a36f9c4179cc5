from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.adapters.algebra.files import apart, deltas, random_lora, written
from velatura.adapters import deploy
from velatura.api import loras
from velatura.errors import AdapterError, SettingsError
from velatura.neighbours.programs import Neighbour


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return written(tmp_path / "mara.safetensors", random_lora())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "loras"
    folder.mkdir()
    return folder


def near(monkeypatch: pytest.MonkeyPatch, **programs: Path) -> None:
    found = [Neighbour(program, at.parent, {"loras": (at,)}) for program, at in programs.items()]
    monkeypatch.setattr(deploy, "neighbours", lambda: found)


def test_a_file_is_linked_listed_and_taken_back(source: Path, place: Path) -> None:
    done = loras.deploy_lora(source, str(place))

    target = place / "mara.safetensors"
    assert done.way == "link" and target.samefile(source)
    assert [(one.target, one.state) for one in deploy.remembered()] == [(str(target), "there")]
    assert [one.target for one in deploy.undo("mara")] == [str(target)]
    assert not target.exists() and source.exists() and deploy.remembered() == []


def test_where_no_link_can_be_made_it_is_a_copy(source: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(18, "another disk")

    monkeypatch.setattr(Path, "hardlink_to", refuse)

    done = loras.deploy_lora(source, str(place), name="other")

    target = place / "other.safetensors"
    assert done.way == "copy" and target.read_bytes() == source.read_bytes() and not target.samefile(source)
    assert [path.name for path in place.iterdir()] == ["other.safetensors"]


def test_a_strangers_file_is_never_overwritten(source: Path, place: Path) -> None:
    stranger = place / "mara.safetensors"
    stranger.write_bytes(b"theirs")

    with pytest.raises(AdapterError, match="stands there"):
        loras.deploy_lora(source, str(place))
    assert stranger.read_bytes() == b"theirs" and deploy.remembered() == []


def test_the_same_again_changes_nothing(source: Path, place: Path) -> None:
    assert loras.deploy_lora(source, str(place)) == loras.deploy_lora(source, str(place))
    assert len(deploy.remembered()) == 1


def test_what_was_changed_since_is_left(source: Path, place: Path) -> None:
    loras.deploy_lora(source, str(place), copy=True)
    target = place / "mara.safetensors"
    target.write_bytes(b"trained further there")

    with pytest.raises(AdapterError, match="changed since"):
        deploy.undo(str(target))
    assert target.read_bytes() == b"trained further there"


def test_what_is_gone_is_forgotten(source: Path, place: Path) -> None:
    loras.deploy_lora(source, str(place))
    (place / "mara.safetensors").unlink()

    assert deploy.remembered()[0].state == "gone"
    deploy.undo("mara")
    assert deploy.remembered() == []


def test_what_was_never_put_anywhere_is_told(source: Path, place: Path) -> None:
    loras.deploy_lora(source, str(place))

    with pytest.raises(AdapterError, match="other was not put anywhere"):
        deploy.undo("other")


def test_what_is_taken_back_is_meant_by_its_own_name_before_its_source_s(source: Path, place: Path) -> None:
    loras.deploy_lora(source, str(place))
    loras.deploy_lora(source, str(place), name="other", copy=True)
    (place / "other.safetensors").write_bytes(b"trained further there")

    deploy.undo("mara")
    assert [Path(one.target).stem for one in deploy.remembered()] == ["other"]


def test_a_program_is_found_by_its_name(source: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near(monkeypatch, ComfyUI=place)

    assert loras.deploy_lora(source, "comfyui").target == str(place / "mara.safetensors")
    with pytest.raises(SettingsError, match="A1111 was not found"):
        loras.deploy_lora(source, "a1111")
    with pytest.raises(SettingsError, match="neither a folder nor a program"):
        loras.deploy_lora(source, str(place / "none"))


def test_a1111_is_given_kohyas_names_and_comfyui_the_file_itself(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    stem = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    halves = {"lora_B": (768, 2), "lora_A": (2, 768)}
    tensors = {
        f"{stem}.{half}.weight": draw.standard_normal(shape).astype(np.float32) for half, shape in halves.items()
    }
    source = written(tmp_path / "peft.safetensors", tensors)
    comfy = tmp_path / "comfy"
    comfy.mkdir()
    near(monkeypatch, A1111=place, ComfyUI=comfy)

    one, other = loras.deploy_lora(source, "a1111"), loras.deploy_lora(source, "comfyui")

    found = deltas(Path(one.target))
    assert one.way == "converted" and list(found) == ["lora_te_text_model_encoder_layers_0_self_attn_q_proj"]
    assert apart(next(iter(found.values())), deltas(source)[stem]) < 1e-6
    assert other.way == "link"
    assert loras.deploy_lora(source, "a1111") == one

    again = tmp_path / "again"
    again.mkdir()
    other_source = written(again / "peft.safetensors", {key: 2 * tensor for key, tensor in tensors.items()})
    with pytest.raises(AdapterError, match="another file stands there"):
        loras.deploy_lora(other_source, "a1111")
    assert sorted(path.name for path in place.iterdir()) == ["peft.safetensors"]


@pytest.mark.parametrize("name", ["a/b", "..", "a:b", "x\n", " ", "NUL", "com1.v2"])
def test_a_name_that_no_system_has_is_refused(source: Path, place: Path, name: str) -> None:
    with pytest.raises(AdapterError, match="no name"):
        loras.deploy_lora(source, str(place), name=name)


def test_a_damaged_memory_is_one_sentence(source: Path, place: Path, home: Path) -> None:
    (home / "deployed.json").write_text('{"a": 1', encoding="utf-8")

    with pytest.raises(SettingsError, match="damaged"):
        loras.deploy_lora(source, str(place))
