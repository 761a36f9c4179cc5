"""A base as one file: written from a folder, read like the folder, and told from files that are something else."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from velatura import api, bases, randomness, tensorfile
from velatura.bases import BaseFiles, locate
from velatura.errors import FileProblem, ModelError
from velatura.families.sd15 import configuration
from velatura.families.sd15.model import FAMILY
from velatura.families.sd15.recognise import recognise
from velatura.families.sd15.save import to_single_file
from velatura.family import Conditioning, Model, load_base
from velatura.tensorfile import RawTensor
from velatura.text.weighted import plain
from velatura.weights import containers, parts

Tensors = dict[str, RawTensor]


@pytest.fixture(scope="module")
def written(base: Path) -> bytes:
    return to_single_file(base)


@pytest.fixture
def single(written: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "my style v1.safetensors"
    path.write_bytes(written)
    return path


def change(path: Path, with_tensors: Callable[[Tensors], object], **metadata: str) -> None:
    """Rewrite a file; a metadata value of "" leaves the key out."""
    tensors, told = tensorfile.read(path)
    kept = {name: RawTensor(one.dtype, one.shape, bytes(one.data)) for name, one in tensors.items()}
    with_tensors(kept)
    told = {key: value for key, value in {**told, **metadata}.items() if value}
    path.write_bytes(tensorfile.to_bytes(kept, told))


def nothing(tensors: Tensors) -> None:
    """The tensors stay."""


def zeros(*shape: int) -> RawTensor:
    return tensorfile.raw(np.zeros(shape, np.float32))


def published_size(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """A file that says nothing of its size, in a world whose published base is tiny."""
    for settings, small in (
        (configuration.UNET, tiny.UNET),
        (configuration.VAE, tiny.VAE),
        (configuration.TEXT_ENCODER, tiny.TEXT),
    ):
        for key, value in small.items():
            monkeypatch.setitem(settings, key, value)
    monkeypatch.setattr(parts, "_fits", lambda shape, wanted: True)
    change(path, nothing, **{"velatura.config": ""})


def same(one: Model, other: Model) -> bool:
    return all(
        torch.equal(tensor, other.parts[part].state_dict()[name])
        for part, module in one.parts.items()
        for name, tensor in module.state_dict().items()
    )


@torch.no_grad()
def test_a_folder_written_as_one_file_is_the_same_base_bit_for_bit(model: Model, single: Path) -> None:
    loaded = load_base(single)
    assert same(loaded, model)
    assert loaded.objective == model.objective
    assert (loaded.resolution, loaded.latent_factor, loaded.latent_scale, loaded.latent_shift) == (64, 8, 0.7, 0.15)
    assert set(loaded.pristine) == set(model.pristine)
    assert all(torch.equal(loaded.pristine[name], tensor) for name, tensor in model.pristine.items())

    noisy = randomness.normal((2, 4, 8, 12), 1, "noisy")
    sigma_B = torch.tensor([0.5, 6.0], dtype=torch.float64)
    texts = [plain("a red boat on the sea, (yellow) sun 🦊"), plain("")]
    predictions = [
        FAMILY.predict(one, noisy, sigma_B, Conditioning(FAMILY.encode_prompts(one, texts))) for one in (loaded, model)
    ]
    assert torch.equal(*predictions)


def test_a_file_is_named_by_its_stem_and_hashed_as_a1111_does(single: Path, written: bytes) -> None:
    loaded = load_base(single)
    assert loaded.name == "my style v1"
    assert loaded.hash == hashlib.sha256(written).hexdigest()


def test_diffusers_converts_the_file_back_into_the_folder_s_tensors(base: Path, written: bytes, single: Path) -> None:
    from diffusers.loaders.single_file_utils import (
        convert_ldm_clip_checkpoint,
        convert_ldm_unet_checkpoint,
        convert_ldm_vae_checkpoint,
    )

    file = containers.tensors(single)
    converted = {
        "unet": convert_ldm_unet_checkpoint(file, tiny.UNET),
        "vae": convert_ldm_vae_checkpoint(file, tiny.VAE),
        "text_encoder": convert_ldm_clip_checkpoint(file),
    }
    for part, tensors in converted.items():
        (path,) = (base / part).glob("*.safetensors")
        expected = {name.removeprefix("text_model."): tensor for name, tensor in containers.tensors(path).items()}
        found = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
        assert set(found) == set(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected), part
    assert file["first_stage_model.encoder.mid.attn_1.q.weight"].shape == (8, 8, 1, 1)


def test_a_folder_whose_tokenizer_is_one_file_is_written_too(model: Model, base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "base")
    for path in (folder / "tokenizer").iterdir():
        path.unlink()
    model.tokenizers[0].tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    path = tmp_path / "one.safetensors"
    path.write_bytes(to_single_file(folder))
    told = json.loads(tensorfile.read_header(path).metadata["velatura.config"])
    assert all(isinstance(pair, str) for pair in told["tokenizer"]["merges"])
    text = "a red boat on the sea, 🦊"
    assert load_base(path).tokenizers[0].encode(text) == model.tokenizers[0].encode(text)


def test_the_file_comes_out_the_same_twice(base: Path, written: bytes) -> None:
    assert to_single_file(base) == written


def test_pristine_weights_stay_mapped_and_none_is_copied(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = containers.tensors(single)
    monkeypatch.setattr(containers, "tensors", lambda _: held)
    loaded = load_base(single)
    places = {tensor.data_ptr() for tensor in held.values()}
    assert loaded.pristine
    assert all(tensor.data_ptr() in places for tensor in loaded.pristine.values())


@pytest.mark.parametrize("precision", ["F16", "BF16"])
def test_a_half_precision_file_is_read_as_it_is(model: Model, base: Path, tmp_path: Path, precision: str) -> None:
    path = tmp_path / "half.safetensors"
    path.write_bytes(to_single_file(base, "F16" if precision == "F16" else None))
    dtype = torch.float16
    if precision == "BF16":
        dtype = torch.bfloat16

        def cut(tensors: Tensors) -> None:
            for name, one in tensors.items():
                upper = np.frombuffer(one.data, "<u2")[1::2]  # a bf16 is the upper half of an fp32
                tensors[name] = RawTensor("BF16", one.shape, upper.tobytes())

        change(path, cut)
    loaded = load_base(path)
    assert {tensor.dtype for tensor in loaded.pristine.values()} == {dtype}
    for name, tensor in loaded.parts["denoiser"].state_dict().items():
        full = model.parts["denoiser"].state_dict()[name]
        assert float((tensor - full).abs().max()) < 0.02
        assert torch.equal(tensor, tensor.to(dtype).float())


def test_a_weight_too_large_for_fp16_is_not_written(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "base")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    change(path, lambda tensors: tensors.update({"conv_in.bias": tensorfile.raw(np.full(8, 7e4, np.float32))}))
    with pytest.raises(ModelError, match="too large for fp16"):
        to_single_file(folder, "F16")
    to_single_file(folder, "F32")


# --- files as the world has them -------------------------------------------------------------


def test_a_file_without_settings_is_of_the_published_size(
    model: Model, base: Path, single: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published_size(monkeypatch, single)
    shutil.copytree(base / "tokenizer", single.parent / "tokenizer")
    loaded = load_base(single)
    assert loaded.resolution == bases.resolution(bases.BaseFiles(single)) == 64
    assert all(torch.equal(loaded.pristine[name], tensor) for name, tensor in model.pristine.items())
    assert loaded.tokenizers[0].encode("a red boat") == model.tokenizers[0].encode("a red boat")


def test_what_belongs_to_no_part_or_is_known_to_be_ballast_is_passed_over(model: Model, single: Path) -> None:
    def add(tensors: Tensors) -> None:
        tensors["model_ema.diffusion_modelinput_blocks00weight"] = zeros(3)
        tensors["alphas_cumprod"] = zeros(1000)
        tensors["loss.logvar"] = zeros(1)
        tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = zeros(1, 77)

    change(single, add)
    assert same(load_base(single), model)


def test_a_merged_file_whose_text_encoder_lacks_text_model_is_read(model: Model, single: Path) -> None:
    def rename(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[name.replace("transformer.text_model.", "transformer.")] = tensors.pop(name)

    change(single, rename)
    assert same(load_base(single), model)


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."])
def test_every_weight_of_a_part_must_be_there_and_fit(single: Path, written: bytes, prefix: str) -> None:
    def missing(tensors: Tensors) -> None:
        del tensors[max(name for name in tensors if name.startswith(prefix))]

    def reshaped(tensors: Tensors) -> None:
        tensors[max(name for name in tensors if name.startswith(prefix))] = zeros(3, 3, 2)

    for spoil in (missing, reshaped):
        single.write_bytes(written)
        change(single, spoil)
        with pytest.raises(ModelError, match="do not fit"):
            load_base(single)


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."])
def test_a_key_of_a_part_without_a_place_is_noted(single: Path, prefix: str) -> None:
    change(single, lambda tensors: tensors.update({f"{prefix}surplus.weight": zeros(1)}))
    (note,) = load_base(single).notes
    assert note.endswith("surplus.weight")


@pytest.mark.parametrize(
    ("prefix", "part"), [("first_stage_model.", "autoencoder"), ("cond_stage_model.", "text encoder")]
)
def test_a_file_without_one_of_its_parts_is_refused_in_a_sentence(single: Path, prefix: str, part: str) -> None:
    def drop(tensors: Tensors) -> None:
        for name in [name for name in tensors if name.startswith(prefix)]:
            del tensors[name]

    change(single, drop)
    assert recognise(single) is not None
    with pytest.raises(ModelError, match=f"holds no {part}"):
        load_base(single)


def test_v_prediction_is_marked_by_an_empty_tensor_and_its_schedule_by_another(single: Path, written: bytes) -> None:
    assert load_base(single).objective.kind == "epsilon"
    change(single, lambda tensors: tensors.update(v_pred=zeros(0)))
    objective = load_base(single).objective
    assert objective.kind == "v"
    assert objective.sigma_max == pytest.approx(14.61, rel=1e-3)
    change(single, lambda tensors: tensors.update(ztsnr=zeros(0)))
    assert load_base(single).objective.sigma_max == pytest.approx(4519, rel=1e-3)
    single.write_bytes(written)
    change(single, nothing, **{"modelspec.prediction_type": "v"})
    assert load_base(single).objective.kind == "v"


TO_K = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


@pytest.mark.parametrize(
    "keys",
    [
        {TO_K: (8, 1024)},
        {TO_K: (8, 2048)},
        {TO_K: (8, 768), "conditioner.embedders.0.transformer.text_model.final_layer_norm.bias": (8,)},
        {TO_K: (8, 768), "model.diffusion_model.label_emb.0.0.weight": (8, 8)},
        {TO_K: (8, 768), "cond_stage_model.model.ln_final.bias": (8,)},
        {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": (4, 768)},
        {"first_stage_model.encoder.conv_in.weight": (8, 3, 3, 3)},
    ],
    ids=["SD 2", "SDXL's width", "SDXL's text encoders", "SDXL's sizes", "SD 2's text encoder", "LoRA", "VAE"],
)
def test_files_that_are_something_else_are_not_recognised(tmp_path: Path, keys: dict[str, tuple[int, ...]]) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(tensorfile.to_bytes({name: zeros(*shape) for name, shape in keys.items()}))
    assert recognise(path) is None
    known = tmp_path / "known.safetensors"
    known.write_bytes(tensorfile.to_bytes({TO_K: zeros(8, 768)}))
    assert recognise(known) is not None


def test_an_inpainting_file_is_known_by_its_first_layer_and_damaged_ones_are_refused(
    single: Path, written: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    single.write_bytes(written[:-100])
    with pytest.raises(FileProblem, match="cut off"):
        load_base(single)
    single.write_bytes(written)
    change(single, nothing, **{"velatura.config": json.dumps({"family": "sd15", "unet": {}})})
    with pytest.raises(ModelError, match=r"velatura\.config .* is damaged"):
        load_base(single)
    published_size(monkeypatch, single)
    first = "model.diffusion_model.input_blocks.0.0.weight"
    change(single, lambda tensors: tensors.update({first: zeros(8, 9, 3, 3)}))
    assert configuration.read(locate(BaseFiles(single))).parts["denoiser"]["in_channels"] == 9
    change(single, lambda tensors: tensors.update({first: zeros(8, 8, 3, 3)}))
    with pytest.raises(ModelError, match="neither a base nor an inpainting base"):
        load_base(single)


# --- files in other formats ------------------------------------------------------------------


def beside(single: Path, base: Path) -> None:
    """The base's tokenizer, where a file that holds none looks for it."""
    shutil.copytree(base / "tokenizer", single.parent / "tokenizer")


def tensors_of(single: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in containers.tensors(single).items()}


def test_a_pickled_checkpoint_is_the_same_base(
    model: Model, base: Path, single: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = single.with_suffix(".ckpt")
    torch.save({"state_dict": tensors_of(single), "global_step": 840_000}, path)
    published_size(monkeypatch, single)
    beside(single, base)
    single.unlink()
    loaded = load_base(path)
    assert same(loaded, model)
    assert loaded.notes == ()
    assert loaded.hash == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_denoiser_in_gguf_with_the_other_parts_from_files_is_the_same_base(
    model: Model, base: Path, single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "denoiser-F32.gguf"
    writer = gguf.GGUFWriter(path, "sd1")
    prefix = "model.diffusion_model."
    for name, tensor in tensors_of(single).items():
        if name.startswith(prefix):
            writer.add_tensor(name.removeprefix(prefix), tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    published_size(monkeypatch, single)
    beside(single, base)
    loaded = load_base(BaseFiles(path, vae=single, text_encoders=(single,)))
    assert same(loaded, model)
    assert all(torch.equal(loaded.pristine[name], tensor) for name, tensor in model.pristine.items())


@pytest.mark.parametrize("alone", [True, False])
def test_an_autoencoder_in_diffusers_names_is_taken(
    model: Model, base: Path, single: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    """As it lies in a folder of diffusers', and as people give it beside a checkpoint."""
    published_size(monkeypatch, single)
    beside(single, base)
    if alone:
        change(single, lambda held: [held.pop(name) for name in list(held) if name.startswith("first_stage_model.")])
    (vae,) = (base / "vae").glob("*.safetensors")
    assert same(load_base(BaseFiles(single, vae=vae)), model)


# --- the tokenizer of a file that has none ---------------------------------------------------


def test_a_tokenizer_beside_the_file_comes_before_clip_s_own(
    base: Path, single: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published_size(monkeypatch, single)
    with pytest.raises(ModelError, match="not the one of the base"):
        load_base(single)  # CLIP's has 49,408 tokens, and this text encoder knows 1,024
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(base / "tokenizer" / name, single.parent)
    assert load_base(single).tokenizers[0].encode("a red boat") == load_base(base).tokenizers[0].encode("a red boat")


def test_a_tokenizer_of_another_is_one_sentence_with_the_way_out(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published_size(monkeypatch, single)
    other = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}
    tiny.write_json(single.parent / "tokenizer" / "vocab.json", other)
    (single.parent / "tokenizer" / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    with pytest.raises(ModelError, match="not the one of the base") as problem:
        load_base(single)
    assert str(single.parent / "tokenizer") in str(problem.value.where)
    assert "vocab.json and merges.txt" in str(problem.value.fix)


# --- in use ----------------------------------------------------------------------------------


def test_a_lora_is_trained_on_a_single_file_and_painted_with(single: Path, tmp_path: Path) -> None:
    project = tiny.project(tmp_path / "project", single, "train.steps=2", "checkpoints.every=2")
    assert api.plan(project).steps == 2
    list(api.train(project))
    (lora,) = (project / "loras").glob("*.safetensors")
    list(api.generate(api.GenerateRequest("a boat", base=str(single), loras=(lora.stem,), steps=2, project=project)))
    (picture,) = (project / "images").glob("*.png")
    with Image.open(picture) as image:
        told = image.info["parameters"]
    assert "Model: my style v1," in told
    assert f"Model hash: {hashlib.sha256(single.read_bytes()).hexdigest()[:10]}," in told
