"""ControlNets are known by their keys: which base each is for, and where its weights lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny, tiny_control
from velatura import settings, tensorfile
from velatura.bases import FAMILIES
from velatura.controlnets import check_family, recognise
from velatura.errors import ModelError, SettingsError
from velatura.families.flux1.controlnet import places
from velatura.family import Model, load_base
from velatura.tensorfile import RawTensor
from velatura.weights.layouts import stable_diffusion

pytestmark = pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    torch.set_num_threads(1)
    return {name: load_base(tiny.BASES[name](tmp_path_factory.mktemp(name))) for name in FAMILIES}


def file(path: Path, tensors: Mapping[str, Any]) -> Path:
    """A file of these tensors."""
    path.write_bytes(tensorfile.to_bytes({name: _raw(one) for name, one in tensors.items()}, {"format": "pt"}))
    return path


def _raw(one: Any) -> RawTensor:
    return tensorfile.raw(np.ascontiguousarray(one.detach().float().numpy() if hasattr(one, "detach") else one))


def same(model: Model, one: Path, made: Any) -> bool:
    """Whether the network of a file has these weights."""
    net = model.family.load_controlnet(model, recognise(one)).network.state_dict()
    wanted = made.state_dict()
    return net.keys() == wanted.keys() and all(torch.equal(net[name], wanted[name]) for name in wanted)


def original(made: Any, prefix: str = "") -> dict[str, Any]:
    """A UNet's ControlNet under its authors' names."""
    held = made.state_dict()
    lies = stable_diffusion.controlnet(held)
    return {prefix + lies[name].key: one for name, one in held.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_in_diffusers_layout_is_the_folder(models: dict[str, Model], family: str, tmp_path: Path) -> None:
    made = tiny_control.network(family)
    folder = tiny_control.written(tmp_path / "net", made)
    path = file(tmp_path / "net.safetensors", made.state_dict())
    for place in (folder, path):
        assert recognise(place).family == family
        assert same(models[family], place, made)


@pytest.mark.parametrize(("family", "prefix"), [("sd15", ""), ("sd15", "control_model."), ("sdxl", "")])
def test_a_file_under_its_authors_names_is_the_folder(
    models: dict[str, Model], family: str, prefix: str, tmp_path: Path
) -> None:
    """With a whole checkpoint around it too, as the first ones were published."""
    made = tiny_control.network(family)
    around = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(3)} if prefix else {}
    path = file(tmp_path / "control_v11p_sd15_canny.safetensors", {**original(made, prefix), **around})
    assert recognise(path).lies.layout == "original"
    assert same(models[family], path, made)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_the_authors_names_are_those_that_diffusers_reads(family: str) -> None:
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

    made = tiny_control.network(family)
    theirs = convert_controlnet_checkpoint(original(made, "control_model."), made.config)
    ours = made.state_dict()
    known = {name: one for name, one in theirs.items() if one is not None}
    missed = {name for name in ours if name.startswith("add_embedding.")}  # which it forgets, and so cannot load SDXL's
    assert known.keys() == ours.keys() - missed
    assert all(torch.equal(known[name], ours[name]) for name in known)


def test_a_small_one_for_sdxl_has_no_attention_and_is_known_by_the_sizes_it_is_told(
    models: dict[str, Model], tmp_path: Path
) -> None:
    blocks = ("DownBlock2D",) * 3
    made = tiny_control.network("sdxl", down_block_types=blocks, mid_block_type="UNetMidBlock2D")
    path = file(tmp_path / "small.safetensors", made.state_dict())
    assert recognise(path).family == "sdxl"
    assert same(models["sdxl"], path, made)


def test_xlabs_files_are_under_the_names_of_flux_s_authors(models: dict[str, Model], tmp_path: Path) -> None:
    made = tiny_control.network("flux1", num_single_layers=0, conditioning_embedding_channels=4, patch_size=2)
    held = made.state_dict()
    lies = places({name: tuple(one.shape) for name, one in held.items()})
    fused: dict[str, list[tuple[int, Any]]] = {}
    for name, one in held.items():
        fused.setdefault(lies[name].key, []).append(((lies[name].rows or (0, 0))[0], one))
    tensors = {
        key: torch.cat([one for _, one in sorted(parts, key=lambda part: part[0])]) for key, parts in fused.items()
    }
    assert {"input_hint_block.0.weight", "input_hint_block.14.bias", "pos_embed_input.weight"} <= tensors.keys()
    assert {"double_blocks.0.img_attn.qkv.weight", "guidance_in.in_layer.weight"} <= tensors.keys()
    path = file(tmp_path / "flux-canny-controlnet-v3.safetensors", tensors)
    assert recognise(path).family == "flux1"
    assert same(models["flux1"], path, made)


def test_a_union_for_sdxl_knows_its_kinds_from_a_folder_and_a_file(models: dict[str, Model], tmp_path: Path) -> None:
    made = tiny_control.network("sdxl", union=8)
    folder = tiny_control.written(tmp_path / "promax", made)
    path = file(tmp_path / "promax.safetensors", made.state_dict())
    for place in (folder, path):
        found = recognise(place)
        assert found.kinds == ("pose", "depth", "scribble", "canny", "normal", "segment", "tile", "inpaint")
        assert same(models["sdxl"], place, made)


def test_a_union_for_flux_knows_its_kinds(tmp_path: Path) -> None:
    path = file(tmp_path / "union.safetensors", tiny_control.network("flux1", num_mode=10).state_dict())
    assert recognise(path).kinds[:5] == ("canny", "tile", "depth", "blur", "pose")
    assert len(recognise(path).kinds) == 10


@pytest.mark.parametrize(("version", "refines"), [("2.0", "control_layers"), ("2.1", "control_noise_refiner")])
def test_versions_of_z_image_s_are_told_by_whether_their_refiner_was_trained(
    models: dict[str, Model], version: str, refines: str, tmp_path: Path
) -> None:
    made = tiny_control.network(
        "z_image",
        control_in_dim=33,
        add_control_noise_refiner="control_noise_refiner",
        control_refiner_layers_places=[0, 1],
    )
    tensors = made.state_dict()
    if version == "2.0":
        tensors["control_noise_refiner.0.before_proj.weight"] *= 0
    path = file(tmp_path / f"{version}.safetensors", tensors)
    model = models["z_image"]
    loaded = model.family.load_controlnet(model, recognise(path))
    net: Any = loaded.network
    assert net.config.add_control_noise_refiner == refines
    assert (net.control_noise_refiner is None) == (version == "2.0")
    assert model.family.encode_hint(model, loaded, torch.zeros(1, 3, 64, 96)).shape == (1, 33, 8, 12)


def test_a_controlnet_of_another_family_is_refused_before_it_is_loaded(
    models: dict[str, Model], tmp_path: Path
) -> None:
    path = file(tmp_path / "net.safetensors", tiny_control.network("sdxl").state_dict())
    with pytest.raises(ModelError, match="this ControlNet is for sdxl, and tiny is sd15"):
        check_family(recognise(path), "sd15", "tiny")
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(Exception, match="cut off"):
        recognise(path)


def test_one_that_does_not_fit_the_base_s_size_is_refused(models: dict[str, Model], tmp_path: Path) -> None:
    made = tiny_control.network("sd15", cross_attention_dim=20)
    with pytest.raises(ModelError, match="does not fit the base"):
        models["sd15"].family.load_controlnet(
            models["sd15"], recognise(file(tmp_path / "net.safetensors", made.state_dict()))
        )


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("adapter.body.0.in_conv.weight", "T2I-Adapter"),
        ("lllite_unet_input_blocks_4_1.down.0.weight", "LLLite"),
        ("lora_controlnet", "Control-LoRA"),
        ("image_proj.proj.weight", "IP-Adapter"),
        ("difference", "difference"),
        ("lora_unet_down_blocks_0.lora_up.weight", "this is a LoRA"),
        ("something.else", "no ControlNet that is known"),
    ],
)
def test_what_is_no_controlnet_is_called_what_it_is(key: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=says):
        recognise(file(tmp_path / "other.safetensors", {key: np.zeros((2, 2), np.float32)}))


def test_relatives_that_cannot_be_used_are_refused_by_what_they_are(tmp_path: Path) -> None:
    second = {
        "input_hint_block.0.weight": np.zeros((4, 3, 3, 3)),
        "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": np.zeros((8, 1024)),
    }
    filling = {"controlnet_x_embedder.weight": np.zeros((8, 68)), "x_embedder.weight": np.zeros((8, 64))}
    for tensors, says in ((second, r"Stable Diffusion 2"), (filling, "inpainting")):
        held = {key: one.astype(np.float32) for key, one in tensors.items()}
        with pytest.raises(ModelError, match=says):
            recognise(file(tmp_path / "net.safetensors", held))


def test_names_mean_files_and_folders_of_the_user_s_and_of_the_project(tmp_path: Path, home: Path) -> None:
    mine, project = tmp_path / "mine", tmp_path / "project"
    for place in (mine, project / "controlnets"):
        place.mkdir(parents=True)
    (mine / "canny.safetensors").write_bytes(b"")
    (mine / "pose").mkdir()
    (mine / "pose" / "config.json").write_text("{}", encoding="utf-8")
    (project / "controlnets" / "canny.pth").write_bytes(b"")
    told = json.dumps([str(mine)])
    (home / "config.toml").write_text(f"[folders]\ncontrolnets = {told}\n", encoding="utf-8")
    assert settings.find_controlnet("canny") == mine / "canny.safetensors"
    assert settings.find_controlnet("Pose") == mine / "pose"
    assert settings.find_controlnet("canny", project=project) == project / "controlnets" / "canny.pth"
    assert settings.find_controlnet(str(mine / "pose")) == mine / "pose"
    with pytest.raises(SettingsError, match=r"no ControlNet is named cany; did you mean canny\?"):
        settings.find_controlnet("cany")
