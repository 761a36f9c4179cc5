"""Metadata: the keys other programs read, true hashes, nothing of this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from velatura import tensorfile
from velatura.adapters import metadata, writing
from velatura.adapters.metadata import TrainingFacts
from velatura.adapters.weights import AdapterFile, Lora
from velatura.families.sd15.keys import KEYS as SD15

FACTS = TrainingFacts(
    output_name="pencil",
    fingerprint="8b1f",
    base_name="pocket",
    base_hash="ab" * 32,
    base_short_hash="12345678",
    rank=8,
    alpha=4.0,
    ranks=("denoiser.*.to_q=4", "*.fc1=2"),
    targets=("attention+mlp", "text"),
    steps=120,
    max_steps=400,
    epoch=30,
    epochs=100,
    batch_size=4,
    gradient_accumulation=2,
    batches_per_epoch=4,
    learning_rate=1e-3,
    optimizer="AdamW",
    optimizer_arguments={"weight_decay": 0.01, "betas": (0.9, 0.99)},
    schedule="cosine",
    seed=3,
    min_snr_gamma=5.0,
    dataset_name="pencil-drawings",
    train_images=16,
    held_out_images=4,
    resolution=(128, 96),
    buckets={(128, 96): 10, (96, 128): 6},
    caption_dropout=0.1,
    tag_frequency={"boat": 3, "été": 1},
    software="Velatura 0.1.0",
    trigger="pencil style",
)


def test_the_keys_that_other_programs_read_are_there() -> None:
    built = metadata.build(FACTS)

    assert built["ss_network_module"] == "networks.lora"
    assert (built["ss_network_dim"], built["ss_network_alpha"]) == ("8", "4.0")
    assert built["ss_base_model_version"] == "sd_v1" and built["ss_v2"] == "False"
    assert built["ss_sd_model_name"] == "pocket" and built["ss_new_sd_model_hash"] == "ab" * 32
    assert built["ss_optimizer"] == "AdamW(weight_decay=0.01,betas=(0.9, 0.99))"
    assert built["ss_text_encoder_lr"] == "None" and built["ss_unet_lr"] == "0.001"
    assert built["ss_total_batch_size"] == "8" and built["ss_resolution"] == "(128, 96)"
    assert json.loads(built["ss_tag_frequency"]) == {"pencil-drawings": {"boat": 3, "été": 1}}
    assert json.loads(built["ss_dataset_dirs"]) == {"pencil-drawings": {"n_repeats": 1, "img_count": 16}}
    assert json.loads(built["ss_bucket_info"])["buckets"]["1"] == {"resolution": [128, 96], "count": 10}
    assert built["modelspec.sai_model_spec"] == "1.0.1"
    assert built["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert built["modelspec.resolution"] == "128x96" and built["modelspec.prediction_type"] == "epsilon"
    assert built["modelspec.trigger_phrase"] == "pencil style" and built["modelspec.title"] == "pencil"
    assert all(isinstance(value, str) for value in built.values())


def test_every_fact_leaves_a_trace() -> None:
    """Each field set to something else changes some value: none is taken and dropped."""
    before = metadata.build(FACTS)
    for field in dataclasses.fields(FACTS):
        value = getattr(FACTS, field.name)
        other: object
        if isinstance(value, bool):
            other = not value
        elif isinstance(value, int | float):
            other = value + 1
        elif isinstance(value, dict):
            other = {} if value else {"ip_noise_gamma": 0.1}
        elif isinstance(value, tuple):
            other = tuple(reversed(value))
        elif field.name in ("clip_skip", "text_learning_rate", "max_grad_norm", "noise_offset"):
            other = 2
        else:
            other = "another"
        assert metadata.build(dataclasses.replace(FACTS, **{field.name: other})) != before, field.name


def test_there_are_no_dates_and_the_session_is_named_after_the_fingerprint() -> None:
    built = metadata.build(FACTS)
    again = metadata.build(dataclasses.replace(FACTS, fingerprint="other"))

    assert built == metadata.build(FACTS)
    assert built["ss_session_id"] != again["ss_session_id"] and 0 <= int(built["ss_session_id"]) < 2**32
    assert not [key for key in built if key.endswith(("date", "_at"))]


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("pocket", "pocket"),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ("/home/ada/models/v1-5.safetensors", "v1-5.safetensors"),
        ("models/v1-5.safetensors", "v1-5.safetensors"),
        (r"C:\Users\ada\v1-5.ckpt", "v1-5.ckpt"),
        ("~/models/folder/", "folder"),
        ("../models/folder", "folder"),
    ],
)
def test_a_path_is_cut_to_its_last_part(given: str, written: str) -> None:
    assert metadata.build(dataclasses.replace(FACTS, base_name=given))["ss_sd_model_name"] == written
    built = metadata.build(dataclasses.replace(FACTS, base_name=given, dataset_name=f"/home/ada/{given}"))
    assert not any("ada" in value for value in built.values())


@pytest.mark.parametrize("size", [7, 1200])
def test_hashes_are_those_that_kohya_computes(size: int, tmp_path: Path) -> None:
    """Oracle: the safetensors library's own bytes, hashed as additional-networks does (both sides of 1 MiB)."""
    import safetensors.torch
    import torch

    drawn = np.random.default_rng(size)
    down = drawn.standard_normal((4, size)).astype(np.float32)
    up = drawn.standard_normal((size, 4)).astype(np.float32)
    shapes = {f"denoiser.mid_block.attentions.{index}.proj_in": (size, size) for index in range(60)}
    adapter = AdapterFile({name: Lora(down, up, 2.0) for name in shapes}, metadata.build(FACTS))
    path = tmp_path / "a.safetensors"
    path.write_bytes(writing.to_bytes(adapter, keys=SD15, precision="F16"))

    tensors = safetensors.torch.load_file(path)
    header = tensorfile.read_header(path).metadata
    training = {key: value for key, value in header.items() if key.startswith("ss_")}
    theirs = safetensors.torch.save(tensors, training)
    behind = theirs[8 + int.from_bytes(theirs[:8], "little") :]
    assert (len(theirs) > 0x100000) == (size == 1200)
    assert header["sshs_model_hash"] == hashlib.sha256(behind).hexdigest()
    assert header["sshs_legacy_hash"] == hashlib.sha256(theirs[0x100000:0x110000]).hexdigest()[:8]
    assert header["modelspec.hash_sha256"] == f"0x{header['sshs_model_hash']}"
    assert (
        hashlib.sha256(path.read_bytes()[tensorfile.read_header(path).data_start :]).hexdigest()
        == (header["sshs_model_hash"])
    )
    assert torch.equal(tensors["lora_unet_mid_block_attentions_0_proj_in.alpha"], torch.tensor(2.0))


def test_editing_the_title_leaves_the_hashes() -> None:
    tensors = {"x.lora_down.weight": tensorfile.raw(np.ones((300, 1000), np.float32))}
    built = metadata.build(FACTS)

    assert metadata.hashes(tensors, built) == metadata.hashes(tensors, {**built, "modelspec.title": "new"})
    other = {"x.lora_down.weight": tensorfile.raw(np.full((300, 1000), 2, np.float32))}
    assert not set(metadata.hashes(tensors, built).values()) & set(metadata.hashes(other, built).values())
