"""Changes that turn the inputs of a layer: how a turn is made, how strength counts, and what can be written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from velatura.adapters import formats, writing
from velatura.adapters.turned import InputOft, skew_of
from velatura.adapters.weights import AdapterFile, Array
from velatura.errors import AdapterError
from velatura.families.names import keys, layers

LAYER = "denoiser.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture
def vectors() -> Array:
    return 0.2 * np.random.default_rng(0).standard_normal((80, 6), dtype=np.float32)


@pytest.fixture
def weight() -> Array:
    return np.random.default_rng(1).standard_normal((320, 320), dtype=np.float32)


@pytest.mark.parametrize("terms", [None, 1, 2, 3, 4, 5, 6, 9])
def test_a_turn_is_what_peft_makes_of_the_same_numbers(vectors: Array, weight: Array, terms: int | None) -> None:
    import torch
    from peft.tuners.oft.layer import OFTRotationModule

    module = OFTRotationModule(80, 6, 4, 320)
    theirs = module._cayley_batch(torch.from_numpy(vectors), 4, terms is not None, terms or 0)
    expected = weight @ torch.block_diag(*theirs).numpy().T
    ours = InputOft(skew_of(vectors), terms).applied(weight)

    np.testing.assert_allclose(ours, expected, atol=2e-5)
    if terms != 1:
        assert np.abs(ours - weight).max() > 2e-3


def test_a_turn_limited_as_peft_limits_it(vectors: Array) -> None:
    import torch
    from peft.tuners.oft.layer import OFTRotationModule

    module = OFTRotationModule(80, 6, 4, 320, coft=True, eps=4.0)
    limited = module._project_batch(torch.from_numpy(vectors), eps=4.0).numpy()
    assert (np.abs(limited - vectors).max(axis=1) > 0).any() and (limited == vectors).all(axis=1).any()
    np.testing.assert_allclose(skew_of(vectors, limit=4.0), skew_of(limited), atol=1e-6)


def test_strength_0_is_the_weight_and_half_of_it_half_the_change(vectors: Array, weight: Array) -> None:
    change = InputOft(skew_of(vectors), 5)
    whole = change.applied(weight) - weight

    assert np.array_equal(change.applied(weight, 0), weight)
    np.testing.assert_allclose(change.applied(weight, 0.5) - weight, whole / 2, atol=1e-5)
    assert change.proportional
    assert not dataclasses.replace(change, rescale=np.ones(320, np.float32)).proportional


def test_rows_of_outputs_are_turned_alike(vectors: Array, weight: Array) -> None:
    change = InputOft(skew_of(vectors), 5, np.linspace(0.5, 1.5, 320, dtype=np.float32))
    chosen = np.array([3, 1, 200])

    np.testing.assert_allclose(change.rows(chosen).applied(weight[chosen]), change.applied(weight)[chosen], atol=1e-6)


@pytest.mark.parametrize("form", ["kohya", "comfy"])
def test_onetrainers_is_written_and_read_again(
    vectors: Array, weight: Array, form: formats.Form, tmp_path: Path
) -> None:
    own, known = keys("sd15"), layers("sd15")
    change = InputOft(skew_of(vectors, scaled=True), 5, None, True)
    path = tmp_path / "a.safetensors"
    path.write_bytes(writing.to_bytes(AdapterFile({LAYER: change}), keys=own, precision="F32", form=form, layers=known))
    again = formats.read(path, keys=own, layers=known).layers[LAYER]

    assert np.array_equal(again.applied(weight), change.applied(weight))


def test_pefts_is_not_written_where_its_settings_have_no_place(vectors: Array) -> None:
    own, known = keys("sd15"), layers("sd15")
    with pytest.raises(AdapterError, match="only a PEFT folder can hold"):
        writing.to_bytes(AdapterFile({LAYER: InputOft(skew_of(vectors))}), keys=own, form="kohya", layers=known)


@pytest.mark.parametrize("numbers", [0, 2, 4, 7])
def test_numbers_that_fill_no_triangle_are_refused(numbers: int) -> None:
    with pytest.raises(ValueError, match=r"triangle|row"):
        skew_of(np.ones((3, numbers), np.float32))
