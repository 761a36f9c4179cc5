"""Injected LoRA: the right numbers, the right gradients, and a base that is left as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from velatura.adapters import layers, lora
from velatura.adapters.lora import LayerSpec
from velatura.adapters.weights import Lora
from velatura.errors import AdapterError

Parts = dict[str, nn.Module]
Specs = Callable[..., list[LayerSpec]]
Drawn = Callable[..., dict[str, Lora]]
Run = Callable[[Mapping[str, nn.Module]], Tensor]
Distance = Callable[[Tensor, Tensor], float]

TOLERANCE = 1e-4


def test_a_fresh_adapter_changes_nothing(parts: Parts, specs: Specs, run: Run) -> None:
    before = run(parts)
    with lora.inject(parts, specs(parts), seed=7):
        torch.testing.assert_close(run(parts), before, rtol=0, atol=0)


def test_an_injected_model_predicts_what_peft_predicts(
    parts: Parts, specs: Specs, drawn: Drawn, run: Run, distance: Distance
) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    before = run(parts)
    weights = drawn(parts)
    with lora.inject(parts, specs(parts), seed=7) as injected:
        injected.load(weights)
        ours = run(parts)

    for part, module in parts.items():
        paths = [_path(parts, part, name) for name in weights if name.startswith(f"{part}.")]
        config = LoraConfig(r=3, lora_alpha=2, target_modules=paths, lora_dropout=0.0)
        inject_adapter_in_model(config, module)
        with torch.no_grad():
            for name, layer in weights.items():
                if name.startswith(f"{part}."):
                    theirs = module.get_submodule(_path(parts, part, name))
                    theirs.lora_A["default"].weight.copy_(torch.from_numpy(layer.down))
                    theirs.lora_B["default"].weight.copy_(torch.from_numpy(layer.up))
    assert distance(ours, run(parts)) <= TOLERANCE
    assert distance(ours, before) >= 100 * TOLERANCE


def test_ejecting_leaves_the_same_modules_the_same_keys_and_the_same_bits(
    parts: Parts, specs: Specs, drawn: Drawn, run: Run
) -> None:
    before = run(parts)
    modules = [dict(module.named_modules()) for module in parts.values()]
    state = [
        {key: value.clone() for key, value in module.state_dict(keep_vars=False).items()} for module in parts.values()
    ]

    injected = lora.inject(parts, specs(parts), seed=7)
    injected.load(drawn(parts))
    assert not torch.equal(run(parts), before)
    injected.eject()
    injected.eject()

    assert torch.equal(run(parts), before)
    for module, modules_before, state_before in zip(parts.values(), modules, state, strict=True):
        after = dict(module.named_modules())
        assert list(after) == list(modules_before)
        assert all(after[name] is modules_before[name] for name in after)
        assert list(module.state_dict()) == list(state_before)
        assert all(torch.equal(value, state_before[key]) for key, value in module.state_dict().items())


def test_strength_zero_is_the_base_bit_for_bit_and_comes_back(
    parts: Parts, specs: Specs, drawn: Drawn, run: Run
) -> None:
    before = run(parts)
    with lora.inject(parts, specs(parts), seed=7) as injected:
        injected.load(drawn(parts))
        full = run(parts)
        injected.strength = 0
        assert torch.equal(run(parts), before)
        injected.strength = 1
        assert torch.equal(run(parts), full)
        injected.strength = 0.5
        assert not torch.allclose(run(parts), full)


def test_gradients_are_those_of_the_explicit_weight(parts: Parts, specs: Specs, drawn: Drawn, run: Run) -> None:
    """Autograd through W + alpha / rank * up @ down, in the place of W."""
    weights = drawn(parts)
    with lora.inject(parts, specs(parts), seed=7) as injected:
        injected.load(weights)
        target = torch.linspace(-1, 1, 2 * 4 * 8 * 6).view(2, 4, 8, 6)
        F.mse_loss(run(parts), target).backward()
        ours = {name: parameter.grad for name, parameter in injected.named().items()}

    halves = {
        name: (torch.from_numpy(layer.down).requires_grad_(), torch.from_numpy(layer.up).requires_grad_())
        for name, layer in weights.items()
    }
    originals = {name: layer.weight for name, layer in layers.find(parts).items()}
    for name, (down, up) in halves.items():
        module = layers.find(parts)[name]
        delta = 2 / 3 * (up.flatten(1) @ down.flatten(1)).view(originals[name].shape)
        del module._parameters["weight"]
        module.weight = originals[name] + delta
    F.mse_loss(run(parts), target).backward()

    for name, (down, up) in halves.items():
        assert down.grad.abs().max() > 0 and up.grad.abs().max() > 0
        torch.testing.assert_close(ours[f"{name}.down"], down.grad, rtol=1e-4, atol=1e-5 * float(down.grad.abs().max()))
        torch.testing.assert_close(ours[f"{name}.up"], up.grad, rtol=1e-4, atol=1e-5 * float(up.grad.abs().max()))


def test_a_layer_is_the_base_with_the_change_in_its_weight_whatever_its_stride_and_padding() -> None:
    for base, x in (
        (nn.Linear(5, 4), torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))),
        (
            nn.Conv2d(3, 4, 3, stride=2, padding=1, padding_mode="circular"),
            torch.randn(2, 3, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
        ),
    ):
        layer = lora.LoraLayer(base.double(), rank=2, alpha=3.0).double()
        for index, half in enumerate((layer.down, layer.up)):
            values = torch.randn(half.shape, generator=torch.Generator().manual_seed(index), dtype=torch.float64)
            half.data.copy_(values)
        explicit = copy.deepcopy(base)
        explicit.weight.data += 1.5 * (layer.up.flatten(1) @ layer.down.flatten(1)).view(base.weight.shape)
        torch.testing.assert_close(layer(x), explicit(x))
        assert torch.autograd.gradcheck(layer, (x.requires_grad_(),))


def test_what_a_layer_is_drawn_as_depends_on_its_name_and_the_seed_alone(parts: Parts, specs: Specs) -> None:
    chosen = specs(parts)
    with lora.inject(parts, chosen, seed=7) as injected:
        every = injected.weights()
    with lora.inject(parts, chosen[:1], seed=7) as injected:
        alone = injected.weights()[chosen[0].name]
    with lora.inject(parts, chosen[:1], seed=8) as injected:
        other = injected.weights()[chosen[0].name]

    assert (alone.down == every[chosen[0].name].down).all()
    assert (alone.down != other.down).any()
    fan_in = alone.down[0].size
    assert 0.8 * fan_in**-0.5 < abs(alone.down).max() <= fan_in**-0.5
    assert len({layer.down.tobytes() for layer in every.values()}) == len(every)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_parameters_stay_fp32_beside_a_base_of_half_precision(
    parts: Parts, specs: Specs, drawn: Drawn, run: Run, dtype: torch.dtype
) -> None:
    half = {part: module.to(dtype) for part, module in parts.items()}
    before = run(half)
    with lora.inject(half, specs(half), seed=7) as injected:
        injected.load(drawn(half))
        predicted = run(half)
        predicted.float().square().mean().backward()
        assert predicted.dtype == dtype
        assert all(p.dtype == torch.float32 and p.grad.dtype == torch.float32 for p in injected.parameters())
        assert not torch.equal(predicted, before)


def test_under_autocast_the_change_is_computed_in_the_base_outputs_type(
    parts: Parts, specs: Specs, drawn: Drawn, run: Run
) -> None:
    with lora.inject(parts, specs(parts), seed=7) as injected:
        injected.load(drawn(parts))
        exact = run(parts)
        with torch.autocast("cpu", torch.bfloat16):
            rough = run(parts)
            rough.float().square().mean().backward()
        assert float((rough - exact).detach().square().mean().sqrt() / exact.detach().square().mean().sqrt()) < 0.1
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in injected.parameters())


def test_a_batch_in_channels_last_gives_the_same_numbers_and_keeps_its_layout() -> None:
    layer = lora.LoraLayer(nn.Conv2d(3, 4, 3, padding=1), rank=2, alpha=2.0)
    for index, half in enumerate((layer.down, layer.up)):
        half.data.copy_(torch.randn(half.shape, generator=torch.Generator().manual_seed(index)))
    x = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(3))
    y = layer(x.to(memory_format=torch.channels_last))

    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, layer(x))


def test_weights_taken_out_are_copies_and_go_back_in(parts: Parts, specs: Specs, drawn: Drawn, run: Run) -> None:
    with lora.inject(parts, specs(parts), seed=7) as injected:
        injected.load(drawn(parts))
        predicted = run(parts)
        kept = injected.weights()
        with torch.no_grad():
            for parameter in injected.parameters():
                parameter.zero_()
        assert not torch.allclose(run(parts), predicted)
        injected.load(kept)
        assert torch.equal(run(parts), predicted)


def test_loading_other_layers_or_shapes_is_refused(parts: Parts, specs: Specs, drawn: Drawn) -> None:
    weights = drawn(parts)
    with lora.inject(parts, specs(parts), seed=7) as injected:
        name, *_ = weights
        with pytest.raises(AdapterError, match="other layers"):
            injected.load({key: value for key, value in weights.items() if key != name})
        wider = [LayerSpec(name, rank=4, alpha=1.0)]
    with lora.inject(parts, wider, seed=7) as injected, pytest.raises(AdapterError, match="other shapes"):
        injected.load({name: weights[name]})


def test_what_cannot_be_adapted_is_said(parts: Parts, specs: Specs) -> None:
    name = specs(parts)[0].name
    with pytest.raises(AdapterError, match="no layer denoiser\\.nowhere"):
        lora.inject(parts, [LayerSpec("denoiser.nowhere", 2, 1.0)], seed=0)
    with pytest.raises(AdapterError, match="rank 0"):
        lora.inject(parts, [LayerSpec(name, 0, 1.0)], seed=0)
    with lora.inject(parts, [LayerSpec(name, 2, 1.0)], seed=0), pytest.raises(AdapterError, match="adapted already"):
        lora.inject(parts, [LayerSpec(name, 2, 1.0)], seed=0)
    grouped = {"denoiser": nn.Sequential(nn.Conv2d(4, 4, 1, groups=2))}
    with pytest.raises(AdapterError, match="grouped"):
        lora.inject(grouped, [LayerSpec("denoiser.0", 2, 1.0)], seed=0)


def test_layers_keep_their_names_while_they_are_adapted(parts: Parts, specs: Specs) -> None:
    before = layers.shapes(parts)
    with lora.inject(parts, specs(parts), seed=7):
        assert layers.shapes(parts) == before


def test_the_text_encoders_layers_are_named_as_kohya_names_them(parts: Parts) -> None:
    assert "text_encoder.text_model.encoder.layers.1.self_attn.q_proj" in layers.find(parts)


def _path(parts: Parts, part: str, name: str) -> str:
    """The module path of a layer in the transformers that is installed."""
    path = name.removeprefix(f"{part}.")
    return path if hasattr(parts[part], "text_model") else path.removeprefix("text_model.")
