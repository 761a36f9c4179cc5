"""Whatever saves memory computes the same: exactly where the arithmetic is the same, else within a stated error."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import tiny
from tests.contracts.test_families import adapter, conditioned, distance
from velatura import randomness
from velatura.adapters.lora import LayerSpec, inject
from velatura.adapters.merge import Applied
from velatura.bases import FAMILIES
from velatura.errors import ModelError
from velatura.family import Conditioning, MemoryPolicy, Model, load_base
from velatura.generation.generate import Painted, generate
from velatura.generation.pictures import decode
from velatura.generation.sampling import Job, Sampling
from velatura.text.weighted import plain
from velatura.training.samples import merged
from velatura.weights import quantise, residence
from velatura.weights.convolutions import FastConvolutions
from velatura.weights.policy import apply
from velatura.weights.quantise import planned

PLAIN = MemoryPolicy()
HALF = MemoryPolicy(dtype=torch.bfloat16)

IN_BF16 = 0.06
"""Root mean square of the error of predictions in bf16, as a share of theirs: 8 bits, a dozen layers."""

IN_BF16_LEARNT = 0.1
"""The same of gradients, which go through these layers twice; the tiny networks' were off by 0.03 to 0.07."""

IN_TILES = 0.15
"""The same of pictures in tiles, where nothing in the autoencoder sums over the whole picture."""


@pytest.fixture(scope="module", params=list(FAMILIES))
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    written: Path = tiny.BASES[request.param](tmp_path_factory.mktemp(request.param))
    return written


@pytest.fixture(scope="module")
def loaded(base: Path) -> Model:
    return load_base(base)


def other(base: Path, **policy: Any) -> Model:
    return load_base(base, policy=MemoryPolicy(**policy))


def latents(model: Model, *, seed: int = 1) -> Tensor:
    side = model.resolution // model.latent_factor
    return randomness.normal((2, model.latent_channels, side, side + 4), seed, "latents")


def learnt(model: Model) -> tuple[Tensor, dict[str, Tensor]]:
    """A prediction with an adapter beside the layers, and the gradients of a loss with respect to the adapter."""
    layers = adapter(model, ["all"])
    with torch.no_grad():
        text = model.family.encode_prompts(model, [plain("a red boat on the sea"), plain("a black cat at night")])
    specs = [LayerSpec(name, one.rank, one.alpha) for name, one in layers.items()]
    with inject(model.trainable_parts, specs, seed=0) as injected:
        injected.load(layers)
        sigma_B = torch.tensor([0.4, 0.8], dtype=torch.float64)
        predicted = model.family.predict(model, latents(model), sigma_B, conditioned(model, text))
        (predicted - latents(model, seed=2)).square().mean().backward()  # type: ignore[no-untyped-call]
        gradients = {name: one.grad for name, one in injected.named().items() if one.grad is not None}
    assert len(gradients) == len(injected.named())
    return predicted.detach(), gradients


def error(a: Tensor, b: Tensor) -> float:
    """Root mean square of the difference, as a share of that of `b`."""
    return float((a - b).square().mean().sqrt() / b.square().mean().sqrt())


def all_of(gradients: dict[str, Tensor]) -> Tensor:
    return torch.cat([one.flatten() for one in gradients.values()])


@pytest.mark.parametrize(
    "told",
    [
        {"in_turn": True},
        {"in_turn": True, "quantised": "half"},
        {"in_turn": True, "quantised": "large"},
        {"swapped_blocks": 1},
        {"in_turn": True, "swapped_blocks": 1, "quantised": "half"},
    ],
)
def test_a_denoiser_that_is_filled_at_its_first_call_computes_the_same_then_and_later(
    loaded: Model, base: Path, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residence, "planned", functools.partial(planned, smallest=0))
    monkeypatch.setattr(quantise, "WIDE", 1)
    model = other(base, **told)

    def told_to(model: Model) -> Conditioning:
        text = model.family.encode_prompts(model, [plain("a red boat"), plain("a black cat")])
        return conditioned(model, text)

    def predicted(model: Model, conditioning: Conditioning) -> Tensor:
        sigma_B = torch.tensor([0.4, 0.8], dtype=torch.float64)
        return model.family.predict(model, latents(model), sigma_B, conditioning)

    with torch.no_grad():
        expected, conditioning = predicted(loaded, told_to(loaded)), told_to(model)
        with FastConvolutions(model.parts["denoiser"]):
            first = predicted(model, conditioning)
        for found in (first, predicted(model, conditioning)):
            assert error(found, expected) < (1e-3 if "quantised" in told else 1e-5), "rounded to 16 bits at most"


class Calls:
    """How often a module runs."""

    def __init__(self, module: nn.Module) -> None:
        self.count = 0
        module.register_forward_pre_hook(self._counted)

    def _counted(self, module: nn.Module, given: Any) -> None:
        self.count += 1


def inner(model: Model) -> nn.Module:
    """A layer inside a block of the denoiser, for which gradients are needed."""
    return next(layer for name, layer in model.parts["denoiser"].named_modules() if name.endswith("to_q"))


def test_checkpointing_computes_twice_and_gives_the_same_gradients_bit_for_bit(loaded: Model, base: Path) -> None:
    saving = other(base, checkpointing=True)
    (predicted, gradients), (again, others) = learnt(loaded), learnt(saving)
    assert torch.equal(predicted, again)
    assert all(torch.equal(gradients[name], others[name]) for name in gradients)
    assert all(bool(one.abs().max() > 0) for one in gradients.values())

    once, twice = Calls(inner(loaded)), Calls(inner(saving))
    for model in (loaded, saving):
        told = conditioned(model, model.family.encode_prompts(model, [plain("a cat"), plain("a cat")]))
        noisy = latents(model).requires_grad_()
        sigma_B = torch.tensor([0.4, 0.8], dtype=torch.float64)
        model.family.predict(model, noisy, sigma_B, told).sum().backward()  # type: ignore[no-untyped-call]
    assert twice.count == 2 * once.count


def test_a_batch_in_slices_gives_the_same_latents_and_pictures(loaded: Model, base: Path) -> None:
    sliced = other(base, vae_slicing=True)
    vae: Any = sliced.parts["vae"]
    encoder, decoder = Calls(vae.encoder), Calls(vae.decoder)
    images = randomness.normal((3, 3, loaded.resolution, loaded.resolution + 32), 0, "images").clamp(-1, 1)
    with torch.no_grad():
        plainly = loaded.family.encode_images(loaded, images)
        assert distance(sliced.family.encode_images(sliced, images), plainly) < 1e-5
        back = sliced.family.decode_latents(sliced, plainly)
        assert distance(back, loaded.family.decode_latents(loaded, plainly)) < 1e-5
    assert encoder.count == decoder.count == 3


def local(model: Model) -> Any:
    """The autoencoder without norms and attention: these sum over the picture, so tiles of noise have little in common.

    Tiles are of 32 latents, more than a latent's influence reaches.
    """
    vae: Any = model.parts["vae"]
    for module in list(vae.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
    for half in (vae.encoder, vae.decoder):
        half.mid_block.attentions = nn.ModuleList([None])
    vae.tile_latent_min_size, vae.tile_sample_min_size = 32, 32 * model.latent_factor
    return vae


def test_tiles_change_nothing_of_pictures_of_the_base_s_size_and_little_of_larger_ones(base: Path) -> None:
    loaded, tiled = other(base), other(base, vae_tiling=True)
    local(loaded)
    vae = local(tiled)
    decoder = Calls(vae.decoder)
    side = int(vae.tile_sample_min_size)
    images = tiny_picture(2 * side)
    with torch.no_grad():
        small = loaded.family.encode_images(loaded, images[..., :side, :side])
        assert torch.equal(tiled.family.encode_images(tiled, images[..., :side, :side]), small)
        expected = loaded.family.decode_latents(loaded, small)
        assert torch.equal(tiled.family.decode_latents(tiled, small), expected)
        assert decoder.count == 1
        large = loaded.family.encode_images(loaded, images)
        found, expected = tiled.family.decode_latents(tiled, large), loaded.family.decode_latents(loaded, large)
    assert decoder.count > 2
    assert found.shape == expected.shape
    assert 0 < error(found, expected) < IN_TILES
    assert distance(found[..., : side // 4, : side // 4], expected[..., : side // 4, : side // 4]) < 1e-5


def tiny_picture(side: int) -> Tensor:
    """One that is smooth, (1, 3, side, side)."""
    coarse = randomness.normal((1, 3, 6, 6), 0, "picture")
    return nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(-1, 1)


def test_in_bf16_predictions_and_gradients_stay_within_their_error_and_the_adapter_stays_fp32(
    loaded: Model, base: Path
) -> None:
    half = other(base, dtype=torch.bfloat16)
    assert {one.dtype for one in half.parts["denoiser"].parameters()} == {torch.bfloat16}
    (expected, exact), (found, gradients) = learnt(loaded), learnt(half)
    assert {one.dtype for one in gradients.values()} == {torch.float32}
    assert 1e-4 < error(found, expected) < IN_BF16
    assert error(all_of(gradients), all_of(exact)) < IN_BF16_LEARNT


def test_in_bf16_adapters_stand_beside_the_layers_and_two_of_them_add_up(loaded: Model, base: Path) -> None:
    half = other(base, dtype=torch.bfloat16)
    layers = adapter(half, ["attention"])
    weights = {name: tensor.clone() for name, tensor in half.parts["denoiser"].state_dict().items()}
    with torch.no_grad():
        text = half.family.encode_prompts(half, [plain("a red boat"), plain("a cat")])
        told, sigma_B = conditioned(half, text), torch.tensor([0.4, 0.8], dtype=torch.float64)

        def predicted(model: Model, uses: list[Applied]) -> Tensor:
            with merged(model, uses):
                return model.family.predict(model, latents(model), sigma_B, told)

        bare = predicted(half, [])
        one = predicted(half, [Applied(layers, 0.8, 0.8)])
        two = predicted(half, [Applied(layers, 0.5, 0.5), Applied(layers, 0.3, 0.3)])
        assert torch.equal(predicted(half, [Applied(layers, 0.0, 0.0)]), bare)
        exactly = predicted(loaded, [Applied(layers, 0.8, 0.8)])
    assert error(one, two) < IN_BF16
    assert error(one, exactly) < IN_BF16
    assert error(one, bare) > IN_BF16
    after = half.parts["denoiser"].state_dict()
    assert set(after) == set(weights)
    assert all(torch.equal(after[name], tensor) for name, tensor in weights.items())


def test_an_adapter_in_training_makes_room_for_the_preview_and_comes_back(base: Path) -> None:
    half = other(base, dtype=torch.bfloat16)
    layers = adapter(half, ["attention"])
    specs = [LayerSpec(name, one.rank, one.alpha) for name, one in layers.items()]
    with inject(half.trainable_parts, specs, seed=4) as injected:
        before = injected.weights()
        with merged(half, [Applied(layers, 1.0, 1.0)], injected):
            assert not any(
                one is layer for one in half.parts["denoiser"].modules() for layer in injected.layers.values()
            )
        standing = {id(one) for one in half.parts["denoiser"].modules()}
        assert all(id(layer) in standing for layer in injected.layers.values())
        after = injected.weights()
    assert all(np.array_equal(before[name].down, after[name].down) for name in before)


def overflowing(base: Path, half: str) -> Model:
    """An autoencoder in fp16 with activations that only fp32 holds; its normalisation takes them back."""
    model = other(base, vae_dtype=torch.float16)
    with torch.no_grad():
        getattr(model.parts["vae"], half).conv_in.weight.mul_(5e4)
    return model


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_an_autoencoder_that_gives_no_numbers_in_fp16_goes_on_in_fp32_and_says_so(base: Path, half: str) -> None:
    model, notes = overflowing(base, half), len(load_base(base).notes)
    with torch.inference_mode():
        if half == "encoder":
            found = model.family.encode_images(model, tiny_picture(model.resolution).expand(2, -1, -1, -1))
        else:
            found = model.family.decode_latents(model, latents(model))
    assert bool(found.isfinite().all())
    assert model.policy.vae_dtype == torch.float32
    assert "fp16 and goes on in fp32" in model.notes[notes]
    with torch.no_grad():
        assert bool(model.family.decode_latents(model, latents(model)).isfinite().all())
    assert len(model.notes) == notes + 1


def test_what_is_no_number_is_a_sentence_and_never_a_picture(base: Path) -> None:
    model = other(base, dtype=torch.bfloat16)
    sampling = Sampling(model.resolution, model.resolution, 1, 1.0, "Euler", "Uniform")
    assert any(isinstance(event, Painted) for event in generate(model, [Job("a cat", 1)], sampling))
    with torch.no_grad():
        next(model.parts["denoiser"].parameters()).fill_(float("inf"))
    with pytest.raises(ModelError, match=r"latents.*memory\.precision is bf16.*; set it to fp32"):
        list(generate(model, [Job("a cat", 1)], sampling))
    with pytest.raises(ModelError, match=r"picture.*memory\.vae_precision is fp32"):
        decode(model, torch.full_like(latents(model), float("nan")))


def test_what_is_not_asked_for_is_not_switched_on(loaded: Model) -> None:
    vae: Any = loaded.parts["vae"]
    assert loaded.policy == PLAIN
    assert not vae.use_tiling
    assert not vae.use_slicing
    apply(loaded.parts, replace(HALF, vae_dtype=torch.bfloat16))
    assert not vae.use_tiling
