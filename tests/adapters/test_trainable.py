"""Every kind that is trained: the change that its data says, the right gradients, and nothing of the base touched."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from velatura.adapters import lora, targets
from velatura.adapters.layers import find
from velatura.adapters.lora import LayerSpec
from velatura.adapters.trainable import LAYERS, DoraLayer, TrainedLayer, divided, made
from velatura.adapters.weights import Lora
from velatura.errors import AdapterError

Parts = dict[str, nn.Module]
Run = Callable[[Mapping[str, nn.Module]], Tensor]
Distance = Callable[[Tensor, Tensor], float]

TOLERANCE = 1e-4
CONVOLUTION = {"stride": 2, "padding": 1}


def _base(which: str) -> tuple[nn.Linear | nn.Conv2d, Tensor]:
    generator = torch.Generator().manual_seed(3)
    bases = {
        "linear": (nn.Linear(12, 18), (2, 3, 12)),
        "convolution": (nn.Conv2d(6, 8, 3, **CONVOLUTION), (2, 6, 7, 6)),
        "pointwise": (nn.Conv2d(6, 8, 1), (2, 6, 4, 3)),
        "wide": (nn.Linear(60, 64), (2, 3, 60)),
    }
    base, shape = bases[which]
    for parameter in base.parameters():
        parameter.data.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return base.requires_grad_(False), torch.randn(shape, generator=generator)


def _layer(kind: str, which: str, rank: int = 3) -> tuple[TrainedLayer, nn.Module, Tensor]:
    base, x = _base(which)
    layer = made(kind, base, rank=rank, alpha=2.0)
    layer.draw(1, "a layer")
    return layer, base, x


def _stir(layer: TrainedLayer) -> None:
    for index, parameter in enumerate(layer.own.values()):
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))


SHAPES = ("linear", "convolution", "pointwise", "wide")
EVERY = [(kind, which) for kind in LAYERS for which in SHAPES]


@pytest.mark.parametrize(("kind", "which"), EVERY)
def test_a_fresh_change_is_nothing(kind: str, which: str) -> None:
    layer, base, x = _layer(kind, which)
    torch.testing.assert_close(layer(x), base(x), rtol=1e-6, atol=1e-6)
    assert layer.change().finite


@pytest.mark.parametrize(("kind", "which"), EVERY)
def test_a_layer_computes_what_its_data_makes_of_the_weight(kind: str, which: str) -> None:
    """Through strides and padding, at another strength than 1 too; the data is held to LyCORIS' and PEFT's own."""
    layer, base, x = _layer(kind, which)
    _stir(layer)
    for strength in (1.0, 0.4):
        layer.strength = strength
        explicit = copy.deepcopy(base)
        explicit.weight.data = torch.from_numpy(layer.change().applied(base.weight.numpy(), strength))
        torch.testing.assert_close(layer(x), explicit(x), rtol=1e-4, atol=2e-5)
        assert float((layer(x) - base(x)).detach().abs().max()) > 0.02
    layer.strength = 0.0
    assert torch.equal(layer(x), base(x))


@pytest.mark.parametrize(("kind", "which"), EVERY)
def test_gradients_are_right(kind: str, which: str) -> None:
    layer, _, x = _layer(kind, which, rank=2)
    _stir(layer)
    lengths = layer._lengths().double() if isinstance(layer, DoraLayer) else None
    layer = layer.double()
    if isinstance(layer, DoraLayer):  # its length counts as a constant, so it must be one
        layer._lengths = lambda: lengths  # type: ignore[method-assign]
    own = tuple(layer.own.values())

    def through(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(layer.own, parameters, strict=True)), (x,))

    x = x[:1, :2].double() if which in ("linear", "wide") else x[:1].double()
    assert torch.autograd.gradcheck(through, (x.requires_grad_(), *own), fast_mode=True, atol=1e-4)


@pytest.mark.parametrize(("kind", "which"), EVERY)
def test_a_change_taken_out_goes_back_in(kind: str, which: str) -> None:
    layer, _, x = _layer(kind, which)
    _stir(layer)
    kept, before = layer.change(), layer(x)
    _stir(layer)
    assert not torch.allclose(layer(x), before)
    layer.load(kept)
    torch.testing.assert_close(layer(x), before, rtol=0, atol=0)


def test_a_change_of_another_kind_is_refused() -> None:
    changes = {kind: _layer(kind, "convolution")[0].change() for kind in LAYERS}
    for kind in LAYERS:
        layer, _, _ = _layer(kind, "convolution")
        for other, change in changes.items():
            if kind != other:
                with pytest.raises(AdapterError, match="what is trained is a"):
                    layer.load(change)


def test_dora_predicts_and_learns_as_pefts(parts: Parts, run: Run, distance: Distance) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    names = [name for name in find(parts) if name.startswith("denoiser.") and name.endswith(("to_q", "conv1"))]
    specs = [LayerSpec(name, rank=3, alpha=2.0, kind="dora") for name in names]
    before = run(parts)
    target = torch.linspace(-1, 1, before.numel()).view(before.shape)
    with lora.inject(parts, specs, seed=7) as injected:
        for layer in injected.layers.values():
            _stir(layer)
        changes = injected.weights()
        ours = run(parts)
        F.mse_loss(ours, target).backward()
        gradients = {name: parameter.grad for name, parameter in injected.named().items()}

    denoiser = parts["denoiser"]
    inject_adapter_in_model(
        LoraConfig(r=3, lora_alpha=2, use_dora=True, target_modules=["to_q", "conv1"], init_lora_weights=False),
        denoiser,
    )
    for name, change in changes.items():
        module = denoiser.get_submodule(name.removeprefix("denoiser."))
        down, up = module.lora_A["default"].weight, module.lora_B["default"].weight
        magnitude = module.lora_magnitude_vector["default"].weight
        values = (change.direction.down, change.direction.up, change.magnitude.reshape(tuple(magnitude.shape)))
        for parameter, value in zip((down, up, magnitude), values, strict=True):
            parameter.data.copy_(torch.from_numpy(value))
    theirs = run(parts)
    F.mse_loss(theirs, target).backward()

    assert distance(ours, theirs) <= TOLERANCE
    assert distance(ours, before) >= 100 * TOLERANCE
    for name in changes:
        module = denoiser.get_submodule(name.removeprefix("denoiser."))
        held = {"down": module.lora_A, "up": module.lora_B, "magnitude": module.lora_magnitude_vector}
        for which, one in held.items():
            expected = one["default"].weight.grad.reshape(gradients[f"{name}.{which}"].shape)
            scale = float(expected.abs().max())
            torch.testing.assert_close(gradients[f"{name}.{which}"], expected, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("kind", LAYERS)
def test_ejecting_any_kind_leaves_the_base_bit_for_bit(kind: str, parts: Parts, run: Run) -> None:
    before = run(parts)
    bits = {name: layer.weight.clone() for name, layer in find(parts).items()}
    specs = [LayerSpec(name, 2, 2.0, kind) for name in targets.select(["all", "text"], find(parts))]
    with lora.inject(parts, specs, seed=7) as injected:
        for layer in injected.layers.values():
            _stir(layer)
        assert not torch.allclose(run(parts), before)
        injected.strength = 0
        assert torch.equal(run(parts), before)
    assert torch.equal(run(parts), before)
    assert all(torch.equal(layer.weight, bits[name]) for name, layer in find(parts).items())


@pytest.mark.parametrize("kind", LAYERS)
def test_dropout_is_a_function_of_the_step_and_keeps_the_mean(kind: str) -> None:
    layer, base, x = _layer(kind, "wide", rank=4)
    _stir(layer)
    whole = layer(x).detach()
    layer.dropout = 0.5
    torch.testing.assert_close(layer(x), whole, rtol=0, atol=0)

    def at(step: int) -> Tensor:
        layer.begin(5, step, "a layer")
        y = layer(x)
        layer.end()
        return y.detach()

    torch.testing.assert_close(at(3), at(3), rtol=0, atol=0)
    drawn = torch.stack([at(step) for step in range(1500)])
    assert len({one.numpy().tobytes() for one in drawn}) > 5
    if kind != "dora":  # there the length follows, so what is left out shows in it
        share = (drawn.mean(dim=0) - whole).abs().max() / (whole - base(x)).abs().max()
        assert float(share) < 0.25
    torch.testing.assert_close(layer(x), whole, rtol=0, atol=0)


def test_what_is_drawn_depends_on_the_name_and_the_seed_alone() -> None:
    for kind in LAYERS:
        first, second, other = (made(kind, _base("wide")[0], rank=3, alpha=1.0) for _ in range(3))
        first.draw(1, "one")
        second.draw(1, "one")
        other.draw(1, "another")
        drawn = [name for name in first.own if name not in first.starts_at_zero and name != "magnitude"]
        assert drawn and all(torch.equal(first.own[name], second.own[name]) for name in drawn)
        assert all(not torch.equal(first.own[name], other.own[name]) for name in drawn)


def test_a_side_is_divided_as_evenly_as_it_can_be() -> None:
    assert [divided(side) for side in (320, 768, 7, 64)] == [(16, 20), (24, 32), (1, 7), (8, 8)]
    assert [divided(side, 8) for side in (320, 768, 7)] == [(8, 40), (8, 96), (1, 7)]


def test_a_core_is_for_convolutions_with_a_kernel() -> None:
    change = _layer("locon", "convolution")[0].change()
    assert isinstance(change, Lora) and change.mid is not None and change.down.shape == (3, 6)
    assert all(_layer("locon", which)[0].change().mid is None for which in ("linear", "pointwise"))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_base_in_4_bits_is_trained_over(kind: str) -> None:
    from velatura.weights.quantise import quantise

    base, x = _base("wide")
    network = nn.Sequential(base)
    quantise(network, "int4", smallest=1)
    layer = made(kind, network[0], rank=3, alpha=2.0)
    layer.draw(1, "a layer")
    torch.testing.assert_close(layer(x), network(x), rtol=1e-5, atol=1e-5)
    _stir(layer)
    layer(x).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in layer.own.values())
    assert np.isfinite(layer(x).detach().numpy()).all()
