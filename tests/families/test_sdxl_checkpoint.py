"""Stable Diffusion XL as files: in one, in several, of half precision, and told from its relatives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny, tiny_sdxl
from tests.tiny_sdxl import PREFIXES
from velatura import bases, tensorfile
from velatura.bases import BaseFiles, locate
from velatura.errors import ModelError
from velatura.families.sdxl import configuration
from velatura.families.sdxl.recognise import recognise
from velatura.family import Model, load_base
from velatura.tensorfile import RawTensor
from velatura.text import clip_tokens
from velatura.text.weighted import plain
from velatura.weights import parts
from velatura.weights.layouts import Place, clip, stable_diffusion

Tensors = dict[str, RawTensor]

LABEL = "model.diffusion_model.label_emb.0.0.weight"
FIRST = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sdxl.sdxl(tmp_path_factory.mktemp("sdxl") / "tiny")


@pytest.fixture(scope="module")
def model(base: Path) -> Model:
    return load_base(base)


@pytest.fixture(scope="module")
def written(base: Path) -> bytes:
    return tiny_sdxl.single_file(base)


@pytest.fixture
def single(written: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "my style v1.safetensors"
    path.write_bytes(written)
    return path


@pytest.fixture
def small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world whose published base is tiny: files need not say their size."""
    published = {
        "denoiser": tiny_sdxl.UNET,
        "text_encoder": tiny_sdxl.TEXT,
        "text_encoder_2": tiny_sdxl.TEXT_2,
        "vae": tiny.VAE,
    }
    monkeypatch.setattr(configuration, "PUBLISHED", published)
    lengths = {2816: 64, 2560: 56, 768: 24, 1280: 40, 3840: 120}
    fits = parts._fits

    def small(shape: tuple[int, ...], wanted: tuple[int | None, ...] | None) -> bool:
        return fits(shape, wanted and tuple(lengths.get(length or 0, length) for length in wanted))

    monkeypatch.setattr(parts, "_fits", small)


def change(path: Path, with_tensors: Callable[[Tensors], object], **metadata: str) -> None:
    """Rewrite a file; a metadata value of "" leaves the key out."""
    tensors, told = tensorfile.read(path)
    kept = {name: RawTensor(one.dtype, one.shape, bytes(one.data)) for name, one in tensors.items()}
    with_tensors(kept)
    told = {key: value for key, value in {**told, **metadata}.items() if value}
    path.write_bytes(tensorfile.to_bytes(kept, told))


def zeros(*shape: int) -> RawTensor:
    return tensorfile.raw(np.zeros(shape, np.float32))


def header_of(folder: Path, keys: dict[str, tuple[int, ...]]) -> Path:
    path = folder / "some.safetensors"
    path.write_bytes(tensorfile.to_bytes({name: zeros(*shape) for name, shape in keys.items()}))
    return path


def same(one: Model, other: Model) -> bool:
    return all(
        torch.equal(tensor, other.parts[part].state_dict()[name])
        for part, module in one.parts.items()
        for name, tensor in module.state_dict().items()
    )


# --- the layout against diffusers' conversion ------------------------------------------------


def network(part: str, settings: dict[str, Any]) -> dict[str, Tensor]:
    """Names and shapes of a network that takes no memory."""
    from velatura.weights.networks import build

    return dict(build(configuration.CLASSES[part], settings, Path()).state_dict())


def numbered(places: dict[str, Place], names: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """A file in which every tensor is filled with a number of its own, and the number of each name."""
    file, numbers = {}, {}
    for number, (name, place) in enumerate(places.items()):
        shape = (*names[name].shape, 1, 1) if place.pointwise else names[name].shape
        file[place.key] = torch.tensor(float(number)).expand(shape)
        numbers[name] = float(number)
    assert len(file) == len(names)
    return file, numbers


def test_denoiser_and_autoencoder_of_the_published_size_are_named_as_diffusers_converts_them() -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

    def prefixed(places: dict[str, Place], prefix: str) -> dict[str, Place]:
        return {name: place._replace(key=prefix + place.key) for name, place in places.items()}

    for part, lay_out, convert in (
        ("denoiser", stable_diffusion.unet, convert_ldm_unet_checkpoint),
        ("vae", stable_diffusion.autoencoder, convert_ldm_vae_checkpoint),
    ):
        names = network(part, configuration.PUBLISHED[part])
        file, numbers = numbered(prefixed(lay_out(names), PREFIXES[part]), names)
        assert sum(tensor.numel() for tensor in names.values()) == {"denoiser": 2_567_463_684, "vae": 83_653_863}[part]
        converted = convert(file, configuration.PUBLISHED[part])
        assert set(converted) == set(names)
        for name, tensor in converted.items():
            assert tensor.shape == names[name].shape, name
            assert float(tensor.flatten()[0]) == numbers[name], name


def test_text_encoders_of_the_published_size_are_named_as_diffusers_converts_them() -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint, convert_open_clip_checkpoint

    first = network("text_encoder", configuration.TEXT_ENCODER)
    file = {f"{PREFIXES['text_encoder']}text_model.{name.removeprefix('text_model.')}": first[name] for name in first}
    converted = convert_ldm_clip_checkpoint(file)
    assert shapes(clip.transformers(first, converted), first) == {key: one.shape for key, one in converted.items()}
    assert sum(tensor.numel() for tensor in first.values()) == 123_060_480

    second = network("text_encoder_2", configuration.TEXT_ENCODER_2)
    assert sum(tensor.numel() for tensor in second.values()) == 694_659_840
    prefix = PREFIXES["text_encoder_2"]
    file = {f"{prefix}{key}": one for key, one in tiny_sdxl.laid_out(second, clip.openclip(second, 1280)).items()}
    assert file[f"{prefix}transformer.resblocks.31.attn.in_proj_weight"].shape == (3840, 1280)
    converted = convert_open_clip_checkpoint(None, file, prefix)
    assert {name: one.shape for name, one in converted.items()} == {name: one.shape for name, one in second.items()}


def shapes(places: dict[str, Place], names: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {place.key: names[name].shape for name, place in places.items()}


def test_diffusers_converts_the_file_back_into_the_folder_s_tensors(model: Model, single: Path) -> None:
    from diffusers.loaders.single_file_utils import (
        convert_ldm_clip_checkpoint,
        convert_ldm_unet_checkpoint,
        convert_ldm_vae_checkpoint,
        convert_open_clip_checkpoint,
    )
    from safetensors.torch import load_file

    file = load_file(single)
    converted = {
        "denoiser": convert_ldm_unet_checkpoint(file, tiny_sdxl.UNET),
        "text_encoder": convert_ldm_clip_checkpoint(file),
        "text_encoder_2": convert_open_clip_checkpoint(None, file, PREFIXES["text_encoder_2"]),
        "vae": convert_ldm_vae_checkpoint(file, tiny.VAE),
    }
    for part, tensors in converted.items():
        own = model.parts[part].state_dict()
        found = {name if name in own else name.removeprefix("text_model."): one for name, one in tensors.items()}
        assert set(found) == set(own)
        for name, tensor in own.items():
            assert torch.equal(found[name], tensor), (part, name)


def test_well_known_names_of_the_published_checkpoint() -> None:
    """Written down by hand, so that one mistake in both programs would show."""
    unet = stable_diffusion.unet(network("denoiser", configuration.UNET))
    known = {
        "add_embedding.linear_1.weight": "label_emb.0.0.weight",
        "down_blocks.0.downsamplers.0.conv.weight": "input_blocks.3.0.op.weight",
        "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k.weight": (
            "input_blocks.4.1.transformer_blocks.1.attn2.to_k.weight"
        ),
        "down_blocks.2.attentions.1.transformer_blocks.9.ff.net.2.bias": (
            "input_blocks.8.1.transformer_blocks.9.ff.net.2.bias"
        ),
        "mid_block.attentions.0.transformer_blocks.0.norm3.weight": "middle_block.1.transformer_blocks.0.norm3.weight",
        "up_blocks.0.upsamplers.0.conv.weight": "output_blocks.2.2.conv.weight",
        "up_blocks.2.resnets.2.conv_shortcut.weight": "output_blocks.8.0.skip_connection.weight",
    }
    assert {name: unet[name].key for name in known} == known
    assert len(unet) == 1680


# --- one file --------------------------------------------------------------------------------


def test_a_single_file_is_the_same_base_bit_for_bit(model: Model, single: Path) -> None:
    loaded = load_base(single)
    assert same(loaded, model)
    assert loaded.notes == ()
    assert loaded.variant == model.variant == bases.Variant("sdxl", "sdxl_base_v1-0", "stable-diffusion-xl-v1-base")
    assert loaded.objective == model.objective
    assert (loaded.resolution, loaded.latent_factor, loaded.latent_scale, loaded.latent_shift) == (64, 8, 0.7, 0.15)
    assert loaded.empty_negative_is_zero
    assert set(loaded.pristine) == set(model.pristine)
    assert all(torch.equal(loaded.pristine[name], tensor) for name, tensor in model.pristine.items())
    with torch.no_grad():
        told = [one.family.encode_prompts(one, [plain("a red boat!")]) for one in (loaded, model)]
    assert torch.equal(told[0].tokens_BLD, told[1].tokens_BLD)
    assert torch.equal(told[0].pooled_BD, told[1].pooled_BD)


def test_the_second_encoder_s_matrices_are_fused_and_lie_the_other_way_round(single: Path) -> None:
    entries = tensorfile.read_header(single).entries
    before = PREFIXES["text_encoder_2"]
    assert entries[f"{before}transformer.resblocks.0.attn.in_proj_weight"].shape == (120, 40)
    assert entries[f"{before}text_projection"].shape == (40, 16)
    assert f"{PREFIXES['text_encoder']}text_model.embeddings.token_embedding.weight" in entries


def test_a_file_without_settings_is_of_the_published_size_and_needs_no_network(
    model: Model, base: Path, single: Path, small_world: None
) -> None:
    change(single, lambda tensors: None, **{parts.CONFIG: ""})
    for name in ("vocab.json", "merges.txt"):  # one vocabulary for both tokenizers, which pad differently
        shutil.copy(base / "tokenizer" / name, single.parent)
    loaded = load_base(single)
    assert same(loaded, model)
    assert bases.resolution(BaseFiles(single)) == loaded.resolution == 64
    assert [tokenizer.pad for tokenizer in loaded.tokenizers] == [1023, 0]
    assert loaded.tokenizers[1].encode("a red boat!") == model.tokenizers[1].encode("a red boat!")
    assert loaded.objective.sigma_max == pytest.approx(14.61, rel=1e-3)


def test_published_bases_pad_with_clip_s_own_end_and_with_number_zero() -> None:
    from velatura.text import clip_vocabulary

    for part, number in (("text_encoder", 49407), ("text_encoder_2", 0)):
        own = clip_vocabulary.vocabulary(configuration.PADS[part])
        assert clip_tokens.build(own, Path()).pad == number
        assert configuration.PUBLISHED[part]["pad_token_id"] == number


def test_published_latents_are_scaled_as_its_makers_say() -> None:
    assert configuration.VAE["scaling_factor"] == 0.13025
    assert configuration.UNET["sample_size"] * 8 == 1024


def test_a_file_in_half_precision_is_read_as_it_is(model: Model, single: Path) -> None:
    def halve(tensors: Tensors) -> None:
        for name, one in tensors.items():
            tensors[name] = tensorfile.raw(tensorfile.as_float32(one).astype(np.float16))

    change(single, halve)
    loaded = load_base(single)
    assert {tensor.dtype for tensor in loaded.pristine.values()} == {torch.float16}
    for part, module in loaded.parts.items():
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, model.parts[part].state_dict()[name].half().float()), name


@pytest.mark.parametrize("part", list(PREFIXES))
def test_a_key_that_is_missing_is_refused_and_one_too_many_is_noted(single: Path, part: str) -> None:
    own = [name for name in tensorfile.read_header(single).entries if name.startswith(PREFIXES[part])]
    change(single, lambda tensors: tensors.update({f"{PREFIXES[part]}surplus.weight": zeros(1)}))
    assert ["surplus.weight" in note for note in load_base(single).notes] == [True]
    change(single, lambda tensors: tensors.pop(max(own)))
    with pytest.raises(ModelError, match="do not fit"):
        load_base(single)


@pytest.mark.parametrize(
    ("part", "title"), [("text_encoder", "first text encoder"), ("text_encoder_2", "second text"), ("vae", "autoenc")]
)
def test_a_file_without_one_of_its_parts_is_refused_in_a_sentence(
    single: Path, small_world: None, part: str, title: str
) -> None:
    def drop(tensors: Tensors) -> None:
        for name in [name for name in tensors if name.startswith(PREFIXES[part])]:
            del tensors[name]

    change(single, drop, **{parts.CONFIG: ""})
    with pytest.raises(ModelError, match=f"holds no {title}"):
        load_base(single)


# --- several files ---------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_a_base_in_split_files_is_the_same_base(
    model: Model, base: Path, tmp_path: Path, small_world: None, layout: str
) -> None:
    """As ComfyUI has them: each part in a file of its own, the text encoders told apart by their width."""
    tokenizer = shutil.copytree(base / "tokenizer", tmp_path / "tokenizer")
    assert tokenizer.exists()
    shutil.copytree(base / "tokenizer_2", tmp_path / "tokenizer_2")
    own = tiny_sdxl.original(base)
    files = {part: tmp_path / f"{part}.safetensors" for part in PREFIXES}
    for part, folder in {"text_encoder": "text_encoder", "text_encoder_2": "text_encoder_2"}.items():
        shutil.copy(base / folder / "model.safetensors", files[part])
    for part, folder in {"denoiser": "unet", "vae": "vae"}.items():
        if layout == "diffusers":
            shutil.copy(base / folder / "diffusion_pytorch_model.safetensors", files[part])
        else:
            raw = {name: tensorfile.raw(tensor.numpy()) for name, tensor in own[part].items()}
            files[part].write_bytes(tensorfile.to_bytes(raw))
    encoders = (files["text_encoder_2"], files["text_encoder"])
    given = BaseFiles(files["denoiser"], files["vae"], encoders)
    assert {name: lies.files[0] for name, lies in locate(given).parts.items()} == files
    loaded = load_base(given)
    assert same(loaded, model)
    assert [tokenizer.pad for tokenizer in loaded.tokenizers] == [1023, 0]
    with pytest.raises(ModelError, match="holds no second text encoder"):
        load_base(BaseFiles(files["denoiser"], files["vae"], encoders[1:]))


def test_another_autoencoder_takes_the_place_of_the_file_s_own(model: Model, base: Path, single: Path) -> None:
    path = single.with_name("better.safetensors")
    own = {name: tensorfile.raw(-tensor.numpy()) for name, tensor in tiny_sdxl.original(base)["vae"].items()}
    told = {"family": "sdxl", "vae": {**tiny.VAE, "scaling_factor": 0.3}}
    path.write_bytes(tensorfile.to_bytes(own, {parts.CONFIG: json.dumps(told)}))
    loaded = load_base(BaseFiles(single, path))
    assert loaded.latent_scale == 0.3
    name = "decoder.conv_in.weight"
    assert torch.equal(loaded.parts["vae"].state_dict()[name], -model.parts["vae"].state_dict()[name])
    assert torch.equal(loaded.pristine["denoiser.conv_in.weight"], model.pristine["denoiser.conv_in.weight"])
    assert loaded.hash != load_base(single).hash


def test_the_autoencoder_of_flux_is_not_taken_for_one_of_sdxl(tmp_path: Path) -> None:
    vae = parts.by_name(configuration.PARTS)["vae"]
    for channels, known in ((4, True), (16, False)):
        for middle in ("mid.block_1", "mid_block.resnets.0"):
            keys = {f"decoder.{middle}.conv1.weight": (8, 8, 3, 3), "decoder.conv_in.weight": (8, channels, 3, 3)}
            found = parts.find(tensorfile.read_header(header_of(tmp_path, keys)), vae)
            assert (found is not None) == known


# --- variants and relatives ------------------------------------------------------------------


def test_v_prediction_is_marked_by_an_empty_tensor_and_its_schedule_by_another(single: Path, written: bytes) -> None:
    plainly = load_base(single)
    assert plainly.objective.kind == "epsilon"
    assert (plainly.defaults.sampler, plainly.defaults.scheduler) == ("DPM++ 2M", "Karras")
    change(single, lambda tensors: tensors.update(v_pred=zeros(0)))
    v = load_base(single)
    assert (v.objective.kind, v.defaults) == ("v", plainly.defaults)
    assert v.objective.sigma_max == pytest.approx(14.61, rel=1e-3)
    change(single, lambda tensors: tensors.update(ztsnr=zeros(0)))
    zero = load_base(single)
    assert zero.objective.sigma_max == pytest.approx(4519, rel=1e-3)
    assert (zero.defaults.sampler, zero.defaults.scheduler) == ("Euler", "Simple")
    single.write_bytes(written)
    change(single, lambda tensors: None, **{"modelspec.prediction_type": "v"})
    assert load_base(single).objective.kind == "v"


@pytest.mark.parametrize(
    "keys",
    [
        {LABEL: (4, 2816), FIRST: (4, 9, 3, 3)},
        {"add_embedding.linear_1.weight": (4, 2816), "conv_in.weight": (4, 9, 3, 3)},
    ],
    ids=["original", "diffusers"],
)
def test_an_inpainting_base_is_sdxl_too(tmp_path: Path, keys: dict[str, tuple[int, ...]]) -> None:
    assert recognise(header_of(tmp_path, keys)) is not None


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({LABEL: (4, 2560)}, "this is the SDXL refiner, which has one text encoder"),
        ({LABEL: (4, 2816), FIRST: (4, 8, 3, 3)}, "this is an SDXL instruct-pix2pix base"),
        ({LABEL: (4, 2816), FIRST: (4, 5, 3, 3)}, "takes 5 channels"),
        ({"add_embedding.linear_1.weight": (4, 2816), "conv_in.weight": (4, 8, 3, 3)}, "instruct-pix2pix base"),
        ({LABEL: (4, 2816), FIRST: (4, 4, 3, 3), "edm_mean": (4,)}, "noise levels of EDM's kind"),
        ({LABEL: (4, 2816), FIRST: (4, 4, 3, 3), "edm_vpred.sigma_max": ()}, "noise levels of EDM's kind"),
    ],
)
def test_relatives_in_files_are_refused_by_what_they_are(
    tmp_path: Path, keys: dict[str, tuple[int, ...]], sentence: str
) -> None:
    path = header_of(tmp_path, keys)
    for ask in (recognise, lambda path: bases.recognise(BaseFiles(path)), load_base):
        with pytest.raises(ModelError, match=sentence) as problem:
            ask(path)
        assert problem.value.where == str(path)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        ({"model_index.json": {"text_encoder": [None, None], "tokenizer": [None, None]}}, "SDXL refiner"),
        ({"unet/config.json": {"in_channels": 8}}, "SDXL instruct-pix2pix base"),
        ({"scheduler/scheduler_config.json": {"_class_name": "EDMDPMSolverMultistepScheduler"}}, "EDM's kind"),
        ({"vae/config.json": {"_class_name": "AutoencoderTiny"}}, "the autoencoder of this base is a AutoencoderTiny"),
    ],
)
def test_relatives_in_folders_are_refused_by_what_they_are(
    base: Path, tmp_path: Path, spoil: dict[str, dict[str, Any]], sentence: str
) -> None:
    folder = shutil.copytree(base, tmp_path / "other")
    for name, settings in spoil.items():
        told = json.loads((folder / name).read_text(encoding="utf-8"))
        tiny.write_json(folder / name, {**told, **settings})
    with pytest.raises(ModelError, match=sentence):
        load_base(folder)


@pytest.mark.parametrize(
    "keys",
    [
        {LABEL: (4, 5632)},
        {LABEL: (4, 768)},
        {"model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (4, 768)},
        {"lora_unet_label_emb_0_0.lora_down.weight": (4, 2816)},
        {"first_stage_model.encoder.conv_in.weight": (8, 3, 3, 3)},
    ],
    ids=["Kolors", "SVD", "SD 1.5", "LoRA", "VAE"],
)
def test_files_that_are_something_else_are_not_recognised(tmp_path: Path, keys: dict[str, tuple[int, ...]]) -> None:
    assert recognise(header_of(tmp_path, keys)) is None
    assert recognise(header_of(tmp_path, {LABEL: (4, 2816), FIRST: (4, 4, 3, 3)})) is not None


def test_an_sd_15_base_is_not_taken_for_one_nor_the_other_way_round(single: Path, tmp_path: Path) -> None:
    from velatura.families.sd15.recognise import recognise as recognise_sd15

    other = tiny.sd15(tmp_path / "sd15")
    assert recognise(other) is None
    assert recognise(single) is not None
    assert recognise_sd15(single) is None
