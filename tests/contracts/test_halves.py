"""A frozen base whose weights rest in 16 bits: every family predicts and learns what it does in fp32, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests import tiny
from tests.contracts.test_swapped import computed, injected
from tests.contracts.test_swapped import loaded as loaded
from tests.sources import as_parts_in_half_precision
from velatura.family import MemoryPolicy, Model, load_base
from velatura.weights import residence
from velatura.weights.quantise import nbytes, packed, planned, quantise
from velatura.weights.remade import plain, stored, weight_of


def layers(network: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    found = network.named_modules()
    return {name: layer for name, layer in found if isinstance(layer, nn.Linear | nn.Conv2d)}


def test_weights_that_are_16_bits_predict_and_learn_the_same_bit_for_bit_in_half_the_memory(loaded: Model) -> None:
    network = loaded.parts["denoiser"]
    before = {name: layer.weight.detach() for name, layer in layers(network).items()}
    try:
        for layer in layers(network).values():
            layer.weight = nn.Parameter(layer.weight.half().float(), requires_grad=False)
        with injected(loaded) as beside:
            expected = computed(loaded, beside)
        full = nbytes(network)
        done = quantise(network, "half", smallest=0)
        assert any(isinstance(network.get_submodule(name), nn.Linear) for name in done.layers)
        assert done.after < 0.6 * full
        with injected(loaded) as beside:
            found = computed(loaded, beside)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    finally:
        for name, layer in layers(network).items():
            plain(layer, before[name])


def test_convolutions_rest_in_16_bits_too(model: Model) -> None:
    network = model.parts["denoiser"]
    done = quantise(network, "half", smallest=0)
    assert sum(isinstance(network.get_submodule(name), nn.Conv2d) for name in done.layers) > 10


def test_of_large_the_wide_convolutions_rest_in_16_bits_and_compute_the_same(
    loaded: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("velatura.weights.quantise.WIDE", 1)
    network = loaded.parts["denoiser"]
    wide = {name: one for name, one in layers(network).items() if isinstance(one, nn.Conv2d)}
    exact = list(wide)[1:]
    before = {name: layer.weight.detach() for name, layer in wide.items()}
    try:
        for name in exact:
            wide[name].weight = nn.Parameter(wide[name].weight.half().float(), requires_grad=False)
        with injected(loaded) as beside:
            expected = computed(loaded, beside)
        quantise(network, "large")
        assert [name for name in wide if stored(wide[name]) is not None] == exact, "one is no number of 16 bits"
        with injected(loaded) as beside:
            found = computed(loaded, beside)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    finally:
        for name, layer in wide.items():
            plain(layer, before[name])


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([1.5, -(2.0**-20)], torch.float16),  # both hold them: fp16 first
        ([1.0 + 2.0**-9], torch.float16),
        ([2.0**100], torch.bfloat16),
        ([1.0 + 2.0**-20], torch.float16),  # neither does: the finer one
        ([1e30 + 1.0, 1.0 + 2.0**-20], torch.bfloat16),  # neither does, and fp16 is too narrow
    ],
)
def test_of_fp16_and_bf16_the_one_is_taken_that_holds_every_number(numbers: list[float], kind: torch.dtype) -> None:
    weight = torch.tensor([numbers])
    kept = packed(weight, "half")
    assert kept.tensors[0].dtype == kind
    assert torch.equal(kept.weight(), weight.to(kind).float())
    assert torch.equal(kept.lent(), kept.weight())


def test_a_weight_that_is_lent_is_there_until_the_next_one() -> None:
    first, second = packed(torch.ones(4, 4), "half"), packed(torch.zeros(4, 4), "half")
    lent, own = first.lent(), first.weight()
    second.lent()
    assert float(lent.sum()) == 0 and float(own.sum()) == 16


def test_what_adapters_begin_from_is_no_lent_weight(model: Model) -> None:
    layer = next(one for one in model.parts["denoiser"].modules() if isinstance(one, nn.Linear))
    quantise(model.parts["denoiser"], "half", smallest=0)
    kept = stored(layer)
    assert kept is not None
    asked, lent = weight_of(layer), kept.lent()
    assert torch.equal(asked, lent) and asked.data_ptr() != lent.data_ptr()


def test_a_file_of_16_bits_is_computed_from_where_it_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No copy of its weights is in memory, and what is predicted and learnt is that of the copies in fp32."""
    torch.set_num_threads(1)
    monkeypatch.setattr(residence, "planned", lambda network, kind: planned(network, kind, smallest=0))
    (tmp_path / "parts").mkdir()
    source = as_parts_in_half_precision("sd15", tiny.sd15(tmp_path / "base"), tmp_path / "parts")
    plainly = load_base(source)
    mapped = load_base(source, policy=MemoryPolicy(quantised="half"))
    kept = [found for one in mapped.parts["denoiser"].modules() if (found := stored(one)) is not None]
    assert len(kept) > 5
    starts = {one.data_ptr() for one in mapped.pristine.values()}
    assert all(one.tensors[0].data_ptr() in starts for one in kept), "the file's own pages"
    with injected(plainly) as beside:
        expected = computed(plainly, beside)
    with injected(mapped) as beside:
        found = computed(mapped, beside)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
