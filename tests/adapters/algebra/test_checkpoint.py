"""A base that was loaded is the oracle: its weights are what a bake was to write, in whatever layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny, tiny_sdxl
from tests.adapters.algebra.files import apart
from tests.families.test_z_image_checkpoint import separate
from velatura import bases, tensorfile
from velatura.adapters import formats, writing
from velatura.adapters.algebra import store
from velatura.adapters.algebra.checkpoint import Checkpoint
from velatura.adapters.kinds import Dora, Full, Norm
from velatura.adapters.merge import Applied, merge
from velatura.adapters.weights import AdapterFile, Lora
from velatura.api import loras
from velatura.bases import BaseFiles
from velatura.errors import AdapterError, FileProblem, ModelError
from velatura.families import names
from velatura.families.flux1.save import to_single_file as flux1_file
from velatura.families.sd15.save import to_single_file as sd15_file
from velatura.family import load_base
from velatura.tensorfile import RawTensor
from velatura.weights.parts import PartFiles

SINGLE = {"sd15": sd15_file, "sdxl": tiny_sdxl.single_file, "flux1": flux1_file}
"""Family -> what writes its folder as one file in its authors' layout."""


@pytest.fixture(scope="module", params=tiny.BASES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.BASES[request.param](tmp_path_factory.mktemp("base") / request.param)


def opened(files: BaseFiles) -> Checkpoint:
    base = bases.locate(files)
    return Checkpoint(base.parts, keys=names.keys(base.variant.family), layers=names.layers_of(base))


def authors(folder: Path, into: Path) -> BaseFiles:
    """The same base in its authors' layout."""
    if folder.name == "z_image":
        into.mkdir()
        return separate(folder, into)
    into.mkdir()
    (into / "one.safetensors").write_bytes(SINGLE[folder.name](folder))
    return BaseFiles(into / "one.safetensors")


def adapter(folder: Path, path: Path, *, size: float = 0.3) -> Path:
    """A LoRA for every matrix of a base, in diffusers' form."""
    base = bases.locate(BaseFiles(folder))
    draw = np.random.default_rng(0)
    layers = {}
    for name, shape in names.layers_of(base).items():
        if len(shape) > 1 and "text_encoder" not in name.partition(".")[0]:
            down = draw.standard_normal((3, *shape[1:])).astype(np.float32) / np.sqrt(np.prod(shape[1:]))
            up = draw.standard_normal((shape[0], 3, *[1] * (len(shape) - 2))).astype(np.float32)
            layers[name] = Lora(np.float32(size) * down.astype(np.float32), up, 1.5)
    data = writing.to_bytes(
        AdapterFile(layers), keys=names.keys(base.variant.family), precision="F32", form="diffusers"
    )
    path.write_bytes(data)
    return path


def test_every_layer_is_found_in_a_folder_and_in_the_authors_layout(folder: Path, tmp_path: Path) -> None:
    ours, theirs = opened(BaseFiles(folder)), opened(authors(folder, tmp_path / "authors"))

    assert [name for name in ours.layers if name not in ours.weights] == []
    assert [name for name in ours.layers if name not in theirs.weights] == []
    for name in theirs.weights:
        np.testing.assert_array_equal(ours.read(name), theirs.read(name))


@pytest.mark.parametrize("layout", ["folder", "file"])
def test_a_baked_base_has_the_adapter_in_the_weights_that_are_loaded(folder: Path, tmp_path: Path, layout: str) -> None:
    if layout == "file" and folder.name not in SINGLE:
        pytest.skip("this family's bases lie in several files")
    source = folder if layout == "folder" else authors(folder, tmp_path / "authors").model
    lora = adapter(folder, tmp_path / "lora.safetensors")
    before = load_base(source)
    out = tmp_path / ("baked" if layout == "folder" else "baked.safetensors")

    done = loras.bake_loras(str(source), [(lora, 0.5)], out)

    after = load_base(out)
    keys, layers = names.keys(before.variant.family), names.layers_of(bases.locate(BaseFiles(source)))
    changes = formats.read(lora, keys=keys, layers=layers).layers
    assert sum(one.layers for one in done) and all(one.lost < 1e-5 for one in done)
    for part, network in before.parts.items():
        for name, weight in network.state_dict().items():
            found = after.parts[part].state_dict()[name]
            change = changes.get(f"{part}.{name.removesuffix('.weight')}")
            if change is None or not name.endswith(".weight"):
                torch.testing.assert_close(found, weight, rtol=0, atol=0)
            else:
                delta = torch.from_numpy(change.delta())
                torch.testing.assert_close(found, weight + 0.5 * delta.reshape(weight.shape), rtol=1e-5, atol=1e-6)
                assert (found - weight).norm() > 1e-3 * weight.norm()


def test_norms_and_biases_are_baked_in_the_authors_layout_too(folder: Path, tmp_path: Path) -> None:
    source = authors(folder, tmp_path / "authors").model if folder.name in SINGLE else folder
    base = bases.locate(BaseFiles(source))
    keys, layers = names.keys(base.variant.family), names.layers_of(base)
    before = load_base(source)
    weights = {f"{part}.{name}": one for part, net in before.parts.items() for name, one in net.state_dict().items()}
    draw = np.random.default_rng(1)
    chosen: dict[str, Norm | Full] = {}
    for name, shape in layers.items():
        bias = weights.get(f"{name}.bias")
        length = draw.standard_normal(shape[0]).astype(np.float32)
        if len(shape) == 1 and name.startswith("denoiser."):
            chosen[name] = Norm(length, None if bias is None else length[::-1].copy())
        elif name.endswith(("q_proj", "to_out.0", "attention.to_out.0")) and bias is not None:
            chosen[name] = Full(None, length)
    lora, out = tmp_path / "lora.safetensors", tmp_path / ("baked" if source.is_dir() else "baked.safetensors")
    data = writing.to_bytes(AdapterFile(chosen), keys=keys, precision="F32", form="kohya", layers=layers)
    lora.write_bytes(data)

    loras.bake_loras(str(source), [(lora, 0.5)], out)

    after = {
        f"{part}.{name}": one for part, net in load_base(out).parts.items() for name, one in net.state_dict().items()
    }
    assert len(chosen) > 5
    for name, weight in weights.items():
        layer, _, kind = name.rpartition(".")
        change = chosen.get(layer)
        delta = None if change is None else change.weight if kind == "weight" else change.bias
        expected = weight if delta is None else weight + 0.5 * torch.from_numpy(delta)
        torch.testing.assert_close(after[name], expected, rtol=1e-6, atol=1e-6)


def test_adapters_that_depend_on_the_weight_are_baked_as_they_are_merged(tmp_path: Path) -> None:
    folder = tiny.sd15(tmp_path / "sd15")
    loaded = load_base(folder)
    keys, layers = loaded.family.keys, names.layers_of(bases.locate(BaseFiles(folder)))
    plain = formats.read(adapter(folder, tmp_path / "a.safetensors"), keys=keys, layers=layers)
    lengths = {name: np.linspace(0.5, 2, layers[name][0], dtype=np.float32) for name in plain.layers}
    doras = {
        name: Dora(lora, lengths[name].reshape(-1, *[1] * (len(layers[name]) - 1)))
        for name, lora in plain.layers.items()
    }
    data = writing.to_bytes(AdapterFile(doras), keys=keys, precision="F32", form="kohya", layers=layers)
    (tmp_path / "b.safetensors").write_bytes(data)

    loras.bake_loras(str(folder), [(tmp_path / f"{one}.safetensors", 0.5) for one in "ab"], tmp_path / "baked")

    merge(loaded.parts, loaded.pristine, [Applied(plain.layers, 0.5, 0.5), Applied(doras, 0.5, 0.5)])
    baked = load_base(tmp_path / "baked").parts["denoiser"].state_dict()
    for name, weight in loaded.parts["denoiser"].state_dict().items():
        torch.testing.assert_close(baked[name], weight, rtol=1e-5, atol=1e-6)


def test_bases_that_hold_no_plain_weights_are_refused_in_a_sentence(tmp_path: Path) -> None:
    folder = tiny.sd15(tmp_path / "sd15")
    lora = adapter(folder, tmp_path / "lora.safetensors")
    gguf = tmp_path / "one.gguf"
    gguf.write_bytes(b"GGUF" + bytes(60))
    files = PartFiles((gguf,), "", "diffusers")
    with pytest.raises(ModelError, match="only safetensors files can be worked on"):
        Checkpoint({"denoiser": files}, keys=names.keys("sd15"), layers=names.layers("sd15"))

    eighth = tmp_path / "eighth.safetensors"
    tensors, metadata = tensorfile.read(authors(folder, tmp_path / "authors").model)
    small = {
        key: RawTensor("F8_E4M3", one.shape, bytes(len(one.data) // 4)) if one.dtype == "F32" else one
        for key, one in tensors.items()
    }
    eighth.write_bytes(tensorfile.to_bytes(small, metadata))
    with pytest.raises(AdapterError, match="weights of type F8_E4M3 cannot be baked into"):
        loras.bake_loras(str(eighth), [(lora, 1)], tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_rounding_is_told(tmp_path: Path) -> None:
    folder = tiny.sd15(tmp_path / "sd15")
    source = tmp_path / "half.safetensors"
    source.write_bytes(sd15_file(folder, "F16"))
    strong, weak = (adapter(folder, tmp_path / f"{size}.safetensors", size=size) for size in (1.0, 0.001))

    (one,) = loras.bake_loras(str(source), [(strong, 1)], tmp_path / "a.safetensors")
    (other,) = loras.bake_loras(str(source), [(weak, 1)], tmp_path / "b.safetensors")

    assert one.precision == "F16" and 1e-5 < one.lost < 2e-3 < 0.05 < other.lost


def test_a_bake_keeps_settings_adds_lineage_and_overwrites_nothing(tmp_path: Path) -> None:
    folder = tiny.sd15(tmp_path / "sd15")
    source = authors(folder, tmp_path / "authors").model
    lora = adapter(folder, tmp_path / "lora.safetensors")

    loras.bake_loras(str(source), [(lora, 1)], tmp_path / "a.safetensors")

    before, after = (tensorfile.read_header(path) for path in (source, tmp_path / "a.safetensors"))
    assert {key: after.metadata[key] for key in before.metadata} == before.metadata
    assert json.loads(after.metadata[store.LINEAGE])[0]["from"][0]["name"] == "lora.safetensors"
    assert after.entries.keys() == before.entries.keys()
    with pytest.raises(FileProblem, match="already"):
        loras.bake_loras(str(source), [(lora, 1)], source)


def test_what_was_baked_is_extracted_again(folder: Path, tmp_path: Path) -> None:
    lora = adapter(folder, tmp_path / "lora.safetensors")
    loras.bake_loras(str(folder), [(lora, 1)], tmp_path / "baked")

    done = loras.extract_lora(
        str(tmp_path / "baked"), str(folder), tmp_path / "b.safetensors", rank=3, conv_rank=3, precision="F32"
    )

    base = bases.locate(BaseFiles(folder))
    keys, layers = names.keys(base.variant.family), names.layers_of(base)
    wanted, found = (formats.read(path, keys=keys, layers=layers).layers for path in (lora, tmp_path / "b.safetensors"))
    assert done.error < 1e-4 and done.layers == len(wanted) and found.keys() == wanted.keys()
    for name, change in wanted.items():
        assert apart(found[name].delta(), change.delta()) < 1e-4


def test_an_extraction_says_what_its_rank_lost(tmp_path: Path) -> None:
    folder = tiny.sd15(tmp_path / "sd15")
    lora = adapter(folder, tmp_path / "lora.safetensors")
    loras.bake_loras(str(folder), [(lora, 1)], tmp_path / "baked")

    done = loras.extract_lora(str(tmp_path / "baked"), str(folder), tmp_path / "b.safetensors", rank=1)

    assert 0.1 < done.error < 0.9 < 1 and done.worst_error >= done.error and done.left_out > 0


def test_checkpoints_that_do_not_differ_or_are_of_two_families_are_refused(tmp_path: Path) -> None:
    one, other = tiny.BASES["sd15"](tmp_path / "a"), tiny.BASES["sdxl"](tmp_path / "b")

    with pytest.raises(AdapterError, match="do not differ"):
        loras.extract_lora(str(one), str(one), tmp_path / "c.safetensors")
    with pytest.raises(AdapterError, match="sdxl"):
        loras.extract_lora(str(one), str(other), tmp_path / "c.safetensors")
