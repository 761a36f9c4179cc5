"""What a base is told to be, from its header alone, and how fast."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests import sparse
from velatura import inventory, settings
from velatura.bases import BaseFiles
from velatura.errors import ModelError
from velatura.inventory import BaseFound
from velatura.tensorfile import raw, to_bytes


@pytest.fixture(autouse=True)
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of bases, and a cache of Hugging Face's that is the test's own."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (home / "config.toml").write_text(f"[folders]\nbases = ['{tmp_path / 'bases'}']\n", encoding="utf-8")
    (tmp_path / "bases").mkdir()
    return tmp_path / "bases"


def told(path: Path) -> BaseFound:
    return inventory.examine(BaseFiles(path))


def by_name() -> dict[str, BaseFound]:
    return {one.name: one for one in inventory.every()}


def test_parts_precisions_and_sizes_are_told(folder: Path) -> None:
    found = told(sparse.write(folder / "dream.safetensors", sparse.SD15))

    assert (found.name, found.family, found.variant, found.traits) == ("dream", "sd15", "sd_v1", ())
    assert [part.precision for part in found.parts] == ["fp16", "fp16", "fp32"]
    assert found.precision == "fp16"
    assert found.parts[1].size == 768 * 768 * 2
    assert found.size == sum(part.size for part in found.parts)
    assert found.missing == ()


def test_a_few_norms_in_fp32_are_no_precision_of_a_part(folder: Path) -> None:
    mixed = {**sparse.FLUX, "norm.weight": ("F32", (3072,)), "big.weight": ("F8_E4M3", (3072, 3072))}
    found = told(sparse.write(folder / "flux.safetensors", mixed))

    assert found.parts[0].precision == "bf16, fp8"


def test_what_is_missing_says_how_to_give_it(folder: Path) -> None:
    found = told(sparse.write(folder / "flux.safetensors", sparse.FLUX))

    assert (found.family, found.traits) == ("flux1", ("distilled guidance",))
    assert [part.title for part in found.missing] == [
        "text encoder (CLIP-L)",
        "text encoder (T5-XXL)",
        "autoencoder (VAE)",
    ]
    assert {part.fix for part in found.missing} == {"give one with --text-encoder FILE", "give one with --vae FILE"}


def test_a_part_found_in_the_folders_is_not_missing_and_two_are_told(folder: Path) -> None:
    path = sparse.write(folder / "flux.safetensors", sparse.FLUX)
    sparse.write(folder / "ae.safetensors", sparse.vae(16))
    for name in ("t5 a", "t5 b"):
        sparse.write(folder / f"{name}.safetensors", sparse.T5)

    for found in (told(path), by_name()["flux"]):
        assert [Path(part.files[0]).name for part in found.parts if part.files] == [
            "flux.safetensors",
            "ae.safetensors",
        ]
        assert found.missing[1].fix == "2 files in your folders hold one; name the right one with --text-encoder FILE"


@pytest.mark.parametrize(
    ("changes", "trait"),
    [
        ({"model.diffusion_model.input_blocks.0.0.weight": ("F16", (320, 9, 3, 3))}, "inpainting"),
        ({"model.diffusion_model.input_blocks.0.0.weight": ("F16", (320, 8, 3, 3))}, "guided by a picture"),
        ({"v_pred": ("F16", (0,))}, "v-prediction"),
    ],
)
def test_what_sets_a_base_apart_is_told(folder: Path, changes: sparse.Tensors, trait: str) -> None:
    assert told(sparse.write(folder / "a.safetensors", {**sparse.SD15, **changes})).traits == (trait,)


def test_a_schnell_is_told_from_a_dev(folder: Path) -> None:
    found = told(sparse.write(folder / "a.safetensors", sparse.without(sparse.FLUX, "guidance_in")))

    assert found.traits == ("distilled to few steps",)


def test_everything_there_is_comes_once_and_what_is_no_base_does_not(folder: Path, tmp_path: Path) -> None:
    sparse.write(folder / "dream \N{ARTIST PALETTE}.safetensors", sparse.SD15)
    for place in ("a", "b"):
        sparse.write(folder / place / "same.safetensors", sparse.SD15)
    sparse.write(folder / "kl.safetensors", sparse.vae(4))
    (folder / "lora.safetensors").write_bytes(to_bytes({"lora_unet_x.lora_up.weight": raw(_zeros())}))
    (folder / "torn.safetensors").write_bytes(b"\x08")
    shutil.copytree(settings.BUILT_IN_BASES["pocket"], folder / "a base" / "my pocket")
    cached = tmp_path / "hub" / "models--ada--dream" / "snapshots" / ("a" * 40)
    shutil.copytree(settings.BUILT_IN_BASES["pocket"], cached)

    for _ in range(2):  # the second time from memory
        found = inventory.every()
        names = ["pocket", "dream \N{ARTIST PALETTE}", "torn", "same", "my pocket", "same", "ada/dream"]
        assert sorted(one.name for one in found) == sorted(names)
        assert {one.name for one in found if one.problem} == {"torn"}
        assert {one.where for one in found if one.name == "same"} == {
            str(folder / place / "same.safetensors") for place in ("a", "b")
        }


def test_files_are_read_once_and_again_when_they_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sparse.write(folder / "dream.safetensors", sparse.SD15)
    first = by_name()["dream"]
    with monkeypatch.context() as patched:
        patched.setattr(inventory, "_told", lambda _: pytest.fail("was read again"))
        assert by_name()["dream"] == first
    sparse.write(path, {**sparse.SD15, "v_pred": ("F16", (0,))})
    assert by_name()["dream"].traits == ("v-prediction",)


def test_a_relative_that_cannot_be_used_is_listed_with_the_reason(folder: Path) -> None:
    sparse.write(folder / "refiner.safetensors", {"model.diffusion_model.label_emb.0.0.weight": ("F16", (1280, 2560))})

    assert "refiner" in by_name()["refiner"].problem


def test_what_is_no_base_is_one_sentence(folder: Path) -> None:
    with pytest.raises(ModelError, match="not a base model"):
        told(sparse.write(folder / "kl.safetensors", sparse.vae(4)))


def test_a_file_of_24_gb_is_told_in_a_moment(folder: Path) -> None:
    many = {f"double_blocks.{number}.weight": ("BF16", (1600, 1600)) for number in range(1, 5000)}
    try:
        path = sparse.write(folder / "flux1-dev.safetensors", {**sparse.FLUX, **many})
    except OSError:
        pytest.skip("this disk holds no file of that size")
    assert path.stat().st_size > 24 * 1000**3

    began = time.perf_counter()
    found = told(path)

    assert time.perf_counter() - began < 0.5
    assert (found.family, found.precision) == ("flux1", "bf16")


def _zeros() -> object:
    import numpy as np

    return np.zeros(4, np.float32)
