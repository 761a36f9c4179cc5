from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.adapters.algebra.files import STEMS, deltas, random_lora, written
from velatura.adapters.algebra.overlap import interference
from velatura.api import loras
from velatura.errors import AdapterError


def test_cosines_are_those_of_the_changes_in_full(tmp_path: Path) -> None:
    first = written(tmp_path / "a.safetensors", random_lora())
    mixed = random_lora(seed=1, rank=4)
    for stem in STEMS:
        mixed[f"{stem}.lora_up.weight"] += 0.5 * random_lora()[f"{stem}.lora_up.weight"][:, :4]
        mixed[f"{stem}.lora_down.weight"] += 0.5 * random_lora()[f"{stem}.lora_down.weight"][:4]
    second = written(tmp_path / "b.safetensors", mixed)
    one, other = deltas(first), deltas(second)

    found = loras.overlap_loras(first, second)

    flat = [np.concatenate([side[stem].ravel() for stem in STEMS]).astype(np.float64) for side in (one, other)]
    expected = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    assert found.whole.cosine == pytest.approx(expected, abs=1e-6) and abs(expected) > 0.1
    assert found.whole.ratio == pytest.approx(np.linalg.norm(flat[1]) / np.linalg.norm(flat[0]), rel=1e-6)
    for block, stem in zip(found.blocks, STEMS, strict=True):
        inner = float(np.sum(one[stem].astype(np.float64) * other[stem]))
        assert block.cosine == pytest.approx(inner / np.linalg.norm(one[stem]) / np.linalg.norm(other[stem]), abs=1e-6)


def test_an_adapter_is_redundant_with_itself_and_conflicts_with_its_opposite(tmp_path: Path) -> None:
    first = written(tmp_path / "a.safetensors", random_lora())
    opposite = {key: -value if "up" in key else value for key, value in random_lora().items()}
    second = written(tmp_path / "b.safetensors", opposite)

    same, against = loras.overlap_loras(first, first), loras.overlap_loras(first, second)

    assert same.whole.cosine == pytest.approx(1) and same.whole.verdict == "redundant"
    assert (same.whole.input, same.whole.output) == (pytest.approx(1), pytest.approx(1))
    assert same.suggested == pytest.approx((1 / math.sqrt(2),) * 2)
    assert against.whole.cosine == pytest.approx(-1) and against.whole.verdict == "conflicting"
    assert against.suggested == (1, 1)


def test_unrelated_adapters_are_additive_and_near_chance(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    paths = []
    for name in "ab":
        tensors = {
            "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": draw.standard_normal((400, 8)),
            "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": draw.standard_normal((8, 400)),
        }
        paths.append(written(tmp_path / f"{name}.safetensors", {k: v.astype(np.float32) for k, v in tensors.items()}))

    found = loras.overlap_loras(*paths).whole

    assert found.verdict == "additive" and abs(found.cosine) < 0.05
    assert found.chance == pytest.approx(8 / 400) and found.input == pytest.approx(found.chance, abs=0.01)


def test_adapters_that_write_the_same_but_read_differently_overlap_in_their_output_alone(tmp_path: Path) -> None:
    one, other = random_lora(rank=4), random_lora(seed=1, rank=4)
    for stem in STEMS:
        other[f"{stem}.lora_up.weight"] = one[f"{stem}.lora_up.weight"]
        one[f"{stem}.lora_down.weight"][:, 10:] = 0
        other[f"{stem}.lora_down.weight"][:, :10] = 0

    found = loras.overlap_loras(written(tmp_path / "a.safetensors", one), written(tmp_path / "b.safetensors", other))

    assert found.whole.output == pytest.approx(1) and found.whole.input == pytest.approx(0, abs=1e-6)
    assert found.whole.cosine == pytest.approx(0, abs=1e-6)


def test_adapters_without_a_common_layer_are_refused(tmp_path: Path) -> None:
    first = written(tmp_path / "a.safetensors", random_lora(stems=STEMS[:1]))
    second = written(tmp_path / "b.safetensors", random_lora(stems=STEMS[1:]))

    with pytest.raises(AdapterError, match="no layer in common"):
        loras.overlap_loras(first, second)


def test_interference_is_nothing_where_effects_add_up_and_large_where_they_undo_each_other() -> None:
    draw = np.random.default_rng(0)
    none, one, other = draw.standard_normal((3, 4, 8, 8)).astype(np.float32)

    adding = interference({"none": none, "first": none + one, "second": none + other, "both": none + one + other})
    undoing = interference({"none": none, "first": none + one, "second": none + 2 * other, "both": none})

    assert adding["interference"] < 1e-6 and abs(adding["cosine"]) < 0.2
    assert undoing["interference"] > 0.5 and undoing["dominance"] == pytest.approx(2, rel=0.2)
