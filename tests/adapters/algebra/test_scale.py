from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.adapters.algebra.files import STEMS, apart, deltas, random_lora, written
from velatura import tensorfile
from velatura.adapters.algebra.scale import scale
from velatura.errors import AdapterError


def test_a_block_is_weakened_by_its_alpha_alone_and_the_rest_stays_byte_for_byte(tmp_path: Path) -> None:
    source = written(tmp_path / "a.safetensors", random_lora(dtype=np.float16))

    done = scale(source, tmp_path / "b.safetensors", ["MID:0.3", "OUT:-1"])

    before, after = (tensorfile.read(path)[0] for path in (source, tmp_path / "b.safetensors"))
    changed = {key for key in before if bytes(before[key].data) != bytes(after[key].data)}
    assert changed == {f"{STEMS[2]}.alpha", f"{STEMS[3]}.alpha"} and done.layers == 2
    one, other = deltas(source), deltas(tmp_path / "b.safetensors")
    for stem, factor in zip(STEMS, (1, 1, 0.3, -1), strict=True):
        assert apart(other[stem], factor * one[stem]) < 1e-6


def test_a_block_at_zero_is_taken_out(tmp_path: Path) -> None:
    source = written(tmp_path / "a.safetensors", random_lora())

    done = scale(source, tmp_path / "b.safetensors", ["TE:0"])

    assert set(deltas(tmp_path / "b.safetensors")) == set(STEMS[1:]) and done.removed == 1


def test_without_alpha_a_factor_is_multiplied(tmp_path: Path) -> None:
    source = written(tmp_path / "a.safetensors", random_lora(alpha=None))

    scale(source, tmp_path / "b.safetensors", ["ALL:0.5"])

    for stem, delta in deltas(tmp_path / "b.safetensors").items():
        assert apart(delta, 0.5 * deltas(source)[stem]) < 1e-6
    assert not any("alpha" in key for key in tensorfile.read_header(tmp_path / "b.safetensors").entries)


def test_a_lokr_of_full_factors_passes_alpha_over_so_a_factor_is_multiplied(tmp_path: Path) -> None:
    stem = STEMS[2]
    draw = np.random.default_rng(0)
    tensors = {f"{stem}.lokr_w{number}": draw.standard_normal((4, 5)).astype(np.float32) for number in (1, 2)}
    tensors[f"{stem}.alpha"] = np.array(1e9, np.float32)

    scale(written(tmp_path / "a.safetensors", tensors), tmp_path / "b.safetensors", ["MID:0.5"])

    after = tensorfile.read(tmp_path / "b.safetensors")[0]
    both = [tensorfile.as_float32(after[f"{stem}.lokr_w{number}"]) for number in (1, 2)]
    expected = 0.5 * np.kron(tensors[f"{stem}.lokr_w1"], tensors[f"{stem}.lokr_w2"])
    np.testing.assert_allclose(np.kron(*both), expected, rtol=1e-6)


def test_a_dora_can_be_removed_but_not_weakened(tmp_path: Path) -> None:
    tensors = {**random_lora(), f"{STEMS[2]}.dora_scale": np.ones((24, 1), np.float32)}
    source = written(tmp_path / "a.safetensors", tensors)

    with pytest.raises(AdapterError, match="cannot be made stronger or weaker"):
        scale(source, tmp_path / "b.safetensors", ["MID:0.5"])
    scale(source, tmp_path / "b.safetensors", ["MID:0"])
    assert not any(key.startswith(STEMS[2]) for key in tensorfile.read_header(tmp_path / "b.safetensors").entries)


def test_nothing_left_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "a.safetensors", random_lora())

    with pytest.raises(AdapterError, match="nothing would be left"):
        scale(source, tmp_path / "b.safetensors", ["ALL:0"])
