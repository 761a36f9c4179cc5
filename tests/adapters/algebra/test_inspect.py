from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.adapters.algebra.files import STEMS, random_lora, written
from velatura import tensorfile
from velatura.adapters.algebra.blocks import block_of, strengths
from velatura.adapters.algebra.inspect import inspect
from velatura.adapters.algebra.resize import Rule, resize
from velatura.adapters.algebra.scale import scale
from velatura.adapters.algebra.spectrum import spectrum
from velatura.errors import AdapterError, VelaturaError
from velatura.families.names import keys, layers

BLOCKS = {
    "lora_unet_down_blocks_1_attentions_0_proj_in": "IN04",
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k": "IN04",
    "unet.down_blocks.0.downsamplers.0.conv": "IN03",
    "lora_unet_conv_in": "IN00",
    "lora_unet_up_blocks_3_attentions_2_proj_out": "OUT11",
    "diffusion_model.output_blocks.3.1.proj_in": "OUT03",
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q": "MID",
    "lora_te_text_model_encoder_layers_3_mlp_fc1": "TE",
    "lora_te1_text_model_encoder_layers_3_mlp_fc1": "TE1",
    "text_encoder_2.text_model.encoder.layers.3.mlp.fc1": "TE2",
    "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1": "TE1",
    "transformer.single_transformer_blocks.12.proj_out": "S12",
    "lora_unet_single_blocks_3_linear1": "S03",
    "transformer.transformer_blocks.3.attn.to_q": "D03",
    "lora_unet_double_blocks_17_img_attn_qkv": "D17",
    "diffusion_model.layers.4.attention.to_q": "L04",
    "transformer.noise_refiner.0.attention.to_q": "NR",
    "lora_unet_time_embedding_linear_1": "REST",
}


@pytest.mark.parametrize("stem", BLOCKS)
def test_a_layer_is_in_its_block_in_any_spelling(stem: str) -> None:
    assert block_of(stem) == BLOCKS[stem]


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_blocks_of_files_are_those_of_weights_in_prompts(family: str) -> None:
    own, known = keys(family), layers(family)
    blocks = own.blocks(list(known))
    for name in known:
        if name.startswith("denoiser."):
            expected = blocks.get(name, "REST").replace("M00", "MID")
            assert {block_of(stem) for stem in (own.kohya(name), own.diffusers(name), own.comfy(name))} == {expected}


def test_blocks_go_by_the_names_of_weights_in_prompts_too() -> None:
    there = ["TE", "TE2", "IN04", "MID"]
    assert strengths(["BASE:0.5", "M00:0"], there) == {"TE": 0.5, "TE2": 0.5, "IN04": 1.0, "MID": 0.0}
    assert strengths(["TE1:0.25"], there) == {"TE": 0.25, "TE2": 1.0, "IN04": 1.0, "MID": 1.0}


def test_strengths_are_given_by_block_or_by_kind_of_block_and_the_later_counts() -> None:
    found = strengths(["OUT:0", "out01:0.5", "TE*:2"], ["OUT00", "OUT01", "IN04", "TE1"])

    assert found == {"TE1": 2.0, "IN04": 1.0, "OUT00": 0.0, "OUT01": 0.5}


@pytest.mark.parametrize("told", ["IN09:1", "IN04", ":1", "IN04:much", "IN04:nan"])
def test_a_block_that_is_not_there_or_no_number_is_refused(told: str) -> None:
    with pytest.raises(AdapterError):
        strengths([told], ["IN04"])


def test_a_header_tells_kind_family_ranks_training_tags_and_trigger(tmp_path: Path) -> None:
    told = {
        "ss_network_dim": "8",
        "ss_steps": "1200",
        "ss_optimizer": "None",
        "ss_tag_frequency": json.dumps({"10_mara": {"tree": 3, "sea": 7}, "1_more": {"tree": 1}}),
        "modelspec.trigger_phrase": "mara style",
    }
    path = written(tmp_path / "a.safetensors", random_lora(dtype=np.float16), told)

    found = inspect(path)

    assert (found.family, found.kinds, found.ranks, found.scales) == ("SD 1.5", {"LoRA": 4}, {8: 4}, {"0.5": 4})
    assert found.precisions == {"F16": 8} and found.parameters == 4 * 8 * (24 + 20)
    assert list(found.blocks) == ["TE", "IN01", "MID", "OUT05"]
    assert found.trigger == "mara style" and found.tags == {"sea": 7, "tree": 4}
    assert found.settings == {"steps": "1200"} and found.problems == () and found.true_hashes == {}


def test_only_the_header_and_the_alphas_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = tensorfile.read_tensor
    monkeypatch.setattr(
        tensorfile, "read_tensor", lambda path, header, name: read.append(name) or whole(path, header, name)
    )

    inspect(written(tmp_path / "a.safetensors", random_lora()))

    assert sorted(read) == sorted(f"{stem}.alpha" for stem in STEMS)


def test_a_wrong_hash_in_the_header_is_pointed_out(tmp_path: Path) -> None:
    source = written(tmp_path / "a.safetensors", random_lora())
    resize(source, tmp_path / "b.safetensors", Rule("rank", 4))
    tensors, told = tensorfile.read(tmp_path / "b.safetensors")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    path = tmp_path / "c.safetensors"
    path.write_bytes(tensorfile.to_bytes(tensors, {**told, "sshs_model_hash": empty}))

    right, wrong = inspect(tmp_path / "b.safetensors", hashes=True), inspect(path, hashes=True)

    assert right.problems == () and right.true_hashes["AutoV3"] == told["sshs_model_hash"][:12]
    assert "wrong hash: e3b0c44298fc" in wrong.problems[0]
    assert right.lineage == ("resize of a.safetensors, rank 4",)
    assert right.true_hashes["model_hash"] == tensorfile.content_hash(path)


def test_a_rank_that_the_header_states_wrongly_and_unknown_keys_are_pointed_out(tmp_path: Path) -> None:
    tensors = {**random_lora(), "surprise": np.zeros(3, np.float32)}
    found = inspect(written(tmp_path / "a.safetensors", tensors, {"ss_network_dim": "16"}))

    assert found.unknown_keys == ("surprise",)
    assert any("surprise" in problem for problem in found.problems)
    assert any("says rank 16" in problem for problem in found.problems)


def test_damaged_metadata_of_others_does_no_harm(tmp_path: Path) -> None:
    told = {"ss_tag_frequency": "[1", "velatura.lineage": "{}", "ss_network_dim": "x"}

    found = inspect(written(tmp_path / "a.safetensors", random_lora(), told))

    assert found.tags == {} and found.lineage == ()


def test_what_is_no_adapter_is_one_sentence(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", {"model.diffusion_model.x.weight": np.zeros((2, 2), np.float32)})

    with pytest.raises(VelaturaError, match="no adapter"):
        inspect(path)


def test_nothing_here_imports_torch() -> None:
    modules = "inspect, spectrum, picture, resize, merge, overlap, scale, sketch, checkpoint, sides, store"
    script = f"import sys; from velatura.adapters.algebra import {modules}; from velatura.api import loras; "
    script += "from velatura.families import names; names.keys('sdxl'), names.layers('flux1'); "

    done = subprocess.run(
        [sys.executable, "-c", script + "print('torch' in sys.modules)"], capture_output=True, text=True
    )

    assert done.stdout.strip() == "False", done.stderr


def test_a_peft_folder_is_looked_into_and_elsewhere_says_what_to_do() -> None:
    folder = Path(__file__).parents[2] / "golden" / "peft_lora"
    found = inspect(folder)

    assert found.kinds == {"LoRA": 4} and found.family == "SD 1.5"
    assert found.scales == {f"{2 / 3**0.5:.4g}": 3, f"{5 / 3**0.5:.4g}": 1}  # rsLoRA and a pattern of alphas
    assert {layer.health for layer in spectrum(folder).layers} == {"well"}
    with pytest.raises(AdapterError, match="one file is needed"):
        scale(folder, folder / "never.safetensors", ["ALL:0.5"])
