"""Merging: the same numbers as injecting, always from the pristine weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from velatura.adapters import layers, lora
from velatura.adapters.lora import LayerSpec
from velatura.adapters.merge import Applied, merge
from velatura.adapters.weights import Lora
from velatura.errors import AdapterError, ModelError

Parts = dict[str, nn.Module]
Specs = Callable[..., list[LayerSpec]]
Drawn = Callable[..., dict[str, Lora]]
Run = Callable[[Mapping[str, nn.Module]], Tensor]


def _pristine(parts: Parts) -> dict[str, Tensor]:
    return {f"{name}.weight": layer.weight.detach().clone() for name, layer in layers.find(parts).items()}


def _bits(parts: Parts) -> dict[str, Tensor]:
    return {name: layer.weight.detach().clone() for name, layer in layers.find(parts).items()}


def _same(parts: Parts, bits: dict[str, Tensor]) -> bool:
    return all(torch.equal(layer.weight, bits[name]) for name, layer in layers.find(parts).items())


def test_a_merged_model_predicts_what_the_injected_one_does(parts: Parts, specs: Specs, drawn: Drawn, run: Run) -> None:
    before, pristine, weights = run(parts), _pristine(parts), drawn(parts)
    with lora.inject(parts, specs(parts), seed=7) as injected:
        injected.load(weights)
        expected = run(parts).detach()

    merge(parts, pristine, [Applied(weights, 1, 1)])

    scale = float(expected.abs().max())
    assert float((run(parts) - expected).abs().max()) <= 1e-5 * scale
    assert float((before - expected).abs().max()) >= 100 * 1e-5 * scale


def test_switching_never_drifts(parts: Parts, drawn: Drawn, run: Run) -> None:
    before, pristine, bits = run(parts), _pristine(parts), _bits(parts)
    first, second = drawn(parts, seed=1), drawn(parts, ("attention",), seed=2)
    once = None
    for turn in range(12):
        merge(parts, pristine, [Applied(first, 0.8, 0.6), Applied(second, -0.5, 0.3)])
        once = once or _bits(parts)
        assert _same(parts, once)
        merge(parts, pristine, [Applied(second, 0.1 * turn + 0.1, 1)])
    assert not _same(parts, bits)

    merge(parts, pristine, [])

    assert _same(parts, bits)
    assert torch.equal(run(parts), before)


def test_only_layers_that_change_are_written(parts: Parts, drawn: Drawn) -> None:
    pristine = _pristine(parts)
    broad, narrow = drawn(parts, seed=1), drawn(parts, ("attention",), seed=2)

    assert set(merge(parts, pristine, [Applied(broad, 1, 1), Applied(narrow, 0.5, 1)])) == set(broad)
    assert merge(parts, pristine, [Applied(broad, 1, 1), Applied(narrow, 0.5, 1)]) == []
    assert set(merge(parts, pristine, [Applied(broad, 1, 1), Applied(narrow, 0.7, 1)])) == set(narrow)
    assert set(merge(parts, pristine, [])) == set(broad)


def test_denoiser_and_text_encoder_have_their_own_strengths(parts: Parts, drawn: Drawn) -> None:
    pristine, bits, weights = _pristine(parts), _bits(parts), drawn(parts)

    written = merge(parts, pristine, [Applied(weights, denoiser_strength=0, text_strength=0.5)])

    assert written and all(name.startswith("text_encoder.") for name in written)
    for name in written:
        expected = bits[name] + 0.5 * torch.from_numpy(weights[name].delta())
        torch.testing.assert_close(layers.find(parts)[name].weight, expected)
    assert merge(parts, pristine, [Applied(weights, 0, 0)]) == written
    assert _same(parts, bits)


def test_the_order_of_adapters_changes_rounding_only(parts: Parts, drawn: Drawn) -> None:
    pristine = _pristine(parts)
    uses = [Applied(drawn(parts, seed=seed), 0.3 * seed, 1) for seed in (1, 2, 3)]
    merge(parts, pristine, uses)
    forwards = _bits(parts)
    merge(parts, pristine, uses[::-1])
    for name, layer in layers.find(parts).items():
        torch.testing.assert_close(layer.weight, forwards[name], rtol=1e-5, atol=1e-6)


def test_weights_of_half_precision_are_rounded_once(parts: Parts, drawn: Drawn) -> None:
    weights = [drawn(parts, seed=seed) for seed in (1, 2)]
    half = {part: module.half() for part, module in parts.items()}
    pristine = _pristine(half)

    merge(half, pristine, [Applied(weights[0], 0.7, 0.7), Applied(weights[1], 0.4, 0.4)])

    for name in weights[0]:
        deltas = [torch.from_numpy(layer[name].delta()).double() for layer in weights]
        exact = pristine[f"{name}.weight"].double() + 0.7 * deltas[0] + 0.4 * deltas[1]
        merged = layers.find(half)[name].weight.detach()
        spacing = torch.finfo(torch.float16).eps * exact.abs().clamp(min=2.0**-14)
        assert bool(((merged.double() - exact).abs() <= 0.5001 * spacing + 1e-6).all())


def test_a_pristine_weight_may_have_another_type_and_lack_the_one_by_one_kernel(parts: Parts, drawn: Drawn) -> None:
    pristine = {key: value.half() for key, value in _pristine(parts).items()}
    name = next(name for name in drawn(parts) if name.endswith("proj_in"))
    pristine[f"{name}.weight"] = pristine[f"{name}.weight"].flatten(1)
    weights = {name: drawn(parts)[name]}

    merge(parts, pristine, [Applied(weights, 1, 1)])
    expected = pristine[f"{name}.weight"].float().view(weights[name].shape) + torch.from_numpy(weights[name].delta())
    torch.testing.assert_close(layers.find(parts)[name].weight, expected)

    merge(parts, pristine, [])
    assert torch.equal(layers.find(parts)[name].weight.flatten(1), pristine[f"{name}.weight"].float())


def test_merging_works_beneath_an_adapter_in_training(parts: Parts, specs: Specs, drawn: Drawn, run: Run) -> None:
    pristine, style = _pristine(parts), drawn(parts, seed=3)
    with lora.inject(parts, specs(parts), seed=7):
        merge(parts, pristine, [Applied(style, 1, 1)])
        beneath = run(parts)
    assert torch.equal(run(parts), beneath)


def test_an_adapter_that_does_not_fit_changes_nothing(parts: Parts, drawn: Drawn) -> None:
    pristine, bits = _pristine(parts), _bits(parts)
    weights = drawn(parts)
    first, second, *_ = [name for name in weights if weights[name].shape[0] != next(iter(weights.values())).shape[0]]
    with pytest.raises(AdapterError, match=r"no layer denoiser\.nowhere"):
        merge(parts, pristine, [Applied({**weights, "denoiser.nowhere": weights[first]}, 1, 1)])
    with pytest.raises(AdapterError, match="in this base, the adapter's is"):
        merge(parts, pristine, [Applied({**weights, next(iter(weights)): weights[second]}, 1, 1)])
    with pytest.raises(ModelError, match="not at hand"):
        merge(parts, {}, [Applied(weights, 1, 1)])
    with pytest.raises(ValueError, match="overwrites"):
        merge(
            parts,
            {f"{name}.weight": layer.weight for name, layer in layers.find(parts).items()},
            [Applied(weights, 1, 1)],
        )
    assert _same(parts, bits)
