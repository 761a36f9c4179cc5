from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.adapters.algebra.files import STEMS, deltas, random_lora, written
from velatura.adapters.algebra import picture
from velatura.adapters.algebra.spectrum import needed, spectrum


def test_norms_and_values_are_those_of_the_change_in_full(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", random_lora())
    whole = deltas(path)

    found = spectrum(path)

    for layer in found.layers:
        values = np.linalg.svd(whole[layer.stem].astype(np.float64), compute_uv=False)[:8]
        np.testing.assert_allclose(layer.values, values, rtol=1e-5)
        assert layer.norm == pytest.approx(np.linalg.norm(values), rel=1e-6) and layer.health == "well"
        assert layer.rank_90 == 1 + np.sum(np.cumsum(values**2) < 0.9 * np.sum(values**2))
    assert sum(block.share for block in found.blocks) == pytest.approx(1)


def test_a_loha_and_a_lokr_are_measured_too(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    stem = "lora_unet_mid_block_attentions_0_proj_in"
    tensors = {
        f"{stem}.hada_w{number}_{half}": draw.standard_normal(shape).astype(np.float32)
        for number in (1, 2)
        for half, shape in (("a", (24, 3)), ("b", (3, 20)))
    }
    stem = "lora_unet_mid_block_attentions_0_proj_out"
    tensors |= {f"{stem}.lokr_w{number}": draw.standard_normal((4, 5)).astype(np.float32) for number in (1, 2)}
    w = {key.rpartition(".")[2]: value for key, value in tensors.items()}
    expected = {
        "LoHa": (w["hada_w1_a"] @ w["hada_w1_b"]) * (w["hada_w2_a"] @ w["hada_w2_b"]),
        "LoKr": np.kron(w["lokr_w1"], w["lokr_w2"]),
    }

    for layer in spectrum(written(tmp_path / "a.safetensors", tensors)).layers:
        values = np.linalg.svd(expected[layer.kind], compute_uv=False)
        np.testing.assert_allclose(layer.values[:9], values[:9], rtol=1e-4)


def test_layers_that_are_not_well_are_told(tmp_path: Path) -> None:
    stems = tuple(f"lora_unet_down_blocks_0_attentions_0_transformer_blocks_{place}_attn1_to_q" for place in range(8))
    tensors = random_lora(stems=stems)
    tensors[f"{stems[0]}.lora_up.weight"][:] = 0
    tensors[f"{stems[1]}.lora_up.weight"][0, 0] = np.nan
    tensors[f"{stems[2]}.lora_up.weight"] *= 1000
    tensors[f"{stems[3]}.lora_up.weight"] = np.zeros((24, 5), np.float32)

    found = {layer.stem: layer.health for layer in spectrum(written(tmp_path / "a.safetensors", tensors)).layers}

    assert [found[stem] for stem in stems] == ["dead", "no numbers", "exploding", "damaged", *["well"] * 4]


def test_the_fewest_directions_that_carry_a_share() -> None:
    assert [needed(np.array([3.0, 1.0, 0.0]), share) for share in (0.5, 0.9, 0.95, 1.0)] == [1, 1, 2, 2]
    assert needed(np.zeros(3), 0.9) == 0


def test_the_picture_has_a_row_for_each_block_and_red_where_something_is_wrong(tmp_path: Path) -> None:
    good = spectrum(written(tmp_path / "a.safetensors", random_lora()))
    tensors = random_lora()
    tensors[f"{STEMS[0]}.lora_up.weight"][:] = np.nan
    bad = spectrum(written(tmp_path / "b.safetensors", tensors))
    more = spectrum(written(tmp_path / "c.safetensors", random_lora(stems=STEMS[:2])))

    def red(found: object) -> int:
        pixels = np.asarray(picture.draw(found, title="mara"))[:, :90].reshape(-1, 3)  # type: ignore[arg-type]
        return int((np.abs(pixels.astype(int) - picture.ALARM).sum(axis=1) < 60).sum())

    assert picture.draw(good, title="mara").height - picture.draw(more, title="mara").height == 2 * picture.ROW
    assert red(bad) > red(good) + 10
    assert picture.png(good, title="x" * 300)[:8] == b"\x89PNG\r\n\x1a\n"
