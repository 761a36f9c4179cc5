"""Weights of blocks: what lists and presets mean on each family's layers."""

from __future__ import annotations

import pytest

from velatura.adapters.blocks import factors
from velatura.bases import FAMILIES
from velatura.errors import PromptError
from velatura.families.names import keys, layers

COUNTS = {"sd15": (17, 26), "sdxl": (12, 20, 26), "flux1": (61,), "z_image": (30,)}


@pytest.mark.parametrize("family", FAMILIES)
def test_lists_have_the_fields_lengths_and_name_blocks_that_there_are(family: str) -> None:
    own, known = keys(family), list(layers(family))
    assert tuple(map(len, own.block_lists)) == COUNTS[family]
    blocks = set(own.blocks(known).values())
    for named in own.block_lists:
        assert len(set(named)) == len(named)
        absent = {"IN09", "IN10", "IN11", "OUT09", "OUT10", "OUT11"} if (family, len(named)) == ("sdxl", 26) else set()
        assert set(named) - blocks == absent
    for preset in own.block_presets.values():
        assert set(preset) <= set(own.block_lists[0])


def test_a_weight_is_for_the_block_that_has_its_place() -> None:
    own, known = keys("sd15"), list(layers("sd15"))
    numbers = [number / 100 for number in range(17)]
    found = factors(",".join(map(str, numbers)), keys=own, layers=known)

    inside = "transformer_blocks.0.attn1.to_q"
    assert found["text_encoder.text_model.encoder.layers.3.mlp.fc1"] == 0.0
    assert found[f"denoiser.down_blocks.0.attentions.0.{inside}"] == 0.01  # IN01
    assert found[f"denoiser.down_blocks.1.attentions.1.{inside}"] == 0.04  # IN05
    assert found[f"denoiser.mid_block.attentions.0.{inside}"] == 0.07
    assert found[f"denoiser.up_blocks.1.attentions.0.{inside}"] == 0.08  # OUT03
    assert found[f"denoiser.up_blocks.3.attentions.2.{inside}"] == 0.16  # OUT11
    assert found["denoiser.conv_in"] == 0.0


def test_presets_are_sets_of_blocks() -> None:
    own, known = keys("sd15"), list(layers("sd15"))
    assert factors("all", keys=own, layers=known) == {}
    assert set(factors("NONE", keys=own, layers=known).values()) == {0.0}
    deep = factors("OUTD", keys=own, layers=known)
    blocks = own.blocks(known)
    assert {blocks[name] for name, weight in deep.items() if weight} == {"BASE", "OUT03", "OUT04", "OUT05", "OUT06"}


@pytest.mark.parametrize(
    ("family", "preset", "numbers"),
    [
        ("sd15", "INS", "1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0"),
        ("sd15", "IND", "1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0"),
        ("sd15", "INALL", "1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0"),
        ("sd15", "MIDD", "1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0"),
        ("sd15", "OUTD", "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0"),
        ("sd15", "OUTS", "1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1"),
        ("sd15", "OUTALL", "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1"),
        ("sdxl", "INS", "1,1,1,0,0,0,0,0,0,0,0,0"),
        ("sdxl", "MID", "1,0,0,0,0,1,0,0,0,0,0,0"),
        ("sdxl", "OUTD", "1,0,0,0,0,0,1,1,1,0,0,0"),
    ],
)
def test_presets_are_the_block_weight_extensions(family: str, preset: str, numbers: str) -> None:
    own, known = keys(family), list(layers(family))
    assert factors(preset, keys=own, layers=known) == factors(numbers, keys=own, layers=known)


def test_sdxls_lists_of_twelve_twenty_and_twenty_six_say_the_same() -> None:
    own, known = keys("sdxl"), list(layers("sdxl"))
    twelve, twenty, all_of_them = own.block_lists
    told = {block: place / 100 for place, block in enumerate(twelve, 1)}
    found = [
        factors(",".join(str(told.get(block, 0)) for block in named), keys=own, layers=known)
        for named in (twelve, twenty, all_of_them)
    ]
    assert found[0] == found[1] == found[2]
    inside = "transformer_blocks.1.attn1.to_q"
    assert found[0][f"denoiser.down_blocks.2.attentions.1.{inside}"] == 0.05  # IN08
    assert found[0]["denoiser.up_blocks.0.attentions.2.transformer_blocks.9.ff.net.2"] == 0.09  # OUT02
    assert found[0]["denoiser.mid_block.attentions.0.proj_in"] == 0.06
    assert found[0]["text_encoder_2.text_model.encoder.layers.31.mlp.fc1"] == 0.01
    assert found[0]["denoiser.down_blocks.0.resnets.0.conv1"] == 0.0  # IN01, which the list of twelve does not name


def test_fluxs_blocks_are_double_and_single_ones() -> None:
    own, known = keys("flux1"), list(layers("flux1"))
    numbers = ["0"] * 61
    numbers[3 + 4], numbers[3 + 19 + 37] = "0.5", "0.25"
    found = factors(",".join(numbers), keys=own, layers=known)
    kept = {name.split(".attn")[0]: weight for name, weight in found.items() if weight and ".attn." in name}
    assert kept == {"denoiser.transformer_blocks.4": 0.5, "denoiser.single_transformer_blocks.37": 0.25}


@pytest.mark.parametrize("told", ["1,2,3", "deep", "1,,1", ",".join(["nan"] * 17)])
def test_what_is_no_list_of_the_base_is_refused(told: str) -> None:
    with pytest.raises(PromptError, match=r"SD 1\.5"):
        factors(told, keys=keys("sd15"), layers=list(layers("sd15")))
