"""Targets: what presets and patterns mean, and what is said of those that mean nothing."""

from __future__ import annotations

import pytest
from torch import nn

from velatura.adapters import layers, targets
from velatura.errors import RecipeError

Parts = dict[str, nn.Module]


def test_attention_is_the_four_projections_of_both_attentions(parts: Parts) -> None:
    known = layers.find(parts)
    chosen = targets.select(["attention"], known)

    ends = {name.split("transformer_blocks.0.")[1] for name in chosen}
    assert ends == {f"attn{number}.to_{half}" for number in (1, 2) for half in ("q", "k", "v", "out.0")}
    blocks = sum(name.endswith("proj_in") for name in known)
    assert len(chosen) == 8 * blocks and all(name.startswith("denoiser.") for name in chosen)


def test_the_default_is_every_layer_inside_the_transformers(parts: Parts) -> None:
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    expected = {
        f"denoiser.{path}.{inner}"
        for path, module in parts["denoiser"].named_modules()
        if isinstance(module, Transformer2DModel)
        for inner, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    }
    assert set(targets.select(targets.DEFAULT, layers.find(parts))) == expected
    assert any(name.endswith("proj_in") for name in expected)


def test_all_adds_the_residual_blocks_and_the_changes_of_size(parts: Parts) -> None:
    from diffusers.models.downsampling import Downsample2D
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.upsampling import Upsample2D

    chosen = set(targets.select(["all"], layers.find(parts)))
    added = {
        f"denoiser.{path}.{inner}"
        for path, module in parts["denoiser"].named_modules()
        if isinstance(module, ResnetBlock2D | Downsample2D | Upsample2D)
        for inner, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    }
    assert chosen == added | set(targets.select(targets.DEFAULT, layers.find(parts)))


def test_text_is_attention_and_mlp_of_the_text_encoder(parts: Parts) -> None:
    chosen = targets.select(["text"], layers.find(parts))
    assert len(chosen) == 2 * 6 and all(name.startswith("text_encoder.text_model.encoder.layers.") for name in chosen)


def test_presets_and_patterns_add_up_in_the_models_order(parts: Parts) -> None:
    known = list(layers.find(parts))
    chosen = targets.select(
        ["text_encoder.*.fc1", "denoiser.conv_in", "denoiser.*.attn1.to_q", "denoiser.*.to_q"], known
    )

    assert chosen == [name for name in known if name in set(chosen)]
    assert chosen[0] == "denoiser.conv_in" and chosen[-1].endswith("fc1")
    assert len(chosen) == len(set(chosen))


def test_a_target_that_means_nothing_names_the_nearest(parts: Parts) -> None:
    known = layers.find(parts)
    with pytest.raises(RecipeError, match=r"no target 'atention'.*did you mean 'attention'"):
        targets.select(["atention"], known)
    with pytest.raises(RecipeError, match=r"like 'denoiser.conv_inn'.*nearest is denoiser\.conv_in$"):
        targets.select(["attention", "denoiser.conv_inn"], known)
    with pytest.raises(RecipeError, match=r"no target 'xyzzy'.*choose from attention"):
        targets.select(["xyzzy"], known)
