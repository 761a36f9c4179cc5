"""kohya's resize_lora.py is the oracle for its definitions of rank; the dense decomposition for the rest."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.adapters.algebra.files import STEMS, apart, deltas, random_lora, written
from velatura import tensorfile
from velatura.adapters import metadata
from velatura.adapters.algebra import store
from velatura.adapters.algebra.resize import Rule, budgeted, count, kohya_count, resize
from velatura.errors import AdapterError, FileProblem

KOHYA_RANKS = {  # networks/resize_lora.py of kohya-ss/sd-scripts at 48d368f, rank_resize on singular values (j + 1)^-1
    ("ratio", 1.5): (2, 2), ("ratio", 4.5): (5, 5), ("ratio", 50.0): (16, 6),
    ("fro", 0.5): (2, 2), ("fro", 0.9): (4, 4), ("fro", 0.999): (16, 6),
    ("cumulative", 0.3): (3, 3), ("cumulative", 0.7): (7, 6), ("cumulative", 0.99): (16, 6),
}  # fmt: skip
"""Method and target -> rank of 16 values with a limit of 16 and of 6."""

KOHYA_FILE = {  # the same program's resize_lora_model on `kohya_file()`: rank, norm of the delta, and a probe of it
    ("rank", 3.0): {"0": (3, 7.938612, -0.967845), "1": (3, 9.558074, -2.953716), "2": (3, 4.538771, 0.484565),
                    "conv": (2, 9.857927, -2.70091), "zero": (1, 0.0, 0.0)},
    ("ratio", 4.0): {"0": (8, 9.204241, 0.705155), "1": (8, 11.142722, -2.707162), "2": (6, 4.92826, 0.090329),
                     "conv": (7, 12.384935, 2.588993), "zero": (1, 0.0, 0.0)},
    ("fro", 0.9): {"0": (5, 8.717333, -0.531545), "1": (5, 10.755369, -1.616997), "2": (4, 4.754587, 0.476127),
                   "conv": (5, 11.962515, 0.255771), "zero": (1, 0.0, 0.0)},
    ("cumulative", 0.7): {"0": (6, 8.965279, -0.354967), "1": (5, 10.755369, -1.616997),
                          "2": (5, 4.880259, -0.168306), "conv": (5, 11.962515, 0.255771), "zero": (1, 0.0, 0.0)},
}  # fmt: skip


def kohya_file() -> dict[str, NDArray[np.float32]]:
    """The file that kohya's program was given: made of sines, so that it can be made again."""
    tensors = {}
    sizes = {"0": (24, 20, 0), "1": (20, 36, 1), "2": (12, 12, 2), "conv": (16, 54, 9), "zero": (10, 10, 5)}
    for name, (outputs, inputs, seed) in sizes.items():
        rows, ranks, columns = (np.arange(1.0, length + 1) for length in (outputs, 8, inputs))
        up = np.sin(seed + 0.7319 * rows[:, None] * ranks**1.5) / np.sqrt(ranks)
        down = np.cos(seed + 0.3571 * ranks[:, None] ** 1.3 * columns**1.1)
        kernel = (3, 3) if name == "conv" else ()
        tensors[f"lora_unet_{name}.lora_up.weight"] = (up * (name != "zero")).astype(np.float32)
        tensors[f"lora_unet_{name}.lora_down.weight"] = down.astype(np.float32).reshape(8, -1, *kernel)
        tensors[f"lora_unet_{name}.alpha"] = np.array(4, np.float32)
        if kernel:
            tensors[f"lora_unet_{name}.lora_up.weight"].shape = (outputs, 8, 1, 1)
    return tensors


@pytest.mark.parametrize(("method", "target"), KOHYA_RANKS)
def test_kohyas_ranks_are_those_of_its_own_program(method: str, target: float) -> None:
    values = 1 / np.arange(1.0, 17)

    found = tuple(kohya_count(values, method, target, most=most, full=16) for most in (16, 6))  # type: ignore[arg-type]

    assert found == KOHYA_RANKS[method, target]


@pytest.mark.parametrize(("method", "target"), KOHYA_FILE)
def test_a_file_resized_as_kohya_does_is_the_file_of_its_own_program(
    tmp_path: Path, method: str, target: float
) -> None:
    source = written(tmp_path / "a.safetensors", kohya_file())

    resize(source, tmp_path / "b.safetensors", Rule(method, target, conv_rank=2, kohya=True))  # type: ignore[arg-type]

    header = tensorfile.read_header(tmp_path / "b.safetensors")
    found = deltas(tmp_path / "b.safetensors")
    for name, (rank, norm, probe) in KOHYA_FILE[method, target].items():
        delta = found[f"lora_unet_{name}"].astype(np.float64)
        assert header.entries[f"lora_unet_{name}.lora_down.weight"].shape[0] == rank
        assert np.linalg.norm(delta) == pytest.approx(norm, abs=2e-5)
        assert np.sum(delta.reshape(-1) * np.sin(np.arange(delta.size))) == pytest.approx(probe, abs=5e-5)


def test_exact_rules_keep_the_fewest_values_that_reach_their_target() -> None:
    values = np.array([4.0, 2.0, 1.0, 1.0, 0.0])  # squares 16 4 1 1: shares .727 .909 .954 1

    assert [count(values, "fro", math.sqrt(share)) for share in (0.7, 0.75, 0.92, 1.0)] == [1, 2, 3, 4]
    assert [count(values, "cumulative", share) for share in (0.5, 0.6, 0.8, 1.0)] == [1, 2, 3, 4]
    assert [count(values, "ratio", ratio) for ratio in (1.0, 2.5, 5.0, 1e9)] == [1, 2, 4, 4]
    assert [count(values, "rank", rank) for rank in (1, 3, 9)] == [1, 3, 4]
    assert count(np.zeros(3), "fro", 0.9) == 0


def test_every_layer_is_the_best_of_its_rank(tmp_path: Path) -> None:
    source = written(tmp_path / "a.safetensors", random_lora())

    report = resize(source, tmp_path / "b.safetensors", Rule("rank", 3))

    before, after = deltas(source), deltas(tmp_path / "b.safetensors")
    kept = []
    for layer in report.layers:
        left, values, right = np.linalg.svd(before[layer.stem].astype(np.float64), full_matrices=False)
        assert apart(after[layer.stem], (left[:, :3] * values[:3]) @ right[:3]) < 1e-6
        assert layer.kept == pytest.approx(np.linalg.norm(values[:3]) / np.linalg.norm(values), rel=1e-6)
        kept.append((np.sum(values[:3] ** 2), np.sum(values**2)))
    assert report.kept == pytest.approx(math.sqrt(sum(k for k, _ in kept) / sum(w for _, w in kept)), rel=1e-6)
    assert all(layer.kept < 0.99 for layer in report.layers)


@pytest.mark.parametrize("precision", ["F16", "BF16", "F32"])
def test_factors_are_stored_in_the_precision_asked_for(tmp_path: Path, precision: str) -> None:
    source = written(tmp_path / "a.safetensors", random_lora())

    resize(source, tmp_path / "b.safetensors", Rule("fro", 1.0), precision=precision)  # type: ignore[arg-type]

    entries = tensorfile.read_header(tmp_path / "b.safetensors").entries
    assert {entry.dtype for key, entry in entries.items() if "lora_" in key.rpartition(".")[0][-9:]} == {precision}
    limit = {"F16": 1e-3, "BF16": 8e-3, "F32": 1e-6}[precision]
    for stem, delta in deltas(tmp_path / "b.safetensors").items():
        assert (
            limit / 100 < apart(delta, deltas(source)[stem]) + limit / 50 and apart(delta, deltas(source)[stem]) < limit
        )


def test_half_precision_stays_half_precision(tmp_path: Path) -> None:
    source = written(tmp_path / "a.safetensors", random_lora(dtype=np.float16))

    resize(source, tmp_path / "b.safetensors", Rule("rank", 2))

    entries = tensorfile.read_header(tmp_path / "b.safetensors").entries
    assert entries[f"{STEMS[0]}.lora_up.weight"].dtype == "F16"


def test_a_file_without_alpha_keeps_its_keys_and_its_strength(tmp_path: Path) -> None:
    stems = ("transformer.layers.0.attention.to_q", "transformer.layers.1.attention.to_q")
    tensors = {
        key.replace("lora_down", "lora_A").replace("lora_up", "lora_B"): value
        for key, value in random_lora(stems=stems, alpha=None).items()
    }
    source = written(tmp_path / "a.safetensors", tensors)

    resize(source, tmp_path / "b.safetensors", Rule("rank", 20))

    assert tensorfile.read_header(tmp_path / "b.safetensors").entries.keys() == tensors.keys()
    for stem, delta in deltas(tmp_path / "b.safetensors").items():
        assert apart(delta, deltas(source)[stem]) < 1e-6


def test_a_budget_is_kept_to_and_spent_where_it_is_worth_most(tmp_path: Path) -> None:
    tensors = random_lora(rank=16)
    tensors[f"{STEMS[1]}.lora_up.weight"] *= 1000
    source = written(tmp_path / "a.safetensors", tensors)

    report = resize(source, tmp_path / "b.safetensors", Rule("budget", 0.012))

    assert (tmp_path / "b.safetensors").stat().st_size <= 12_000 < source.stat().st_size
    assert {layer.stem: layer.after for layer in report.layers}[STEMS[1]] == 16
    assert sum(layer.after for layer in report.layers) < 64


def test_no_other_choice_within_a_budget_keeps_more() -> None:
    values = {"a": np.array([5.0, 3.0, 1.0]), "b": np.array([4.0, 2.0]), "c": np.array([3.5, 0.0])}
    costs = dict.fromkeys(values, 10.0)

    keep = budgeted(values, costs, 40)

    assert keep == {"a": 2, "b": 1, "c": 1}


def test_metadata_is_carried_and_says_what_was_done_and_true_hashes(tmp_path: Path) -> None:
    told = {"ss_network_dim": "8", "ss_network_alpha": "4.0", "ss_output_name": "mara", "sshs_model_hash": "wrong"}
    source = written(tmp_path / "a.safetensors", random_lora(), told)

    resize(source, tmp_path / "b.safetensors", Rule("rank", 2))
    resize(tmp_path / "b.safetensors", tmp_path / "c.safetensors", Rule("fro", 0.9))

    tensors, found = tensorfile.read(tmp_path / "c.safetensors")
    steps = json.loads(found[store.LINEAGE])
    assert found["ss_output_name"] == "mara" and found["ss_network_dim"] in ("1", "2", "Dynamic")
    assert [(step["command"], step["settings"]) for step in steps] == [
        ("resize", {"rank": 2}),
        ("resize", {"fro": 0.9}),
    ]
    known = tensorfile.content_hash(tmp_path / "b.safetensors")
    assert steps[1]["from"] == [{"name": "b.safetensors", "sha256": known}]
    assert str(tmp_path) not in found[store.LINEAGE]
    bare = {key: value for key, value in found.items() if key not in store.blank_hashes()}
    assert {key: found[key] for key in store.blank_hashes()} == metadata.hashes(tensors, bare)
    assert (tmp_path / "c.safetensors").read_bytes() == tensorfile.to_bytes(tensors, found)


def test_a_file_beyond_a_megabyte_has_the_right_old_hash(tmp_path: Path) -> None:
    tensors = {"a.lora_up.weight": np.random.default_rng(0).standard_normal((700, 600)).astype(np.float32)}
    ready = {key: tensorfile.raw(value) for key, value in tensors.items()}
    planned = {key: store.Planned(value.dtype, value.shape) for key, value in ready.items()}

    store.write(tmp_path / "a.safetensors", planned, {"ss_x": "1", "other": "2"}, ready.__getitem__)

    found = tensorfile.read_header(tmp_path / "a.safetensors").metadata
    assert found["sshs_legacy_hash"] == metadata.hashes(ready, {"ss_x": "1"})["sshs_legacy_hash"] != "e3b0c442"


def test_a_dora_keeps_its_magnitude_and_says_so(tmp_path: Path) -> None:
    tensors = random_lora()
    for stem in STEMS:
        tensors[f"{stem}.dora_scale"] = np.ones((24, 1), np.float32)
    source = written(tmp_path / "a.safetensors", tensors)

    report = resize(source, tmp_path / "b.safetensors", Rule("rank", 2))

    assert "magnitude" in report.notes[0]
    assert f"{STEMS[0]}.dora_scale" in tensorfile.read_header(tmp_path / "b.safetensors").entries


def test_a_core_is_multiplied_in(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    down, mid, up = (
        draw.standard_normal(shape).astype(np.float32) for shape in ((4, 6, 1, 1), (4, 4, 3, 3), (5, 4, 1, 1))
    )
    stem = "lora_unet_down_blocks_0_resnets_0_conv1"
    tensors = {f"{stem}.lora_down.weight": down, f"{stem}.lora_mid.weight": mid, f"{stem}.lora_up.weight": up}
    source = written(tmp_path / "a.safetensors", tensors)

    resize(source, tmp_path / "b.safetensors", Rule("rank", 4))

    whole = np.einsum("or,rskl,si->oikl", up[..., 0, 0], mid, down[..., 0, 0])
    assert tensorfile.read_header(tmp_path / "b.safetensors").entries[f"{stem}.lora_down.weight"].shape == (4, 6, 3, 3)
    assert apart(deltas(tmp_path / "b.safetensors")[stem], whole.reshape(5, -1)) < 1e-6


@pytest.mark.parametrize(
    "rule",
    [Rule("rank", 0), Rule("fro", 1.5), Rule("ratio", 0.5), Rule("cumulative", -1), Rule("budget", math.nan)],
    ids=str,
)
def test_a_rule_without_sense_is_refused(tmp_path: Path, rule: Rule) -> None:
    source = written(tmp_path / "a.safetensors", random_lora())

    with pytest.raises(AdapterError, match="makes no sense"):
        resize(source, tmp_path / "b.safetensors", rule)
    assert not (tmp_path / "b.safetensors").exists()


def test_halves_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    tensors = random_lora()
    tensors[f"{STEMS[0]}.lora_up.weight"] = np.zeros((24, 5), np.float32)
    source = written(tmp_path / "a.safetensors", tensors)

    with pytest.raises(AdapterError, match="do not belong together"):
        resize(source, tmp_path / "b.safetensors", Rule("rank", 2))


def test_values_that_are_no_numbers_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    tensors = random_lora()
    tensors[f"{STEMS[2]}.lora_up.weight"][0, 0] = np.nan
    source = written(tmp_path / "a.safetensors", tensors)

    with pytest.raises(AdapterError, match="not numbers"):
        resize(source, tmp_path / "b.safetensors", Rule("rank", 2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors"]


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    source = written(tmp_path / "a.safetensors", random_lora())

    with pytest.raises(FileProblem):
        resize(source, tmp_path / "none" / "b.safetensors", Rule("rank", 2))
