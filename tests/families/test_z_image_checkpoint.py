"""Z-Image from files: ComfyUI's layout and diffusers', in one file and in three, read bit for bit like the folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests import tiny, tiny_z_image
from tests.tiny_z_image import PREFIXES, all_in_one, comfy, held, separate, settings_of, written
from velatura import api, bases, tensorfile
from velatura import run as runs
from velatura.bases import BaseFiles
from velatura.errors import ModelError
from velatura.events import Note
from velatura.families.z_image import configuration
from velatura.families.z_image.recognise import recognise
from velatura.family import Model, load_base
from velatura.tensorfile import RawTensor
from velatura.text import qwen_files, qwen_tokens
from velatura.weights.networks import build
from velatura.weights.parts import CONFIG


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp() / "tiny-z-image"
    return folder if folder.exists() else tiny_z_image.z_image(folder)


@pytest.fixture(scope="module")
def model(base: Path) -> Model:
    torch.set_num_threads(1)
    return load_base(base)


def same_weights(one: Model, other: Model) -> bool:
    return all(
        torch.equal(tensor, other.parts[part].state_dict()[name])
        for part, module in one.parts.items()
        for name, tensor in module.state_dict().items()
    )


def same_pristine(one: Model, other: Model) -> bool:
    return set(one.pristine) == set(other.pristine) and all(
        torch.equal(one.pristine[name], other.pristine[name]) for name in one.pristine
    )


# --- every layout gives the same weights -----------------------------------------------------


def test_our_way_to_write_comfyui_s_layout_is_what_diffusers_converts_back(base: Path, model: Model) -> None:
    from diffusers.loaders.single_file_utils import (
        convert_ldm_vae_checkpoint,
        convert_z_image_transformer_checkpoint_to_diffusers,
    )

    def torch_tensors(part: str) -> dict[str, Tensor]:
        return {
            PREFIXES[part] + name: torch.from_numpy(tensorfile.as_float32(one).copy())
            for name, one in comfy(base, part).items()
        }

    expected = model.parts["denoiser"].state_dict()
    found = convert_z_image_transformer_checkpoint_to_diffusers(torch_tensors("transformer"))
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    config = json.loads((base / "vae" / "config.json").read_text(encoding="utf-8"))
    found = convert_ldm_vae_checkpoint(torch_tensors("vae"), config)
    expected = model.parts["vae"].state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_one_file_with_everything_is_read_like_the_folder(base: Path, model: Model, tmp_path: Path) -> None:
    loaded = load_base(all_in_one(base, tmp_path / "everything.safetensors"))
    assert same_weights(loaded, model)
    assert same_pristine(loaded, model)
    assert (loaded.resolution, loaded.latent_shift, loaded.latent_scale) == (64, 0.15, 0.7)
    assert loaded.tokenizers[0].encode("a red boat") == model.tokenizers[0].encode("a red boat")
    assert loaded.notes == ()


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_denoiser_and_files_for_the_rest_are_read_like_the_folder(
    base: Path, model: Model, tmp_path: Path, prefix: str
) -> None:
    files = separate(base, tmp_path, prefix=prefix)
    loaded = load_base(files)
    assert same_weights(loaded, model)
    assert same_pristine(loaded, model)
    for missing, option in (
        (BaseFiles(files.model, files.vae), "--text-encoder"),
        (BaseFiles(files.model, None, files.text_encoders), "--vae"),
    ):
        with pytest.raises(ModelError, match=option):
            load_base(missing)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_files_with_diffusers_names_and_the_body_of_qwen_alone_are_read_too(
    base: Path, model: Model, tmp_path: Path, prefix: str
) -> None:
    files = separate(base, tmp_path)
    named = {prefix + name: one for name, one in held(base, "transformer").items()}
    written(files.model, named, settings_of(base, "transformer"))
    assert files.vae is not None
    written(files.vae, held(base, "vae"), settings_of(base, "vae"))
    body = {name.removeprefix("model."): one for name, one in held(base, "text_encoder").items()}
    body["lm_head.weight"] = body["embed_tokens.weight"]
    written(files.text_encoders[0], body, settings_of(base, "text_encoder"))
    loaded = load_base(files)
    assert same_weights(loaded, model)
    assert loaded.notes == ()


def test_a_transformer_in_shards_is_read_like_one_file(model: Model, tmp_path: Path) -> None:
    base = tiny_z_image.z_image(tmp_path / "shards", shards="300KB")
    assert len(list((base / "transformer").glob("*.safetensors"))) > 2
    assert same_weights(load_base(base), model)


def test_weights_in_scaled_fp8_are_multiplied_out(base: Path, model: Model, tmp_path: Path) -> None:
    files = separate(base, tmp_path)
    tensors = comfy(base, "transformer")
    name = "layers.1.attention.qkv.weight"
    small = torch.from_numpy(tensorfile.as_float32(tensors[name]) / 0.05).to(torch.float8_e4m3fn)
    tensors[name] = RawTensor("F8_E4M3", tensors[name].shape, small.view(torch.uint8).numpy().tobytes())
    tensors[name.replace(".weight", ".scale_weight")] = tensorfile.raw(np.array(0.05, np.float32))
    tensors["scaled_fp8"] = RawTensor("F8_E4M3", (0,), b"")
    loaded = load_base(BaseFiles(written(files.model, tensors, settings_of(base, "transformer")), *_rest(files)))
    expected = small.float() * 0.05
    network = loaded.parts["denoiser"].layers[1].attention
    for place, projection in enumerate((network.to_q, network.to_k, network.to_v)):
        assert torch.equal(projection.weight, expected[24 * place : 24 * (place + 1)])
    own = model.parts["denoiser"].layers[1].attention
    assert 0 < float((own.to_k.weight - network.to_k.weight).abs().max()) < 0.1
    assert loaded.notes == ()


def _rest(files: BaseFiles) -> tuple[Path | None, tuple[Path, ...]]:
    return files.vae, files.text_encoders


def test_rotary_frequencies_are_those_of_a_text_encoder_that_was_built_with_memory(base: Path, model: Model) -> None:
    from transformers.models.qwen3.modeling_qwen3 import Qwen3Model

    theirs = Qwen3Model.from_pretrained(base / "text_encoder")
    buffers = dict(model.parts["text_encoder"].named_buffers())
    assert set(buffers) == {name for name, _ in theirs.named_buffers()}
    for name, tensor in theirs.named_buffers():
        assert torch.equal(buffers[name], tensor)
    assert float(theirs.rotary_emb.inv_freq[1]) == pytest.approx(5000 ** (-2 / 6))


def test_the_published_sizes_have_the_published_number_of_weights() -> None:
    """Those that the cards of Z-Image and Qwen3-4B, and the size of `ae.safetensors`, tell."""
    published = {
        "denoiser": (configuration.TRANSFORMER, 6_154_908_736),
        "text_encoder": (configuration.TEXT_ENCODER, 4_022_468_096),
        "vae": (configuration.VAE, 83_819_683),
    }
    for part, (settings, count) in published.items():
        network = build(configuration.CLASSES[part], settings, Path("published"))
        assert sum(one.numel() for one in network.parameters()) == count, part


# --- told from others, and one variant from the other ----------------------------------------


def sparse(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    """A file of the published size that takes no room: its weights are a hole."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        header[name] = {"dtype": "F8_E4M3", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("z_image_turbo_bf16", "z_image_turbo"),
        ("Z-Image-Turbo-FP8", "z_image_turbo"),
        ("moodyMix_zit_v3", "z_image_turbo"),
        ("z_image_de_turbo_v1_bf16", "z_image"),
        ("z_image_bf16", "z_image"),
        ("zitronen", "z_image"),
    ],
)
def test_a_file_s_name_tells_turbo_as_its_weights_cannot(tmp_path: Path, name: str, variant: str) -> None:
    path = sparse(tmp_path / f"{name}.safetensors", {"layers.0.attention.qkv.weight": (3 * 3840, 3840)})
    found = recognise(path)
    assert found is not None
    assert (found.name, found.architecture) == (variant, "Z-Image")


def test_what_has_the_same_names_and_is_something_else_is_not_recognised(tmp_path: Path) -> None:
    others = {
        "lumina 2": {"layers.0.attention.qkv.weight": (3840, 2304), "cap_embedder.1.weight": (2304, 2304)},
        "lumina 2 of diffusers": {"layers.0.attn.to_q.weight": (2304, 2304)},
        "omni": {"layers.0.attention.qkv.weight": (3 * 3840, 3840), "siglip_embedder.1.weight": (3840, 1152)},
        "control net": {"control_layers.0.attention.to_q.weight": (3840, 3840)},
        "adapter": {"diffusion_model.layers.0.attention.to_q.lora_A.weight": (16, 3840)},
        "qwen": {"model.layers.0.self_attn.q_proj.weight": (4096, 2560)},
    }
    for name, shapes in others.items():
        assert recognise(sparse(tmp_path / f"{name}.safetensors", shapes)) is None, name
    other = written(tmp_path / "sd.safetensors", {}, {CONFIG: json.dumps({"family": "sd15"})})
    assert recognise(other) is None


def test_parts_of_the_published_size_are_found_wherever_they_lie(tmp_path: Path) -> None:
    shapes = {
        "model.diffusion_model.layers.0.attention.qkv.weight": (3 * 3840, 3840),
        "text_encoders.qwen3_4b.transformer.model.layers.0.self_attn.q_proj.weight": (4096, 2560),
        "vae.decoder.mid.block_1.conv1.weight": (512, 512, 3, 3),
        "vae.decoder.conv_in.weight": (512, 16, 3, 3),
    }
    files = BaseFiles(sparse(tmp_path / "everything.safetensors", shapes))
    told = {name: (place.prefix, place.layout) for name, place in bases.locate(files).parts.items()}
    assert told == {
        "denoiser": (PREFIXES["transformer"], "original"),
        "text_encoder": (PREFIXES["text_encoder"], "original"),
        "vae": (PREFIXES["vae"], "original"),
    }
    assert bases.resolution(files) == 1024
    shapes["vae.decoder.conv_in.weight"] = (512, 4, 3, 3)
    with pytest.raises(ModelError, match=r"holds no autoencoder .*--vae"):
        bases.locate(BaseFiles(sparse(tmp_path / "everything.safetensors", shapes)))


def test_a_folder_s_scheduler_tells_turbo(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "mine")
    tiny.write_json(folder / "scheduler" / "scheduler_config.json", {**tiny_z_image.SCHEDULER, "shift": 3.0})
    turbo, undistilled = load_base(folder), load_base(base)
    assert turbo.variant.name == "z_image_turbo"
    assert turbo.objective.shift == 3.0
    assert turbo.distilled_steps
    assert turbo.guidance == "none"
    assert (turbo.defaults.steps, turbo.defaults.cfg_scale) == (8, 1.0)
    assert undistilled.variant.name == "z_image"
    assert undistilled.objective.shift == 6.0
    assert not undistilled.distilled_steps
    assert undistilled.guidance == "cfg"
    assert undistilled.defaults.cfg_scale == 5.0

    folder = folder.rename(tmp_path / "Z-Image-De-Turbo")
    cached = shutil.copytree(folder, tmp_path / "models--someone--Z-Image-De-Turbo" / "snapshots" / "0123")
    for place in (folder, cached):
        found = recognise(place)
        assert found is not None
        assert found.name == "z_image", place
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    for change in (
        {"siglip": ["transformers", "Siglip2VisionModel"]},
        {"transformer": ["diffusers", "Lumina2Transformer2DModel"]},
        {"text_encoder": ["transformers", "Gemma2Model"]},
        {"text_encoder": None},
    ):
        tiny.write_json(folder / "model_index.json", index | change)
        assert recognise(folder) is None, change


def test_a_file_s_own_settings_tell_its_variant_and_each_variant_has_its_published_shift(
    base: Path, tmp_path: Path
) -> None:
    for name, shift in configuration.SHIFTS.items():
        loaded = load_base(all_in_one(base, tmp_path / "some.safetensors", variant=name))
        assert loaded.variant.name == name
        assert loaded.objective.shift == shift
    own = {**tiny_z_image.SCHEDULER, "shift": 4.0}
    assert load_base(all_in_one(base, tmp_path / "some.safetensors", scheduler=own)).objective.shift == 4.0
    for damage in ({"variant": "omni"}, {"scheduler": 3}, {"transformer": []}):
        with pytest.raises(ModelError, match="damaged"):
            path = all_in_one(base, tmp_path / "some.safetensors")
            tensors, metadata = tensorfile.read(path)
            kept = {name: RawTensor(one.dtype, one.shape, bytes(one.data)) for name, one in tensors.items()}
            told = json.loads(metadata[CONFIG]) | damage
            load_base(written(path, kept, {CONFIG: json.dumps(told)}))


def test_an_autoencoder_of_another_kind_is_refused_in_one_sentence(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "base")
    config = folder / "vae" / "config.json"
    told = json.loads(config.read_text(encoding="utf-8"))
    for change, says in (({"latent_channels": 4}, "latents have 4"), ({"_class_name": "AutoencoderTiny"}, "Tiny")):
        tiny.write_json(config, told | change)
        with pytest.raises(ModelError, match=says):
            load_base(folder)


# --- the tokenizer ---------------------------------------------------------------------------


@pytest.fixture
def plain_encoder(base: Path, tmp_path: Path) -> Path:
    """A text encoder's file that says nothing of itself."""
    return written(tmp_path / "qwen_3_4b.safetensors", held(base, "text_encoder"), {})


def test_a_tokenizer_of_vocabulary_and_merges_is_the_one_of_tokenizer_json(base: Path, tmp_path: Path) -> None:
    told = json.loads((base / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    tiny.write_json(tmp_path / "vocab.json", told["model"]["vocab"])
    lines = "".join(f"{' '.join(pair)}\n" for pair in told["model"]["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{lines}", encoding="utf-8")
    marks = {str(one["id"]): {"content": one["content"]} for one in told["added_tokens"]}
    tiny.write_json(tmp_path / "tokenizer_config.json", {"added_tokens_decoder": marks})
    whole = qwen_tokens.load(base / "tokenizer", vocabulary=300)
    pieces = qwen_tokens.load(tmp_path, vocabulary=300)
    for text in ("<|im_start|>user\na red boat's 123 🦊<|im_end|>\n", "  two\r\n\n lines ", "e\u0301\u00a0x"):
        assert pieces.encode(text) == whole.encode(text)
        assert whole.count(text) == len(whole.encode(text))

    (tmp_path / "tokenizer_config.json").unlink()
    published = qwen_tokens.load(tmp_path, vocabulary=300)
    size = len(told["model"]["vocab"])
    assert published.encode("<|endoftext|><|im_start|><|im_end|><think></think>") == [
        size + number for number in (0, 1, 2, 24, 25)
    ]


def test_a_file_s_tokenizer_is_looked_for_beside_it_then_in_the_cache_then_fetched_once_and_that_is_said(
    base: Path, plain_encoder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import huggingface_hub

    known = base / "tokenizer" / "tokenizer.json"
    asked: list[str] = []

    def fetch(repository: str, name: str, **_: Any) -> str:
        asked.append(f"{repository}/{name}")
        return str(known)

    def found() -> list[int]:
        return qwen_files.load(plain_encoder, tiny_z_image.TEXT).encode("a red boat")

    expected = qwen_tokens.load(base / "tokenizer", vocabulary=300).encode("a red boat")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    assert found() == expected
    assert asked == ["Tongyi-MAI/Z-Image-Turbo/tokenizer/tokenizer.json"]
    assert "fetching the tokenizer of Qwen3 (11 MB), once" in caplog.text

    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda repository, _, **__: str(known) if repository == "Qwen/Qwen3-4B" else None,
    )
    assert found() == expected
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    for place in (plain_encoder.parent / "tokenizer", plain_encoder.parent):
        place.mkdir(exist_ok=True)
        shutil.copy(known, place)
        assert found() == expected
        (place / known.name).unlink()
    assert len(asked) == 1


def test_a_tokenizer_that_cannot_be_had_or_is_another_s_is_one_sentence_with_the_way_out(
    plain_encoder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def no_network(*_: str, **__: Any) -> str:
        asked.append("")
        raise ConnectionError("no network")

    asked: list[str] = []
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", no_network)
    with pytest.raises(ModelError, match="tokenizer of Qwen3, and fetching it failed: no network") as problem:
        qwen_files.load(plain_encoder, tiny_z_image.TEXT)
    assert "https://huggingface.co/Tongyi-MAI/Z-Image-Turbo" in str(problem.value.fix)
    assert str(plain_encoder.parent / "tokenizer") in str(problem.value.fix)
    (home / "config.toml").write_text("offline = true\n", encoding="utf-8")
    with pytest.raises(ModelError, match="fetching it is switched off"):
        qwen_files.load(plain_encoder, tiny_z_image.TEXT)
    assert len(asked) == 1, "offline, nothing is asked for"

    beside = plain_encoder.parent / "tokenizer"
    tiny_z_image.tokenizer(beside)
    with pytest.raises(ModelError, match="not the one of the base"):
        qwen_files.load(plain_encoder, {**tiny_z_image.TEXT, "vocab_size": 100})
    for text in ("{", "[]", '{"model": 3}'):
        (beside / "tokenizer.json").write_text(text, encoding="utf-8")
        with pytest.raises(ModelError, match="tokenizer"):
            qwen_files.load(plain_encoder, tiny_z_image.TEXT)


# --- in use ----------------------------------------------------------------------------------


def test_a_lora_is_trained_on_a_folder_and_on_files_and_painted_with(base: Path, tmp_path: Path) -> None:
    single = all_in_one(base, tmp_path / "my z-image turbo.safetensors")
    assert bases.resolution(BaseFiles(single)) == 64
    for source, cfg in ((base, None), (single, 1.0)):
        project = tiny.project(tmp_path / source.stem, source, "train.steps=2", "checkpoints.every=2", pictures=5)
        notes = [event.text for event in api.train(project) if isinstance(event, Note)]
        assert any("distilled to paint in few steps" in note for note in notes) == (source == single)
        assert runs.runs_of(project)[-1].recipe.objective.min_snr == 0  # a flow's noise levels count alike
        (lora,) = (project / "loras").glob("*.safetensors")
        assert any(name.startswith("diffusion_model.layers.1.") for name in tensorfile.read(lora)[0])
        request = api.GenerateRequest(
            "a boat", base=str(source), loras=(lora.stem,), steps=2, width=80, height=48, cfg=cfg, project=project
        )
        list(api.generate(request))
        (picture,) = (project / "images").glob("*.png")
        with Image.open(picture) as image:
            assert image.size == (80, 48)
            assert f"Model: {source.stem if source == single else source.name}," in image.info["parameters"]
