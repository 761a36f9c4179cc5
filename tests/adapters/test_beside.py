"""Adapters beside the layers: as merged, exchanged between steps, with a strength of its own for each sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from velatura.adapters.beside import beside, small
from velatura.adapters.kinds import Dora, Full, Ia3, Norm
from velatura.adapters.layers import every_shape, find, weight
from velatura.adapters.lora import LayerSpec, inject
from velatura.adapters.merge import Applied, merge
from velatura.adapters.switch import Switch, active
from velatura.adapters.weights import Change, Lora
from velatura.errors import AdapterError

Parts = dict[str, nn.Module]
Drawn = Callable[..., dict[str, Lora]]
Run = Callable[[Mapping[str, nn.Module]], Tensor]
Distance = Callable[[Tensor, Tensor], float]

TOLERANCE = 1e-4


@pytest.fixture
def pristine(parts: Parts) -> dict[str, Tensor]:
    found = {}
    for part, module in parts.items():
        for name, tensor in module.state_dict().items():
            full = f"text_model.{name}" if part == "text_encoder" and not name.startswith("text_model.") else name
            found[f"{part}.{full}"] = tensor.clone()
    return found


def mixed(parts: Parts, drawn: Drawn) -> dict[str, Change]:
    """Several kinds, norms and biases among them."""
    changes: dict[str, Change] = {}
    for place, (name, lora) in enumerate(drawn(parts).items()):
        out, inputs, *_ = lora.shape
        stream = np.random.default_rng(place)
        length = np.ones((out, *[1] * (len(lora.shape) - 1)), np.float32)
        biased = find(parts)[name].bias is not None
        kinds: list[Change] = [
            lora,
            Dora(lora, length),
            Full(lora.delta(), 0.1 * stream.standard_normal(out, dtype=np.float32) if biased else None),
            Ia3(0.2 * stream.standard_normal(inputs, dtype=np.float32), True),
        ]
        changes[name] = kinds[place % 4]
    norm = "denoiser.down_blocks.0.attentions.0.norm"
    width = every_shape(parts)[norm][0]
    changes[norm] = Norm(np.full(width, 0.2, np.float32), np.full(width, -0.1, np.float32))
    return changes


def test_beside_says_what_merging_says(
    parts: Parts, drawn: Drawn, run: Run, distance: Distance, pristine: dict[str, Tensor]
) -> None:
    before = run(parts)
    bits = {name: weight(module).clone() for name, module in find(parts).items()}
    uses = [Applied(mixed(parts, drawn), 0.7, 0.5), Applied(drawn(parts, ("attention",), seed=2), -0.4, 1)]
    merge(parts, pristine, uses)
    expected = run(parts)
    merge(parts, pristine, [])
    assert torch.equal(run(parts), before)

    merge(parts, pristine, small(parts, uses))
    with beside(parts, uses, pristine):
        assert distance(run(parts), expected) <= TOLERANCE
    assert not torch.equal(run(parts), before)
    merge(parts, pristine, [])
    assert torch.equal(run(parts), before)
    assert all(torch.equal(weight(module), bits[name]) for name, module in find(parts).items())
    assert distance(expected, before) >= 100 * TOLERANCE


def test_each_sample_has_its_own_strength(parts: Parts, drawn: Drawn, run: Run, distance: Distance) -> None:
    uses = [
        Applied(drawn(parts, ("all",), seed=1), 0.8, 0, name="ink"),
        Applied(drawn(parts, ("attention",), seed=2), 0.5, 0, name="wash"),
    ]
    with beside(parts, uses) as placed:
        whole = run(parts)
        with placed.strengths({"ink": torch.tensor([1.0, 0.25]), "wash": torch.tensor([0.0, 1.0])}):
            mixed_B = run(parts)
        assert torch.equal(run(parts), whole)
    for row, (ink, wash) in enumerate(((1.0, 0.0), (0.25, 1.0))):
        alone = [Applied(uses[0].layers, 0.8 * ink, 0), Applied(uses[1].layers, 0.5 * wash, 0)]
        with beside(parts, alone):
            expected = run(parts)[row]
        assert distance(mixed_B[row], expected) <= TOLERANCE
        assert distance(mixed_B[row], whole[row]) >= 100 * TOLERANCE


def test_a_layer_that_takes_samples_together_is_named(parts: Parts, drawn: Drawn, run: Run) -> None:
    uses = [Applied(drawn(parts, ("attention",)), 1, 1, name="ink")]
    with beside(parts, uses) as placed:
        with placed.strengths({"ink": torch.ones(3)}), pytest.raises(AdapterError, match=r"at denoiser\..*attn1"):
            run(parts)
        with pytest.raises(AdapterError, match="called nobody"), placed.strengths({"nobody": torch.ones(2)}):
            pass


def test_a_layer_in_training_is_not_adapted_twice(parts: Parts, drawn: Drawn) -> None:
    weights = drawn(parts, ("attention",))
    name = next(iter(weights))
    with (
        inject(parts, [LayerSpec(name, 2, 1.0)], seed=0),
        pytest.raises(AdapterError, match="adapted already"),
    ):
        beside(parts, [Applied(weights, 1, 1)])


def test_adapters_come_and_go_between_steps(parts: Parts, drawn: Drawn, run: Run, pristine: dict[str, Tensor]) -> None:
    early = Applied(drawn(parts, seed=1), 1, 0.5, stop=3)
    late = Applied(drawn(parts, ("attention",), seed=2), 0.6, 0.6, start=3)
    written: list[list[str]] = []
    switch = Switch([early, late], lambda told: written.append(merge(parts, pristine, told)))
    found = []
    for step in range(1, 6):
        switch.at(step)
        found.append(run(parts))

    assert len(written) == 3, "before the first step, and where something changes"
    assert torch.equal(found[0], found[1]) and torch.equal(found[3], found[4])
    for step, one in ((1, found[0]), (3, found[2]), (4, found[3])):
        merge(parts, pristine, active([early, late], step))
        assert torch.equal(run(parts), one)
    assert not torch.equal(found[1], found[2]) and not torch.equal(found[2], found[3])
    assert not any(name.startswith("text_encoder.") for name in written[2]), "texts were read before the first step"


def test_a_thousand_switches_leave_every_bit() -> None:
    network = nn.Sequential(nn.Linear(12, 9), nn.Conv2d(3, 4, 3))
    held = {f"denoiser.{name}": tensor.clone() for name, tensor in network.state_dict().items()}
    drawn = np.random.default_rng(0)
    down, up, core = (drawn.standard_normal(shape, dtype=np.float32) for shape in ((2, 12), (9, 2), (4, 3, 3, 3)))
    lora = Lora(down, up, 1.0)
    changes: dict[str, Change] = {"denoiser.0": Dora(lora, np.ones((9, 1), np.float32)), "denoiser.1": Full(core)}
    for turn in range(1000):
        merge({"denoiser": network}, held, [Applied(changes, 0.1 + 0.7 * (turn % 3), 1.0)])
    assert not torch.equal(network[0].weight, held["denoiser.0.weight"])
    merge({"denoiser": network}, held, [])
    assert all(torch.equal(tensor, held[f"denoiser.{name}"]) for name, tensor in network.state_dict().items())
