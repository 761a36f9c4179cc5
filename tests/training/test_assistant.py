"""The assistant of a distilled base: the same beside the layers as merged into them, and gone when it is sent away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.contracts.test_families import adapter, distance
from tests.contracts.test_policies import latents, learnt
from velatura.adapters.kinds import Dora, Full, Loha, Norm
from velatura.adapters.layers import changeable, find
from velatura.adapters.weights import Change
from velatura.family import MemoryPolicy, Model, load_base
from velatura.text.weighted import plain
from velatura.training import assistant

TOLERANCE = 1e-4


def predicted(model: Model) -> Tensor:
    with torch.no_grad():
        sigma_B = torch.tensor([0.4, 0.8], dtype=torch.float64)
        text = model.family.encode_prompts(model, [plain("a cat"), plain("a boat")])
        return model.family.predict(model, latents(model), sigma_B, model.conditioned(text))


def test_an_assistant_beside_the_layers_computes_what_it_does_when_merged(base: Path) -> None:
    merging, beside = load_base(base), load_base(base, policy=MemoryPolicy(in_turn=True))
    bare = predicted(merging)
    layers = adapter(merging, ["all"])
    assert any(".conv" in name for name in layers)
    for model in (merging, beside):
        model.assistant = layers
        assistant.bring(model)
    assert merging.assisting == []
    assert beside.assisting
    assert distance(predicted(beside), predicted(merging)) < TOLERANCE
    assert distance(predicted(merging), bare) > 100 * TOLERANCE

    (found, gradients), (expected, exact) = learnt(beside), learnt(merging)  # with an adapter in training on each layer
    assert distance(found, expected) < TOLERANCE
    assert all(distance(gradients[name], exact[name]) < TOLERANCE for name in exact)

    for model in (merging, beside):
        assistant.send_away(model)
        assistant.send_away(model)
        assert torch.equal(predicted(model), bare)


def of_other_kinds(model: Model) -> dict[str, Change]:
    """A LoHa, a DoRA and a whole difference with its bias by turns, and a norm."""
    made: dict[str, Change] = {}
    known = find(model.trainable_parts)
    for place, (name, lora) in enumerate(adapter(model, ["all"]).items()):
        pair = (lora.up.reshape(len(lora.up), -1), lora.down.reshape(len(lora.down), -1))
        whole = np.asarray(lora.delta(), np.float32)
        biased = known[name].bias is not None
        bias = np.full(len(whole), 0.1, np.float32) if biased else None
        kinds: tuple[Change, ...] = (
            Loha(pair, pair, alpha=2.0, kernel=tuple(whole.shape[2:])),
            Dora(lora, np.full(len(whole), 0.5, np.float32)),
            Full(whole, bias),
        )
        made[name] = kinds[place % 3]
    norms = changeable(model.trainable_parts).keys() - known.keys()
    if norms:
        name = min(norms)
        made[name] = Norm(np.full(changeable(model.trainable_parts)[name].weight.shape, 0.3, np.float32))
    return made


def test_an_assistant_of_any_kind_computes_beside_the_layers_what_it_does_when_merged(base: Path) -> None:
    merging, beside = load_base(base), load_base(base, policy=MemoryPolicy(swapped_blocks=2))
    bare, own = predicted(merging), predicted(beside)
    layers = of_other_kinds(merging)
    assert len({one.kind for one in layers.values()}) >= 3
    for model in (merging, beside):
        model.assistant = layers
        assistant.bring(model)
    assert beside.assisting and not merging.assisting
    assert distance(predicted(beside), predicted(merging)) < TOLERANCE
    assert distance(predicted(merging), bare) > 100 * TOLERANCE

    for model in (merging, beside):
        assistant.send_away(model)
    assert torch.equal(predicted(merging), bare) and torch.equal(predicted(beside), own)


def test_bringing_it_twice_brings_one(base: Path) -> None:
    model = load_base(base, policy=MemoryPolicy(dtype=torch.bfloat16))
    model.assistant = adapter(model, ["attention"])
    assistant.bring(model)
    once = predicted(model)
    assistant.bring(model)
    assert torch.equal(predicted(model), once)
    assert len(model.assisting) == len(model.assistant)


def test_without_an_assistant_nothing_happens(model: Model) -> None:
    before = predicted(model)
    assistant.bring(model)
    assert model.assisting == []
    assert torch.equal(predicted(model), before)
