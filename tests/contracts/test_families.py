"""What every family of bases must hold, whatever it is: each is tried at a tiny size with random weights."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny
from velatura import randomness, tensorfile
from velatura.adapters import formats, targets, writing
from velatura.adapters.layers import find, shapes
from velatura.adapters.lora import LayerSpec, inject
from velatura.adapters.merge import Applied, merge
from velatura.adapters.weights import AdapterFile, Lora
from velatura.bases import FAMILIES, BaseFiles, recognise, resolution
from velatura.errors import AdapterError, ModelError, PromptError
from velatura.family import Conditioning, Geometry, Model, TextConditioning, family, load_base, stack_prompts
from velatura.generation.reading import weighted
from velatura.text.readers import unread
from velatura.text.weighted import plain

LONG = ", ".join(["a red boat on the sea"] * 20)
"""More than one chunk of tokens."""

ONE_SENTENCE = {"z_image"}
"""Families whose prompts a language model reads as one sentence: weights and BREAK are refused."""


@pytest.fixture(scope="session", params=list(FAMILIES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    written: Path = tiny.BASES[request.param](tmp_path_factory.mktemp(request.param))
    return written


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Model:
    torch.set_num_threads(1)
    return load_base(folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A base of the test's own, to be spoilt."""
    return shutil.copytree(folder, tmp_path / "base")


@pytest.fixture
def latents_BCHW(loaded: Model) -> Tensor:
    """Two, not square."""
    side = loaded.resolution // loaded.latent_factor
    return randomness.normal((2, loaded.latent_channels, side, side + 4), 1, "latents")


def told(model: Model, *prompts: str) -> Conditioning:
    with torch.no_grad():
        encoded = [model.family.encode_prompts(model, [weighted(prompt)]) for prompt in prompts]
        return conditioned(model, stack_prompts(encoded, model.family.encode_prompts(model, [plain("")])))


def conditioned(model: Model, text: TextConditioning) -> Conditioning:
    """What a prediction of the base is told; whole pictures, for bases that ask for sizes."""
    side_B2 = torch.full((len(text), 2), float(model.resolution))
    return model.conditioned(text, geometry=Geometry(side_B2, torch.zeros_like(side_B2), side_B2))


def predict(model: Model, latents_BCHW: Tensor, conditioning: Conditioning, sigma: float = 2.5) -> Tensor:
    with torch.no_grad():
        return model.family.predict(
            model, latents_BCHW, torch.full((len(latents_BCHW),), sigma, dtype=torch.float64), conditioning
        )


def adapter(model: Model, presets: list[str]) -> dict[str, Lora]:
    """Nothing zero in it, alpha unlike the rank; presets that the family lacks are passed over."""
    known = shapes(model.trainable_parts)
    made = {}
    having = [preset for preset in presets if preset in model.family.targets]
    for name in targets.select(having, known, presets=model.family.targets):
        out, *rest = known[name]
        draw = randomness.generator(3, "adapter", name)
        down = 0.3 * draw.standard_normal((3, *rest), dtype=np.float32)
        up = 0.3 * draw.standard_normal((out, 3, 1, 1) if len(rest) > 1 else (out, 3), dtype=np.float32)
        made[name] = Lora(down.astype(np.float32), up.astype(np.float32), alpha=2.0)
    return made


def distance(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a share of max(1, root mean square)."""
    return float((a - b).abs().max()) / max(1.0, float(b.square().mean().sqrt()))


def weight_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def rewrite(path: Path, change: Callable[[dict[str, tensorfile.RawTensor]], None]) -> None:
    tensors, metadata = tensorfile.read(path)
    kept = {
        name: tensorfile.RawTensor(tensor.dtype, tensor.shape, bytes(tensor.data)) for name, tensor in tensors.items()
    }
    change(kept)
    path.write_bytes(tensorfile.to_bytes(kept, metadata))


def test_every_family_has_a_tiny_base() -> None:
    assert set(tiny.BASES) == set(FAMILIES)
    assert all(family(name).name == name for name in FAMILIES)


def test_a_base_is_recognised_by_its_own_family_alone(folder: Path) -> None:
    recognisers = [importlib.import_module(f"{package}.recognise").recognise for package in FAMILIES.values()]
    assert [name for name, known in zip(FAMILIES, recognisers, strict=True) if known(folder)] == [
        recognise(BaseFiles(folder)).family
    ]


def test_the_size_that_is_told_without_torch_is_the_loaded_one(folder: Path, loaded: Model) -> None:
    assert resolution(BaseFiles(folder)) == loaded.resolution


def test_what_is_no_base_is_no_family_s(tmp_path: Path) -> None:
    (tmp_path / "lora.safetensors").write_bytes(tensorfile.to_bytes({"a": np.zeros(3, np.float32)}))
    for number, text in enumerate(("{", "[]", '"text"', '{"unet": 3}', "\xff")):
        place = tmp_path / f"broken{number}"
        place.mkdir()
        (place / "model_index.json").write_text(text, encoding="latin-1")
    for path in (tmp_path, *tmp_path.iterdir(), tmp_path / "missing"):
        with pytest.raises(ModelError, match="not a base model"):
            recognise(BaseFiles(path))
    with pytest.raises(ModelError, match="not a base model"):
        load_base(tmp_path / "lora.safetensors")


def test_the_same_weights_have_the_same_hash_and_others_another(loaded: Model, copy: Path) -> None:
    moved = copy.rename(copy.with_name("elsewhere"))
    assert load_base(moved).hash == loaded.hash
    for number, path in enumerate(weight_files(moved)):
        before = path.read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        assert load_base(moved).hash != loaded.hash, number
        path.write_bytes(before)


@pytest.mark.parametrize("change", ["missing", "another shape"])
def test_every_weight_of_a_network_must_be_there_and_fit(copy: Path, change: str) -> None:
    for path in weight_files(copy):
        before = path.read_bytes()
        name = sorted(tensorfile.read(path)[0])[-1]

        def spoil(tensors: dict[str, tensorfile.RawTensor], name: str = name) -> None:
            if change == "missing":
                del tensors[name]
            else:
                tensors[name] = tensorfile.raw(np.zeros((*tensors[name].shape, 2), np.float32))

        rewrite(path, spoil)
        with pytest.raises(
            ModelError, match=rf"do not fit its settings: .*{change if change == 'missing' else ' x 2 '}"
        ):
            load_base(copy)
        path.write_bytes(before)
    load_base(copy)


def test_a_key_too_many_is_noted_and_refused_only_where_the_user_is_strict(copy: Path, loaded: Model) -> None:
    assert loaded.notes == ()
    for path in weight_files(copy):
        before = path.read_bytes()
        rewrite(path, lambda tensors: tensors.update({"surplus.weight": tensorfile.raw(np.zeros(2, np.float32))}))
        (note,) = load_base(copy).notes
        assert "surplus.weight" in note
        with pytest.raises(ModelError, match=r"surplus\.weight"):
            load_base(copy, strict=True)
        path.write_bytes(before)
    load_base(copy, strict=True)


def test_ballast_is_passed_over_in_silence(copy: Path) -> None:
    for path in weight_files(copy):
        for name in (
            "model_ema.decay",
            "loss.logvar",
            "position_ids",
            "alphas_cumprod",
            "sqrt_one_minus_alphas_cumprod",
        ):
            rewrite(path, lambda held, name=name: held.update({name: tensorfile.raw(np.zeros(2, np.float32))}))
    assert load_base(copy, strict=True).notes == ()


def test_a_part_that_is_missing_or_cut_off_is_one_sentence(copy: Path) -> None:
    for path in [*weight_files(copy), *sorted(copy.rglob("*config.json"))]:
        if path.name == "tokenizer_config.json":
            continue
        before = path.read_bytes()
        path.write_bytes(before[: len(before) // 2])
        with pytest.raises((ModelError, tensorfile.FileProblem)):
            load_base(copy)
        path.unlink()
        with pytest.raises(ModelError):
            load_base(copy)
        path.write_bytes(before)


def test_pictures_become_latents_and_latents_pictures_of_the_same_size(loaded: Model) -> None:
    side, factor = loaded.resolution, loaded.latent_factor
    images = randomness.normal((2, 3, side, side + 4 * factor), 0, "images").clamp(-1, 1)
    with torch.no_grad():
        latents = loaded.family.encode_images(loaded, images)
        back = loaded.family.decode_latents(loaded, latents)
    assert latents.shape == (2, loaded.latent_channels, side // factor, side // factor + 4)
    assert back.shape == images.shape
    assert latents.dtype == back.dtype == torch.float32


def test_latents_are_the_posterior_s_mean_so_nothing_is_drawn(loaded: Model) -> None:
    images = randomness.normal((1, 3, loaded.resolution, loaded.resolution), 0, "images").clamp(-1, 1)
    state = torch.random.get_rng_state()
    with torch.no_grad():
        first, second = (loaded.family.encode_images(loaded, images) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_encoded_prompt_is_a_function_of_its_text_alone(loaded: Model) -> None:
    weighed = "a (black:1.4) cat BREAK at night"
    if loaded.family.name in ONE_SENTENCE:
        with pytest.raises(PromptError):
            loaded.family.encode_prompts(loaded, [weighted(weighed)])
        weighed = "a black cat at night"
    texts = ["a red boat", "", weighed, LONG, "🦊 ночь"]
    with torch.no_grad():
        alone = [loaded.family.encode_prompts(loaded, [weighted(text)]) for text in texts]
        together = loaded.family.encode_prompts(loaded, [weighted(text) for text in texts])
        empty = loaded.family.encode_prompts(loaded, [plain("")])
    stacked = stack_prompts(alone, empty)
    assert together.tokens_BLD.shape == stacked.tokens_BLD.shape
    assert float((together.tokens_BLD - stacked.tokens_BLD).abs().max()) < 1e-5
    with torch.no_grad():
        longer = loaded.family.encode_prompts(loaded, [plain(f"{LONG}, a cat")])
        both = stack_prompts([longer, alone[3]], empty).tokens_BLD
    assert float((both[0] - both[1]).abs().max()) > 1e-2
    assert torch.equal(together.pick([3, 0]).tokens_BLD, together.tokens_BLD[[3, 0]])


def test_what_is_not_read_of_a_text_has_no_effect_and_is_said_and_all_else_is_read(loaded: Model) -> None:
    def features(text: str) -> list[Tensor]:
        told = loaded.family.encode_prompts(loaded, [plain(text)])
        return [tensor for tensor in (told.tokens_BLD, told.pooled_BD) if tensor is not None]

    def said(text: str) -> bool:
        return bool(list(unread(loaded.readers, [text], called="prompt")))

    with torch.no_grad():
        far = ", ".join(["a red boat on the sea"] * 300)
        both = features(far), features(f"{far}, a cat")
        assert said(far) == all(torch.equal(one, other) for one, other in zip(*both, strict=True))
        for reader in loaded.readers:
            words = 1
            while reader.count("red " * words + "cat") < reader.longest:
                words += 1
            whole, cut = "red " * words, "red " * (words + reader.longest // 8)
            assert not list(unread([reader], [f"{whole}cat"], called="prompt"))
            assert list(unread([reader], [f"{cut}cat"], called="prompt"))
            read = features(f"{whole}cat"), features(f"{whole}boat")
            assert not all(torch.equal(one, other) for one, other in zip(*read, strict=True))


def test_a_prediction_is_a_function_of_its_own_sample(loaded: Model, latents_BCHW: Tensor) -> None:
    both = told(loaded, "a red boat", LONG)
    sigmas = torch.tensor([0.4, 6.0], dtype=torch.float64)
    given = latents_BCHW.clone()
    with torch.no_grad():
        together = loaded.family.predict(loaded, latents_BCHW, sigmas, both)
        for place in (0, 1):
            one = conditioned(loaded, both.text.pick([place]))
            alone = loaded.family.predict(loaded, latents_BCHW[place : place + 1], sigmas[place : place + 1], one)
            assert distance(together[place : place + 1], alone) < 1e-5
    assert torch.equal(latents_BCHW, given)
    assert together.dtype == torch.float32
    assert together.shape == latents_BCHW.shape


def test_text_and_noise_level_change_the_prediction_by_far_more_than_rounding(
    loaded: Model, latents_BCHW: Tensor
) -> None:
    one, other = told(loaded, "a red boat", "a house"), told(loaded, "a cat", "a house at night")
    assert distance(predict(loaded, latents_BCHW, one), predict(loaded, latents_BCHW, other)) > 1e-2
    noisier = predict(loaded, latents_BCHW, one, sigma=4.0)
    assert distance(predict(loaded, latents_BCHW, one), noisier) > 1e-2


@pytest.mark.parametrize("presets", [["all", "text"], ["attention"]])
def test_merging_and_taking_away_leaves_every_bit_of_the_base(
    loaded: Model, latents_BCHW: Tensor, presets: list[str]
) -> None:
    weights = {
        (part, name): tensor.clone()
        for part, module in loaded.parts.items()
        for name, tensor in module.state_dict().items()
    }
    before = predict(loaded, latents_BCHW, told(loaded, "a red boat", "a cat"))
    layers = adapter(loaded, presets)

    merge(loaded.trainable_parts, loaded.pristine, [Applied(layers, 0.8, 0.6)])
    assert distance(predict(loaded, latents_BCHW, told(loaded, "a red boat", "a cat")), before) > 1e-2
    merge(loaded.trainable_parts, loaded.pristine, [Applied(layers, 0.0, 0.0)])
    assert torch.equal(predict(loaded, latents_BCHW, told(loaded, "a red boat", "a cat")), before)
    merge(loaded.trainable_parts, loaded.pristine, [])
    for (part, name), tensor in weights.items():
        assert torch.equal(loaded.parts[part].state_dict()[name], tensor), name


def test_injected_and_merged_adapters_say_the_same(loaded: Model, latents_BCHW: Tensor) -> None:
    conditioning = told(loaded, "a red boat", "a cat")
    before = predict(loaded, latents_BCHW, conditioning)
    layers = adapter(loaded, ["all"])
    specs = [LayerSpec(name, weights.rank, weights.alpha) for name, weights in layers.items()]
    with inject(loaded.trainable_parts, specs, seed=0) as injected:
        injected.load(layers)
        beside = predict(loaded, latents_BCHW, conditioning)
        injected.strength = 0
        assert torch.equal(predict(loaded, latents_BCHW, conditioning), before)
    assert torch.equal(predict(loaded, latents_BCHW, conditioning), before)
    merge(loaded.trainable_parts, loaded.pristine, [Applied(layers, 1.0, 1.0)])
    try:
        assert distance(predict(loaded, latents_BCHW, conditioning), beside) < 1e-4
    finally:
        merge(loaded.trainable_parts, loaded.pristine, [])
    assert distance(beside, before) > 1e-2


def test_every_layer_has_its_own_key_in_a_file_and_is_found_again(loaded: Model, tmp_path: Path) -> None:
    layers = adapter(loaded, ["all", "text"])
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(writing.to_bytes(AdapterFile(layers), keys=loaded.family.keys, precision="F32"))
    read = formats.read(path, keys=loaded.family.keys, layers=shapes(loaded.trainable_parts)).layers
    assert set(read) == set(layers)
    assert all(np.array_equal(read[name].delta(), layers[name].delta()) for name in layers)


def test_an_adapter_of_another_size_of_base_is_refused_and_nothing_is_written(loaded: Model) -> None:
    name, weights = next(iter(adapter(loaded, ["attention"]).items()))
    wider = Lora(np.zeros((3, weights.down.shape[1] + 1), np.float32), weights.up, 2.0)
    before = find(loaded.trainable_parts)[name].weight.clone()
    with pytest.raises(AdapterError):
        merge(loaded.trainable_parts, loaded.pristine, [Applied({name: wider}, 1.0, 1.0)])
    assert torch.equal(find(loaded.trainable_parts)[name].weight, before)


def test_the_pristine_weights_are_those_of_the_file_and_not_the_networks_own(loaded: Model) -> None:
    layers = find(loaded.trainable_parts)
    assert {f"{name}.weight" for name in layers} <= set(loaded.pristine)
    for name, layer in layers.items():
        pristine = loaded.pristine[f"{name}.weight"]
        assert torch.equal(pristine.reshape(layer.weight.shape).float(), layer.weight)
        assert pristine.data_ptr() != layer.weight.data_ptr()


def test_nothing_of_the_base_is_trained_and_layers_behave_as_when_painting(loaded: Model) -> None:
    for part in loaded.parts.values():
        assert not part.training
        assert not any(parameter.requires_grad for parameter in part.parameters())
