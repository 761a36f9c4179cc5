from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.adapters.algebra.files import STEMS, Array, apart, deltas, random_lora, written
from velatura import tensorfile
from velatura.adapters import formats
from velatura.adapters.algebra import merge, sides, store
from velatura.adapters.algebra.merge import How
from velatura.adapters.algebra.resize import Rule
from velatura.api import loras
from velatura.errors import AdapterError
from velatura.families.names import keys, layers


def two(tmp_path: Path, *, seed: int = 1, rank: int = 4) -> tuple[Path, Path]:
    first = written(tmp_path / "a.safetensors", random_lora())
    return first, written(tmp_path / "b.safetensors", random_lora(seed=seed, rank=rank, alpha=1.0, stems=STEMS[1:]))


def test_the_sum_is_exact_and_ranks_add_up(tmp_path: Path) -> None:
    first, second = two(tmp_path)

    done = loras.merge_loras([(first, 0.8), (second, -0.5)], tmp_path / "c.safetensors", How())

    one, other = deltas(first), deltas(second)
    for stem, delta in deltas(tmp_path / "c.safetensors").items():
        assert apart(delta, 0.8 * one[stem] - (0.5 * other[stem] if stem in other else 0)) < 1e-6
    assert done.ranks == {STEMS[0]: 8, **dict.fromkeys(STEMS[1:], 12)} and done.error == 0 and done.shared == 3


def test_truncated_it_is_the_best_of_its_rank(tmp_path: Path) -> None:
    first, second = two(tmp_path)

    done = loras.merge_loras([(first, 1), (second, 1)], tmp_path / "c.safetensors", How(rule=Rule("rank", 5)))

    one, other = deltas(first), deltas(second)
    lost = whole = 0.0
    for stem, delta in deltas(tmp_path / "c.safetensors").items():
        total = one[stem].astype(np.float64) + other.get(stem, np.zeros(()))
        left, values, right = np.linalg.svd(total, full_matrices=False)
        assert apart(delta, (left[:, :5] * values[:5]) @ right[:5]) < 1e-6
        lost, whole = lost + np.sum(values[5:] ** 2), whole + np.sum(values**2)
    assert done.error == pytest.approx(np.sqrt(lost / whole), rel=1e-5)


def test_files_that_spell_layers_differently_are_joined_by_the_bases_names(tmp_path: Path) -> None:
    shapes = {"self_attn_q_proj": (768, 768)}
    kohya, peft = {}, {}
    draw = np.random.default_rng(0)
    for name, (outputs, inputs) in shapes.items():
        up, down = draw.standard_normal((outputs, 2)), draw.standard_normal((2, inputs))
        kohya[f"lora_te_text_model_encoder_layers_0_{name}.lora_up.weight"] = up.astype(np.float32)
        kohya[f"lora_te_text_model_encoder_layers_0_{name}.lora_down.weight"] = down.astype(np.float32)
        peft["text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_B.weight"] = up.astype(np.float32)
        peft["text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight"] = down.astype(np.float32)
    one, other = written(tmp_path / "a.safetensors", kohya), written(tmp_path / "b.safetensors", peft)

    loras.merge_loras([(one, 1), (other, 1)], tmp_path / "c.safetensors", How())

    found = deltas(tmp_path / "c.safetensors")
    (stem,) = found
    assert stem == "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    assert apart(found[stem], 2 * deltas(one)[stem]) < 1e-6


def test_convolutions_whose_files_do_not_tell_a_kernel_have_it_in_the_result(tmp_path: Path) -> None:
    stem, name = "lora_unet_down_blocks_0_resnets_0_conv1", "denoiser.down_blocks.0.resnets.0.conv1"
    draw = np.random.default_rng(0)
    shapes = {"w1_a": (320, 2), "w1_b": (2, 2880), "w2_a": (320, 2), "w2_b": (2, 2880)}
    loha = {f"{stem}.hada_{end}": draw.standard_normal(shape).astype(np.float32) for end, shape in shapes.items()}
    lora = {
        f"{stem}.lora_down.weight": draw.standard_normal((2, 320, 3, 3)).astype(np.float32),
        f"{stem}.lora_up.weight": draw.standard_normal((320, 2, 1, 1)).astype(np.float32),
    }
    text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"  # tells the family
    lora |= {f"{text}.lora_down.weight": np.ones((1, 768), np.float32)}
    lora |= {f"{text}.lora_up.weight": np.ones((768, 1), np.float32)}
    loha |= {f"{text}.diff": np.ones((768, 768), np.float32)}
    one, other = written(tmp_path / "a.safetensors", loha), written(tmp_path / "b.safetensors", lora)

    loras.merge_loras([(one, 0.5), (other, 1)], tmp_path / "c.safetensors", How())

    own, known = keys("sd15"), layers("sd15")
    changes = [formats.read(tmp_path / f"{path}.safetensors", keys=own, layers=known).layers[name] for path in "abc"]
    assert apart(changes[2].delta(), 0.5 * changes[0].delta() + changes[1].delta()) < 1e-5


def test_adapters_for_bases_of_different_families_are_refused(tmp_path: Path) -> None:
    sdxl = {
        f"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_{end}.weight": np.ones((2, 2), np.float32)
        for end in ("up", "down")
    }
    one, other = written(tmp_path / "a.safetensors", random_lora()), written(tmp_path / "b.safetensors", sdxl)

    for work in (
        lambda: loras.merge_loras([(one, 1), (other, 1)], tmp_path / "c.safetensors", How()),
        lambda: loras.overlap_loras(one, other),
    ):
        with pytest.raises(AdapterError, match=r"a\.safetensors for SD 1\.5, b\.safetensors for SDXL"):
            work()
    assert not (tmp_path / "c.safetensors").exists()


def reference_ties(deltas: list[Array], density: float) -> Array:
    """The paper's three steps, element by element."""
    kept = []
    for delta in deltas:
        order = np.argsort(-np.abs(delta).ravel(), kind="stable")[: int(np.ceil(density * delta.size))]
        mask = np.zeros(delta.size, bool)
        mask[order] = True
        kept.append(np.where(mask.reshape(delta.shape), delta, 0))
    result = np.zeros_like(deltas[0])
    for at in np.ndindex(result.shape):
        values = [delta[at] for delta in kept if delta[at]]
        sign = np.sign(sum(values))
        agreeing = [value for value in values if np.sign(value) == sign]
        result[at] = np.mean(agreeing) if agreeing else 0
    return result


def test_ties_is_the_papers() -> None:
    parts = np.random.default_rng(0).standard_normal((3, 7, 9)).astype(np.float32)

    np.testing.assert_allclose(merge.ties(parts, 0.4), reference_ties(list(parts), 0.4), atol=1e-6)
    assert np.abs(merge.ties(parts, 0.4) - parts.sum(axis=0)).max() > 0.1


def test_dare_keeps_a_share_and_the_mean_and_draws_the_same_again() -> None:
    parts = np.ones((2, 200, 200), np.float32)

    one, again, other = (merge.dare(parts, 0.25, seed=seed, label="x") for seed in (0, 0, 1))

    np.testing.assert_array_equal(one, again)
    assert one.mean() == pytest.approx(2, abs=0.05) and set(np.unique(one)) == {0, 4, 8}
    assert (one != other).mean() > 0.3


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_a_way_of_full_rank_says_what_the_rank_lost(tmp_path: Path, method: str) -> None:
    first, second = two(tmp_path)
    how = How(method, Rule("rank", 20), density=0.7)  # type: ignore[arg-type]

    whole = loras.merge_loras([(first, 1), (second, 1)], tmp_path / "c.safetensors", how)
    less = loras.merge_loras(
        [(first, 1), (second, 1)],
        tmp_path / "d.safetensors",
        How(method, Rule("rank", 4), density=0.7),  # type: ignore[arg-type]
    )

    assert whole.error < 1e-3 < 0.1 < less.error
    stem = STEMS[1]
    stack = np.stack([deltas(first)[stem], deltas(second)[stem]])
    exact = merge.ties(stack, 0.7) if method == "ties" else merge.dare(stack, 0.7, seed=0, label=stem)
    assert apart(deltas(tmp_path / "c.safetensors")[stem], exact) < 1e-5
    assert apart(deltas(tmp_path / "c.safetensors")[stem], stack.sum(axis=0)) > 0.1


def test_metadata_names_all_sources_and_no_ones_training(tmp_path: Path) -> None:
    base = {"ss_base_model_version": "sd_v1", "ss_steps": "100"}
    first = written(tmp_path / "a.safetensors", random_lora(), {**base, "modelspec.title": "Mara"})
    second = written(tmp_path / "b.safetensors", random_lora(seed=1), {**base, "ss_steps": "7"})

    loras.merge_loras([(first, 0.8), (second, 0.5)], tmp_path / "c.safetensors", How())

    found = tensorfile.read_header(tmp_path / "c.safetensors").metadata
    assert found[merge.MERGED_FROM] == "Mara, b" and found["ss_base_model_version"] == "sd_v1"
    assert "ss_steps" not in found and "modelspec.title" not in found and found["ss_network_dim"] == "16"
    (step,) = json.loads(found[store.LINEAGE])
    assert step["settings"] == {"method": "concat", "strengths": "0.8 0.5"} and len(step["from"]) == 2


def test_half_precision_stays_and_different_ones_become_fp32(tmp_path: Path) -> None:
    half = written(tmp_path / "a.safetensors", random_lora(dtype=np.float16))
    full = written(tmp_path / "b.safetensors", random_lora(seed=1))

    loras.merge_loras([(half, 1), (half, 1)], tmp_path / "c.safetensors", How())
    loras.merge_loras([(half, 1), (full, 1)], tmp_path / "d.safetensors", How())

    kinds = [tensorfile.read_header(tmp_path / name).entries for name in ("c.safetensors", "d.safetensors")]
    assert [entries[f"{STEMS[0]}.lora_up.weight"].dtype for entries in kinds] == ["F16", "F32"]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (How("ties"), "needs a rank"),
        (How(rule=Rule("budget", 3)), "merge first"),
        (How(density=0), "makes no sense"),
        (How(rule=Rule("fro", 2)), "makes no sense"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, how: How, told: str) -> None:
    first, second = two(tmp_path)

    with pytest.raises(AdapterError, match=told):
        loras.merge_loras([(first, 1), (second, 1)], tmp_path / "c.safetensors", how)
    assert not (tmp_path / "c.safetensors").exists()


def test_adapters_of_different_size_are_refused(tmp_path: Path) -> None:
    first, _ = two(tmp_path)
    tensors = {key: value[:12] if "up" in key else value for key, value in random_lora(stems=STEMS[1:2]).items()}
    other = written(tmp_path / "c.safetensors", tensors)

    with pytest.raises(AdapterError, match="different size"):
        merge.merge(
            sides.spelled([first, other]), [1, 1], tmp_path / "d.safetensors", How(),
            stems={stem: stem for stem in STEMS}, precision="F32",
        )  # fmt: skip


def test_a_dora_is_refused_since_it_depends_on_the_base(tmp_path: Path) -> None:
    tensors = {**random_lora(), f"{STEMS[1]}.dora_scale": np.ones((24, 1), np.float32)}
    first, second = written(tmp_path / "dora.safetensors", tensors), two(tmp_path)[1]

    with pytest.raises(AdapterError, match="depends on the base"):
        loras.merge_loras([(first, 1), (second, 1)], tmp_path / "c.safetensors", How())
