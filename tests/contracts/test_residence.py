"""Parts in turn, and everything that saves memory together: the plain path's latents and gradients, and no leak."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import tiny
from tests.contracts.test_families import adapter, conditioned, told
from tests.contracts.test_policies import learnt
from tests.contracts.test_quantised import KINDS, PREDICTION, share
from tests.contracts.test_swapped import living
from velatura import settings as user
from velatura.adapters.merge import Applied
from velatura.bases import FAMILIES
from velatura.family import MemoryPolicy, Model, load_base
from velatura.generation.generate import Painted, generate
from velatura.generation.sampling import Job, Sampling
from velatura.text.weighted import plain
from velatura.training.samples import merged
from velatura.weights import quantise, residence
from velatura.weights.quantise import Kind
from velatura.weights.remade import stored
from velatura.weights.residence import Resident
from velatura.weights.swap import blocks_of

TOLD = {"int8": 0.05, "int4": 0.5, "fp8": 0.2}
LEARNT = {"int8": 0.2, "int4": 0.9, "fp8": 0.5}
"""Errors of predictions and gradients, as shares of their size, where texts have been through quantised encoders too,
and adapters stand beside every layer. Random networks make more of an error than trained ones; that the arithmetic is
that of the weights multiplied out, to 1e-6, is held by `test_quantised`."""


@pytest.fixture(scope="module", params=list(FAMILIES))
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    written: Path = tiny.BASES[request.param](tmp_path_factory.mktemp(request.param))
    return written


@pytest.fixture(scope="module")
def plainly(base: Path) -> Model:
    return load_base(base)


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """All layers are large enough to be quantised, text encoders too."""
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(residence, "LARGE", 0)
    monkeypatch.setattr(quantise, "SMALLEST", 0)
    monkeypatch.setattr(residence, "planned", lambda network, kind: quantise.planned(network, kind, smallest=0))


def other(base: Path, **policy: Any) -> Model:
    return load_base(base, policy=MemoryPolicy(**policy))


def painted(model: Model, *texts: str) -> list[Tensor]:
    """The pictures, as they are before they are rounded to 8 bits."""
    kept: list[Tensor] = []
    decode = type(model.family).decode_latents

    def noted(family: Any, model: Model, latents: Tensor) -> Tensor:
        kept.append(latents.clone())
        return decode(family, model, latents)

    how = Sampling(model.resolution, model.resolution, 2, model.defaults.cfg_scale, "Euler", "Uniform")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.family), "decode_latents", noted)
        jobs = [Job(text, seed) for seed, text in enumerate(texts)]
        found = [event for event in generate(model, jobs, how, batch=1) if isinstance(event, Painted)]
    assert len(found) == len(kept)
    return kept


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    return len(found) == len(expected) and all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def bytes_of(model: Model, kind: str) -> int:
    """Bytes of the weights of a kind of part that are in memory, without norms and biases."""
    parts = [part for name, part in model.parts.items() if name.startswith(kind)]
    return sum(one.untyped_storage().nbytes() for part in parts for one in part.parameters() if one.dim() > 1)


def test_parts_in_turn_paint_the_same_bit_for_bit_and_are_never_together(base: Path, plainly: Model) -> None:
    turned = other(base, in_turn=True)
    assert turned.turns is not None
    assert turned.turns.present == []
    together: list[list[str]] = []
    for name in ("denoiser", *(part for part in turned.parts if part.startswith("text_encoder"))):
        turned.parts[name].register_forward_pre_hook(lambda *_: together.append(turned.turns.present))  # type: ignore[union-attr]
    assert same(
        painted(turned, "a red boat", "a cat", "a red boat"), painted(plainly, "a red boat", "a cat", "a red boat")
    )
    assert together
    assert all(not {"denoiser", "text_encoder"} <= set(present) for present in together)
    order = ["denoiser" in present for present in together]
    assert order == sorted(order)  # all prompts are encoded before the denoiser comes
    assert sorted(turned.turns.present) == ["denoiser", "vae"]
    assert bytes_of(turned, "text_encoder") < 0.01 * bytes_of(plainly, "text_encoder")
    assert bytes_of(turned, "denoiser") == bytes_of(plainly, "denoiser")
    calls = len(together)
    assert same(painted(turned, "a cat"), painted(plainly, "a cat"))
    assert all("text_encoder" not in present for present in together[calls:])  # what was read is remembered


def test_an_autoencoder_leaves_when_told_to_and_comes_when_called(base: Path, plainly: Model) -> None:
    turned = other(base, in_turn=True)
    assert turned.turns is not None
    image = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64)
    with torch.no_grad():
        expected = plainly.family.encode_images(plainly, image)
        for _ in range(2):
            assert torch.equal(turned.family.encode_images(turned, image), expected)
            decoded = turned.family.decode_latents(turned, expected)
            assert torch.equal(decoded, plainly.family.decode_latents(plainly, expected))
            turned.turns.leave("vae")
            assert turned.turns.present == [] and bytes_of(turned, "vae") == 4 * len(
                [one for one in turned.parts["vae"].parameters() if one.dim() > 1]
            )


def test_an_autoencoder_that_broke_down_in_half_precision_comes_back_in_fp32(base: Path, plainly: Model) -> None:
    turned = other(base, in_turn=True, vae_dtype=torch.float16)
    image = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64)
    with torch.no_grad():
        turned.family.encode_images(turned, image)
        assert turned.vae_broke_down(torch.tensor(torch.nan)) and turned.turns is not None
        turned.turns.leave("vae")
        found = turned.family.encode_images(turned, image)
        assert turned.parts["vae"].dtype == torch.float32
        assert torch.allclose(found, plainly.family.encode_images(plainly, image), atol=0.02)


def test_a_part_that_has_left_is_no_number(base: Path) -> None:
    turned = other(base, in_turn=True)
    turned.read(plain("a cat"))
    for one in turned.parts["denoiser"].parameters():
        assert bool(one.isnan().all()) == (one.dim() > 1)
    assert not any(bool(one.isnan().any()) for one in turned.parts["text_encoder"].parameters())
    assert bytes_of(turned, "denoiser") < 4096 * len(list(turned.parts["denoiser"].parameters()))


def test_parts_in_turn_give_the_same_gradients_bit_for_bit(base: Path, plainly: Model) -> None:
    def trained(model: Model) -> list[Tensor]:
        predicted, gradients = learnt(model)
        return [predicted, *gradients.values()]

    turned = other(base, in_turn=True)
    assert same(trained(turned), trained(plainly))
    assert same(trained(turned), trained(plainly))
    turned.stay()
    assert not turned.policy.in_turn
    assert all(not bool(one.isnan().any()) for part in turned.parts.values() for one in part.parameters())
    assert same(trained(turned), trained(plainly))


def test_adapters_of_text_and_denoiser_stand_beside_parts_that_take_turns(base: Path, plainly: Model) -> None:
    layers = adapter(plainly, ["all", "text"] if "text" in plainly.family.targets else ["all"])
    uses = [Applied(layers, 0.8, 0.5)]
    half, turned = other(base, dtype=torch.bfloat16), other(base, in_turn=True, dtype=torch.bfloat16)
    bare = painted(turned, "a red boat")
    with merged(half, uses):
        expected = painted(half, "a red boat", "a cat")
    with merged(turned, uses):
        found = painted(turned, "a red boat", "a cat")
    assert same(found, expected)
    assert not torch.equal(found[0], bare[0])
    assert same(painted(turned, "a red boat"), bare)  # what was encoded with the adapter is not remembered


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("everything_is_large")
def test_a_quantised_base_is_near_the_plain_one_and_an_adapter_beside_it_learns(
    base: Path, plainly: Model, kind: Kind, in_turn: bool
) -> None:
    model = other(base, quantised=kind, in_turn=in_turn)
    text = told(model, "a red boat", "a cat").text
    expected_text = told(plainly, "a red boat", "a cat").text
    assert 0 < share([text.tokens_BLD], [expected_text.tokens_BLD]) < PREDICTION["int8" if kind == "int4" else kind]
    (predicted, gradients), (expected, exact) = learnt(model), learnt(plainly)
    assert any(stored(layer) is not None for layer in model.parts["denoiser"].modules())
    assert 0 < share([predicted], [expected]) < TOLD[kind]
    assert 0 < share(list(gradients.values()), list(exact.values())) < LEARNT[kind]


@pytest.mark.parametrize("quantised", [None, "int4", "fp8"])
@pytest.mark.usefixtures("everything_is_large")
def test_every_split_into_swapped_blocks_computes_what_none_computes(base: Path, quantised: Kind | None) -> None:
    model = other(base, quantised=quantised)
    whole, (expected, exact) = bytes_of(model, "denoiser"), learnt(model)
    pictures = painted(model, "a cat")
    network: Any = model.parts["denoiser"]
    weights = model.pristine._weights["denoiser"]  # type: ignore[attr-defined]

    def held(policy: MemoryPolicy) -> Resident:
        made = Resident("denoiser", network, weights, policy, where=base)
        made.arrive()
        return made

    standing = Resident("denoiser", network, weights, model.policy, where=base)
    for count in range(1, len(blocks_of(network)) + 1):
        standing.leave()
        standing = held(replace(model.policy, swapped_blocks=count))
        if count % 2:
            network.enable_gradient_checkpointing()
        found, gradients = learnt(model)
        network.disable_gradient_checkpointing()
        assert torch.equal(found, expected), count
        assert same(list(gradients.values()), list(exact.values())), count
    assert bytes_of(model, "denoiser") < 0.9 * whole or quantised
    assert same(painted(model, "a cat"), pictures)


def test_blocks_wait_in_a_file_of_the_cache_folder(base: Path) -> None:
    model = other(base, swapped_blocks=2)
    assert len([layer for layer in model.parts["denoiser"].modules() if stored(layer) is not None]) > 4
    assert user.load().cache.is_dir()
    assert learnt(model)[0].isfinite().all()


def test_a_base_is_gone_as_soon_as_it_is_forgotten(base: Path) -> None:
    other(base, in_turn=True)
    gc.collect()
    gc.disable()
    try:
        model = other(base, in_turn=True, swapped_blocks=1)
        told(model, "a cat")
        watched = [weakref.ref(one) for one in model.parts["text_encoder"].parameters()]
        del model
        assert all(one() is None for one in watched)
    finally:
        gc.enable()


POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"in_turn": True},
    {"quantised": "int8"},
    {"in_turn": True, "quantised": "int4", "swapped_blocks": 2},
    {"dtype": torch.bfloat16, "checkpointing": True, "swapped_blocks": 1},
)


@pytest.mark.usefixtures("everything_is_large")
def test_a_hundred_loads_and_switches_end_at_the_memory_of_the_first(tmp_path: Path) -> None:
    base = tiny.sd15(tmp_path)
    noisy, sigma_B = torch.ones(1, 4, 8, 8), torch.ones(1, dtype=torch.float64)

    @torch.no_grad()
    def switched(times: int) -> tuple[int, int]:
        for number in range(0, times, 10):
            model = other(base, **POLICIES[number // 10 % len(POLICIES)])
            for turn in range(10):
                text = conditioned(model, model.read(plain(f"a cat, {turn}")))
                assert bool(model.family.predict(model, noisy, sigma_B, text).isfinite().all())
            del model
        return living()

    first = switched(10 * len(POLICIES))
    assert switched(100) == first


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux tells it")
def test_loads_and_switches_leave_the_process_as_large_as_it_was(tmp_path: Path) -> None:
    """Tensors are counted above; this also sees what is none, such as a tokenizer that a cache keeps."""
    loads = int(os.environ.get("VELATURA_LOADS", "4"))
    command = [sys.executable, "-m", "tests.leaking", str(tmp_path), str(loads)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    first, _, last = json.loads(said.stdout.splitlines()[-1])
    assert last - first < 2 * loads * 100_000, f"{(last - first) / 2 / loads:.0f} bytes a load stay behind"
