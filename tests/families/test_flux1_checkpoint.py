"""FLUX.1 as files: all in one or one for each part, read like the folder, and told from what is something else."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny, tiny_flux1
from velatura import api, bases, tensorfile
from velatura.bases import BaseFiles
from velatura.diffusion.objective import DynamicShift
from velatura.errors import ModelError
from velatura.families.flux1 import configuration, layout
from velatura.families.flux1.recognise import recognise
from velatura.families.flux1.save import PREFIXES, to_part_file, to_single_file
from velatura.family import Model, load_base
from velatura.tensorfile import RawTensor
from velatura.text.weighted import plain
from velatura.weights import parts
from velatura.weights.source import taken

Tensors = dict[str, RawTensor]

T5 = "text_encoders.t5xxl.transformer."


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny FLUX.1-dev; copy it before changing anything."""
    return tiny_flux1.flux1(tmp_path_factory.mktemp("flux1") / "base")


@pytest.fixture(scope="module")
def model(base: Path) -> Model:
    torch.set_num_threads(1)
    return load_base(base)


@pytest.fixture(scope="module")
def written(base: Path) -> bytes:
    return to_single_file(base)


@pytest.fixture
def single(written: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "flux all in one.safetensors"
    path.write_bytes(written)
    return path


@pytest.fixture
def apart(base: Path, tmp_path: Path) -> BaseFiles:
    """A file for each part."""
    names = {"denoiser": "flux1-dev", "text_encoder": "clip_l", "text_encoder_2": "t5xxl_fp16", "vae": "ae"}
    paths = {part: tmp_path / "apart" / f"{name}.safetensors" for part, name in names.items()}
    for part, path in paths.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(to_part_file(base, part))
    return BaseFiles(paths["denoiser"], paths["vae"], (paths["text_encoder_2"], paths["text_encoder"]))


def change(path: Path, with_tensors: Callable[[Tensors], object], **metadata: str) -> None:
    """Rewrite a file; a metadata value of "" leaves the key out."""
    tensors, told = tensorfile.read(path)
    kept = {name: RawTensor(one.dtype, one.shape, bytes(one.data)) for name, one in tensors.items()}
    with_tensors(kept)
    told = {key: value for key, value in {**told, **metadata}.items() if value}
    path.write_bytes(tensorfile.to_bytes(kept, told))


def nothing(tensors: Tensors) -> None:
    """The tensors stay."""


def published_size(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Files that say nothing of their size, in a world whose published base is tiny."""
    for settings, small in (
        (configuration.TRANSFORMER, {**tiny_flux1.TRANSFORMER, "num_layers": 7, "num_single_layers": 7}),
        (configuration.VAE, tiny_flux1.VAE),
        (configuration.TEXT_ENCODER, tiny.TEXT),
        (configuration.TEXT_ENCODER_2, tiny_flux1.TEXT_2),
    ):
        for key, value in small.items():
            monkeypatch.setitem(settings, key, value)
    monkeypatch.setattr(parts, "_fits", lambda shape, wanted: True)
    for path in paths:
        change(path, nothing, **{"velatura.config": ""})


def same(one: Model, other: Model) -> bool:
    return all(
        torch.equal(tensor, other.parts[part].state_dict()[name])
        for part, module in one.parts.items()
        for name, tensor in module.state_dict().items()
    )


def check_same(loaded: Model, model: Model) -> None:
    assert same(loaded, model)
    assert loaded.objective == model.objective
    assert loaded.variant == model.variant
    assert (loaded.resolution, loaded.latent_scale, loaded.latent_shift) == (64, 0.7, 0.15)
    assert set(loaded.pristine) == set(model.pristine)
    assert all(torch.equal(loaded.pristine[name], tensor) for name, tensor in model.pristine.items())
    texts = [plain("a red boat on the sea, (yellow) sun 🦊"), plain("")]
    with torch.no_grad():
        mine, other = (one.family.encode_prompts(one, texts) for one in (loaded, model))
    assert torch.equal(mine.tokens_BLD, other.tokens_BLD)
    assert torch.equal(mine.pooled_BD, other.pooled_BD)


def test_a_folder_written_as_one_file_is_the_same_base_bit_for_bit(model: Model, single: Path) -> None:
    loaded = load_base(single)
    check_same(loaded, model)
    assert loaded.notes == ()


def test_a_file_for_each_part_is_the_same_base_whatever_their_order(model: Model, apart: BaseFiles) -> None:
    assert not any(key.startswith(tuple(PREFIXES.values())) for key in tensorfile.read_header(apart.model).entries)
    check_same(load_base(apart), model)
    other = load_base(BaseFiles(apart.model, apart.vae, apart.text_encoders[::-1]))
    assert other.hash == load_base(apart).hash
    for missing in (BaseFiles(apart.model, None, apart.text_encoders), BaseFiles(apart.model, apart.vae)):
        with pytest.raises(ModelError, match="holds no"):
            load_base(missing)


def test_an_autoencoder_of_diffusers_names_is_read_too(model: Model, base: Path, apart: BaseFiles) -> None:
    assert apart.vae is not None
    metadata = tensorfile.read(apart.vae)[1]
    shutil.copy(base / "vae" / "diffusion_pytorch_model.safetensors", apart.vae)
    change(apart.vae, nothing, **metadata)
    check_same(load_base(apart), model)


def test_sharded_folders_are_read(model: Model, base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "sharded")
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors, metadata = tensorfile.read(path)
    shards = {f"diffusion_pytorch_model-0000{n + 1}-of-00002.safetensors": sorted(tensors)[n::2] for n in (0, 1)}
    for shard, names in shards.items():
        chosen = {
            name: RawTensor(tensors[name].dtype, tensors[name].shape, bytes(tensors[name].data)) for name in names
        }
        (path.parent / shard).write_bytes(tensorfile.to_bytes(chosen, metadata))
    tiny.write_json(
        path.with_name(f"{path.name}.index.json"),
        {"weight_map": {name: shard for shard, names in shards.items() for name in names}},
    )
    path.unlink()
    assert same(load_base(folder), model)


def test_diffusers_converts_the_published_layout_to_the_same_rows() -> None:
    """Each row of every original tensor is numbered; its other axis is left out."""
    from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

    with torch.device("meta"):
        network = FluxTransformer2DModel(**configuration.TRANSFORMER)
    names = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    places = layout.transformer(names)
    lengths: dict[str, int] = {}
    for name, place in places.items():
        lengths[place.key] = max(lengths.get(place.key, 0), place.rows[1] if place.rows else names[name][0])
    file = {
        key: torch.arange(length, dtype=torch.float64) + 1e6 * number
        for number, (key, length) in enumerate(sorted(lengths.items()))
    }
    assert (len(names), len(file)) == (1160, 780)
    assert file["single_blocks.37.linear1.weight"].shape == (3 * 3072 + 12288,)
    converted = convert_flux_transformer_checkpoint_to_diffusers(dict(file))
    assert set(converted) == set(names)
    for name, tensor in converted.items():
        assert torch.equal(taken(file[places[name].key], places[name]), tensor), name


def test_well_known_names_of_the_published_checkpoint() -> None:
    """Written down by hand, so that one mistake in both programs would show."""
    shapes = {f"transformer_blocks.3.attn.{name}.bias": (5,) for name in ("to_q", "to_k", "to_v")}
    shapes |= {f"transformer_blocks.3.attn.add_{name}_proj.weight": (5, 2) for name in "qkv"}
    shapes |= {"transformer_blocks.3.attn.norm_added_k.weight": (4,), "norm_out.linear.weight": (8, 4)}
    places = layout.transformer(shapes)
    assert places["transformer_blocks.3.attn.to_k.bias"] == (
        "double_blocks.3.img_attn.qkv.bias",
        False,
        (5, 10),
        False,
        False,
    )
    assert places["transformer_blocks.3.attn.add_v_proj.weight"].rows == (10, 15)
    assert places["transformer_blocks.3.attn.norm_added_k.weight"].key == "double_blocks.3.txt_attn.norm.key_norm.scale"
    assert places["norm_out.linear.weight"].halves_swapped
    with pytest.raises(ModelError, match="has no name"):
        layout.transformer({"distilled_guidance_layer.in_proj.weight": (2, 2)})


# --- fp8 and other habits of files -----------------------------------------------------------


def in_fp8(tensors: Tensors, name: str, scale: float | None) -> torch.Tensor:
    """Store a weight in fp8, divided by a scale; what it is then worth."""
    weight = torch.from_numpy(tensorfile.as_float32(tensors[name]).copy())
    small = (weight / (scale or 1.0)).to(torch.float8_e4m3fn)
    tensors[name] = RawTensor("F8_E4M3", tensors[name].shape, small.view(torch.uint8).numpy().tobytes())
    if scale is not None:
        tensors[name.replace(".weight", ".scale_weight")] = tensorfile.raw(np.array(scale, np.float32))
    return small.float() * (scale or 1.0)


@pytest.mark.parametrize("scale", [None, 0.013])
def test_weights_stored_in_fp8_are_multiplied_out(model: Model, single: Path, scale: float | None) -> None:
    fused, t5 = (
        "model.diffusion_model.double_blocks.1.img_attn.qkv.weight",
        f"{T5}encoder.block.1.layer.0.SelfAttention.o.weight",
    )
    worth: dict[str, torch.Tensor] = {}

    def store(tensors: Tensors) -> None:
        for name in (fused, t5):
            worth[name] = in_fp8(tensors, name, scale)
        if scale is not None:
            for prefix in ("model.diffusion_model.", T5):
                tensors[f"{prefix}scaled_fp8"] = RawTensor("F8_E4M3", (0,), b"")

    change(single, store)
    loaded = load_base(single, strict=True)
    denoiser, own = (one.parts["denoiser"].state_dict() for one in (loaded, model))
    for place, layer in enumerate(("to_q", "to_k", "to_v")):
        found = denoiser[f"transformer_blocks.1.attn.{layer}.weight"]
        assert torch.equal(found, worth[fused][24 * place : 24 * (place + 1)])
        assert not torch.equal(found, own[f"transformer_blocks.1.attn.{layer}.weight"])
    found = loaded.parts["text_encoder_2"].state_dict()["encoder.block.1.layer.0.SelfAttention.o.weight"]
    assert torch.equal(found, worth[t5])
    assert torch.equal(loaded.pristine["denoiser.transformer_blocks.1.attn.to_v.weight"].float(), worth[fused][48:])


@pytest.mark.parametrize("names", [("shared",), ("encoder.embed_tokens",), ("shared", "encoder.embed_tokens")])
def test_t5_s_embedding_is_one_under_either_name(model: Model, single: Path, names: tuple[str, ...]) -> None:
    def rename(tensors: Tensors) -> None:
        held = [name for name in tensors if name in (f"{T5}shared.weight", f"{T5}encoder.embed_tokens.weight")]
        embedding = next(tensors.pop(name) for name in held)
        for name in names:
            tensors[f"{T5}{name}.weight"] = embedding

    change(single, rename)
    loaded = load_base(single, strict=True)
    assert same(loaded, model)
    t5: Any = loaded.parts["text_encoder_2"]
    assert t5.shared.weight is t5.encoder.embed_tokens.weight


def test_clip_s_ballast_is_passed_over_and_every_other_key_is_noted(model: Model, single: Path) -> None:
    prefix = PREFIXES["text_encoder"]

    def add(tensors: Tensors) -> None:
        tensors[f"{prefix}text_projection.weight"] = tensorfile.raw(np.ones((24, 24), np.float32))
        tensors["text_encoders.clip_l.logit_scale"] = tensorfile.raw(np.ones((), np.float32))
        tensors[f"{prefix}text_model.embeddings.position_ids"] = tensorfile.raw(np.arange(77)[None])

    change(single, add)
    assert same(load_base(single, strict=True), model)
    change(single, lambda tensors: tensors.update({"vae.surplus": tensorfile.raw(np.ones(1, np.float32))}))
    assert "surplus" in " ".join(load_base(single).notes)


# --- files that say nothing of their size ----------------------------------------------------


def test_files_without_settings_are_of_the_published_size_and_their_blocks_are_counted(
    model: Model, base: Path, apart: BaseFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    published_size(monkeypatch, apart.model, *apart.others)
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(base / name, apart.model.parent / name)
    loaded = load_base(apart)
    assert same(loaded, model)
    assert bases.resolution(apart) == loaded.resolution
    assert loaded.guidance == "distilled"
    assert loaded.objective.shift == DynamicShift(256, 4096, 0.5, 1.15)


def test_a_file_without_guidance_is_schnell(apart: BaseFiles, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published_size(monkeypatch, apart.model, *apart.others)

    def drop(tensors: Tensors) -> None:
        for name in [name for name in tensors if name.startswith("guidance_in.")]:
            del tensors[name]

    change(apart.model, drop)
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(base / name, apart.model.parent / name)
    loaded = load_base(apart)
    assert loaded.variant.architecture == "flux-1-schnell"
    assert loaded.objective.shift == 1.0
    assert loaded.distilled_steps


MOD, QKV = "double_blocks.0.img_mod.lin.weight", "double_blocks.0.img_attn.qkv.weight"
WHOLE = {MOD: (18432, 3072), QKV: (9216, 3072), "img_in.weight": (3072, 64)}


def header_of(path: Path, keys: dict[str, tuple[int, ...]]) -> Path:
    """A file with these shapes; its bytes are a hole."""
    places, at = {}, 0
    for name, shape in keys.items():
        size = int(np.prod(shape))
        places[name] = {"dtype": "F8_E4M3", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(places).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    return path


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_the_published_files_are_told_apart_by_their_keys(tmp_path: Path, prefix: str) -> None:
    keys = {f"{prefix}{name}": shape for name, shape in WHOLE.items()}
    found = recognise(header_of(tmp_path / "schnell.safetensors", keys))
    assert found is not None
    assert found.architecture == "flux-1-schnell"
    dev = {**keys, f"{prefix}guidance_in.in_layer.weight": (3072, 256)}
    found = recognise(header_of(tmp_path / "dev.safetensors", dev))
    assert found is not None
    assert found.architecture == "flux-1-dev"
    fill = {**dev, f"{prefix}img_in.weight": (3072, 384)}
    assert recognise(header_of(tmp_path / "fill.safetensors", fill)) == found


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({QKV: (9216, 3072), "distilled_guidance_layer.in_proj.weight": (5120, 64)}, "Chroma"),
        ({QKV: (18432, 6144), "double_stream_modulation_img.lin.weight": (36864, 6144)}, "FLUX.2"),
        ({**WHOLE, "img_in.weight": (3072, 128)}, "for control"),
    ],
    ids=["Chroma", "FLUX.2", "Canny and Depth"],
)
def test_relatives_are_refused_by_what_they_are(tmp_path: Path, keys: dict[str, tuple[int, ...]], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        recognise(header_of(tmp_path / "other.safetensors", keys))


@pytest.mark.parametrize(
    "keys",
    [
        {"double_blocks.0.img_mod.lin.weight": (6144, 1024)},
        {"double_blocks.0.img_mod.linear.weight": (18432, 3072)},
        {f"diffusion_model.{QKV.replace('.weight', '.lora_A.weight')}": (16, 3072)},
        {"decoder.mid.block_1.conv1.weight": (512, 512, 3, 3), "decoder.conv_in.weight": (512, 16, 3, 3)},
        {"encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)},
    ],
    ids=["another width", "HunyuanVideo", "LoRA", "VAE", "T5"],
)
def test_files_that_are_something_else_are_not_recognised(tmp_path: Path, keys: dict[str, tuple[int, ...]]) -> None:
    assert recognise(header_of(tmp_path / "other.safetensors", keys)) is None


def test_folders_of_relatives_are_refused_or_not_recognised(base: Path, tmp_path: Path) -> None:
    index = json.loads((base / "model_index.json").read_text(encoding="utf-8"))
    tiny.write_json(tmp_path / "transformer" / "config.json", {"in_channels": 128, "out_channels": 64})
    for told, said in (
        ({"_class_name": "Flux2Pipeline"}, "FLUX.2"),
        ({"_class_name": "ChromaPipeline"}, "Chroma"),
        (index, "for control"),
    ):
        tiny.write_json(tmp_path / "model_index.json", told)
        with pytest.raises(ModelError, match=said):
            recognise(tmp_path)
    tiny.write_json(tmp_path / "model_index.json", {**index, "transformer": ["diffusers", "SD3Transformer2DModel"]})
    assert recognise(tmp_path) is None


def test_an_autoencoder_of_another_base_is_refused(base: Path, apart: BaseFiles, tmp_path: Path) -> None:
    assert apart.vae is not None
    told = json.loads(tensorfile.read_header(apart.vae).metadata["velatura.config"])
    told["vae"]["latent_channels"] = 8
    change(apart.vae, nothing, **{"velatura.config": json.dumps(told)})
    with pytest.raises(ModelError, match=r"takes 16 channels, .* has 32"):
        load_base(apart)
    sd = header_of(
        tmp_path / "vae.safetensors",
        {"decoder.mid.block_1.conv1.weight": (512, 512, 3, 3), "decoder.conv_in.weight": (512, 4, 3, 3)},
    )
    with pytest.raises(ModelError, match="holds no part"):
        load_base(BaseFiles(apart.model, sd, apart.text_encoders))


def test_damaged_settings_are_one_sentence(single: Path) -> None:
    for told in ({"family": "flux1"}, {"family": "flux1", "transformer": {}}, {"family": "flux1", "transformer": 3}):
        change(single, nothing, **{"velatura.config": json.dumps(told)})
        with pytest.raises(ModelError, match=r"velatura\.config .* is damaged"):
            load_base(single)


# --- the tokenizer of T5 ---------------------------------------------------------------------


def test_t5_s_tokenizer_is_looked_for_beside_its_file_then_in_the_cache_then_on_the_network(
    base: Path,
    model: Model,
    apart: BaseFiles,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import huggingface_hub

    asked: list[str] = []

    def fetch(repository: str, name: str, **_: Any) -> str:
        asked.append(f"{repository}/{name}")
        assert "fetching the tokenizer of T5 (1.4 MB), once" in caplog.text
        return str(base / "tokenizer_2" / "tokenizer.json")

    def nowhere(repository: str, name: str, **_: Any) -> Any:
        return None

    def cached(repository: str, name: str, **_: Any) -> Any:
        return str(base / "tokenizer_2" / "tokenizer.json") if repository.endswith("FLUX.1-schnell") else None

    published_size(monkeypatch, apart.model, *apart.others)
    folder = apart.model.parent
    shutil.copytree(base / "tokenizer", folder / "tokenizer")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", nowhere)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    with caplog.at_level(logging.WARNING):
        assert load_base(apart).tokenizers[1].count("a red boat") == 3
    assert asked == ["google-t5/t5-base/tokenizer.json"]

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    load_base(apart)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", nowhere)
    for name in ("tokenizer_2", "t5_tokenizer"):
        shutil.copytree(base / "tokenizer_2", folder / name)
        check_same_tokens(load_base(apart), model)
        shutil.rmtree(folder / name)
    assert len(asked) == 1


def check_same_tokens(loaded: Model, model: Model) -> None:
    text = plain("a red boat on the sea, 🦊")
    assert loaded.tokenizers[1].encode(text, 20) == model.tokenizers[1].encode(text, 20)


def test_a_tokenizer_that_cannot_be_had_or_is_another_s_is_one_sentence_with_the_way_out(
    base: Path, apart: BaseFiles, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def unconnected(repository: str, name: str, **_: Any) -> Any:
        raise ConnectionError("no network")

    published_size(monkeypatch, apart.model, *apart.others)
    folder = apart.model.parent
    shutil.copytree(base / "tokenizer", folder / "tokenizer")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unconnected)
    with pytest.raises(ModelError, match="without the tokenizer of T5") as problem:
        load_base(apart)
    assert "https://huggingface.co/google-t5/t5-base" in str(problem.value.fix)
    assert str(folder / "t5_tokenizer") in str(problem.value.fix)
    (home / "config.toml").write_text("offline = true\n", encoding="utf-8")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: pytest.fail("was asked for"))
    with pytest.raises(ModelError, match="fetching it is switched off"):
        load_base(apart)

    shutil.copytree(base / "tokenizer_2", folder / "tokenizer_2")
    monkeypatch.setitem(configuration.TEXT_ENCODER_2, "vocab_size", 512)
    with pytest.raises(ModelError, match="not the one of the base's T5"):
        load_base(apart)
    (folder / "tokenizer_2" / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="tokenizer cannot be read"):
        load_base(apart)
    (folder / "tokenizer_2" / "tokenizer.json").rename(folder / "tokenizer_2" / "spiece.model")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="package sentencepiece") as problem:
        load_base(apart)
    assert "pip install sentencepiece" in str(problem.value.fix)


# --- in use ----------------------------------------------------------------------------------


def test_a_lora_is_trained_on_separate_files_and_painted_with_on_the_folder(
    base: Path, apart: BaseFiles, tmp_path: Path
) -> None:
    project = tiny.project(
        tmp_path / "project",
        apart.model,
        f"base.vae={apart.vae}",
        f"base.text_encoders={json.dumps([str(path) for path in apart.text_encoders])}",
        "train.steps=2",
        "checkpoints.every=2",
    )
    assert api.plan(project).steps == 2
    list(api.train(project))
    (lora,) = (project / "loras").glob("*.safetensors")
    told = tensorfile.read_header(lora).metadata
    assert told["ss_base_model_version"] == "flux1"
    assert told["modelspec.architecture"] == "flux-1-dev/lora"
    assert "modelspec.prediction_type" not in told
    painted = []
    for number, (model, vae, text_encoders) in enumerate(
        [(base, "", ()), (apart.model, str(apart.vae), tuple(map(str, apart.text_encoders)))]
    ):
        request = api.GenerateRequest(
            "a boat", base=str(model), vae=vae, text_encoders=text_encoders, loras=(lora.stem,), seed=3, steps=2,
            width=80, height=48, project=project, out=tmp_path / f"{number}",
        )  # fmt: skip
        list(api.generate(request))
        (picture,) = (tmp_path / f"{number}").glob("*.png")
        with Image.open(picture) as image:
            painted.append(np.asarray(image))
            assert "CFG scale: 1" in image.info["parameters"]
    assert painted[0].shape == (48, 80, 3)
    assert np.array_equal(*painted)
