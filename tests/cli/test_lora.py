"""`velatura lora`, as its user meets it: on a small base, whose files the program made itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests import tiny
from tests.adapters.algebra.files import STEMS, random_lora, written
from tests.adapters.algebra.test_checkpoint import adapter
from tests.cli.conftest import Velatura
from velatura import tensorfile


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.sd15(tmp_path_factory.mktemp("base") / "sd15")


@pytest.fixture
def fitting(base: Path, tmp_path: Path) -> Path:
    return adapter(base, tmp_path / "fitting.safetensors")


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return written(tmp_path / "mara.safetensors", random_lora(), {"modelspec.trigger_phrase": "mara style"})


def test_inspect_says_what_it_is_and_draws_it(velatura: Velatura, lora: Path, tmp_path: Path) -> None:
    answer = velatura("lora", "inspect", lora, "--spectrum", "--hashes", "--picture", tmp_path / "a.png")

    assert answer.code == 0
    for part in (
        "for: SD 1.5",
        "kind: LoRA",
        "rank: 8",
        "alpha / rank: 0.5",
        "trigger: mara style",
        "AutoV3: ",
        "OUT05",
    ):
        assert part in answer.out
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    again = velatura("lora", "inspect", lora, "--picture", tmp_path / "a.png")
    assert again.code == 2 and "stands there already" in again.err


def test_inspect_as_json_and_with_a_problem(velatura: Velatura, tmp_path: Path) -> None:
    tensors = random_lora()
    tensors[f"{STEMS[0]}.lora_up.weight"][0] = np.inf
    path = written(tmp_path / "a.safetensors", tensors, {"sshs_model_hash": "0" * 64})

    answer = velatura("lora", "inspect", path, "--spectrum", "--hashes", "--json")

    found = json.loads(answer.out)
    assert answer.code == 1
    assert "wrong hash" in found["problems"][0]
    assert [layer["health"] for layer in found["spectrum"]["layers"]].count("no numbers") == 1


def test_resize_says_what_it_kept_and_overwrites_nothing(velatura: Velatura, lora: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.safetensors"

    answer = velatura("lora", "resize", lora, "-o", out, "--fro", "0.8")
    again = velatura("lora", "resize", lora, "-o", out, "--fro", "0.8")

    assert answer.code == 0 and "kept: 8" in answer.out and "layers that lost most" in answer.out
    assert again.code == 2 and "there already" in again.err


@pytest.mark.parametrize("options", [(), ("--rank", "2", "--fro", "0.9")])
def test_resize_wants_one_rule(velatura: Velatura, lora: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    answer = velatura("lora", "resize", lora, "-o", tmp_path / "b.safetensors", *options)

    assert answer.code == 2 and "give exactly one" in answer.err


def test_merge_scale_and_overlap(velatura: Velatura, lora: Path, tmp_path: Path) -> None:
    merged, scaled = tmp_path / "merged.safetensors", tmp_path / "scaled.safetensors"

    done = velatura("lora", "merge", f"{lora}:0.8", lora, "-o", merged)
    less = velatura("lora", "scale", merged, "-o", scaled, "--blocks", "OUT:0,MID:0.5")
    both = velatura("lora", "overlap", lora, merged)

    assert "ranks: 16" in done.out and "kept: all, exactly" in done.out
    assert "1 at another strength, 1 removed" in less.out
    assert "redundant" in both.out and "0.71 and 0.71" in both.out
    assert json.loads(velatura("lora", "overlap", lora, merged, "--json").out)["whole"]["cosine"] == pytest.approx(1)


def test_two_that_act_on_a_base_are_measured_there(
    velatura: Velatura, base: Path, fitting: Path, tmp_path: Path
) -> None:
    none = tmp_path / "none.safetensors"
    weak = {key: np.zeros(raw.shape, np.float32) for key, raw in tensorfile.read(fitting)[0].items()}
    written(none, weak)

    alike = json.loads(velatura("lora", "overlap", fitting, fitting, "--base", base, "--json").out)["on_base"]
    alone = json.loads(velatura("lora", "overlap", fitting, none, "--base", base, "--json").out)["on_base"]
    said = velatura("lora", "overlap", fitting, fitting, "--base", base)

    assert len(alike["cells"]) == 16 and alike["cosine"] == pytest.approx(1, abs=1e-6)
    assert alike["dominance"] == pytest.approx(1) and alike["interference"] > 0.01
    assert alone["interference"] == 0 and alone["dominance"] == 0
    assert "on the base:" in said.out


def test_convert_and_verify_against_a_base(velatura: Velatura, base: Path, fitting: Path, tmp_path: Path) -> None:
    out = tmp_path / "kohya.safetensors"

    done = velatura("lora", "convert", fitting, "-o", out, "--to", "kohya", "--base", base)
    good = velatura("lora", "verify", out, "--base", base)

    assert done.code == 0 and any("lora_unet" in key for key in tensorfile.read_header(out).entries)
    assert good.code == 0, good.out
    assert "attaches: 100.0%" in good.out and "diffusers: comes back" in good.out


def test_verify_finds_what_does_not_attach(velatura: Velatura, base: Path, fitting: Path, tmp_path: Path) -> None:
    tensors = dict(tensorfile.read(fitting)[0])
    strange = "unet.nowhere.lora_A.weight"
    tensors[strange] = tensorfile.raw(np.zeros((2, 2), np.float32))
    path = tmp_path / "strange.safetensors"
    path.write_bytes(tensorfile.to_bytes(tensors))

    answer = velatura("lora", "verify", path, "--base", base)

    assert answer.code == 1 and strange in answer.out


def test_bake_and_extract(velatura: Velatura, base: Path, fitting: Path, tmp_path: Path) -> None:
    baked, again = tmp_path / "baked", tmp_path / "again.safetensors"

    done = velatura("lora", "bake", base, f"{fitting}:0.5", "-o", baked)
    back = velatura("lora", "extract", baked, base, "-o", again, "--rank", "3")

    assert done.code == 0 and "lost to rounding to F32: 0.00%" in done.out
    assert back.code == 0 and "lost to the rank" in back.out and "--conv-rank" in back.out


def test_deploy_list_and_undo(velatura: Velatura, lora: Path, tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()

    done = velatura("lora", "deploy", lora, "--to", tmp_path / "loras")
    listed = velatura("lora", "deploy", "--list")
    back = velatura("lora", "deploy", "--undo", "mara")
    nothing = velatura("lora", "deploy")

    assert "hard link" in done.out and "there" in listed.out and "taken back" in back.out
    assert nothing.code == 2 and velatura("lora", "deploy", "--list").out.strip() == "nothing was put anywhere"
