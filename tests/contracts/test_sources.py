"""Whatever a base is given as, it is the same base: every layout of every family, as other programs write it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import sources
from tests.contracts.test_families import conditioned
from velatura import randomness, tensorfile
from velatura.bases import FAMILIES, recognise
from velatura.errors import ModelError
from velatura.family import Model, load_base
from velatura.tensorfile import RawTensor
from velatura.text.weighted import plain

PROMPT = "a red boat on the sea, at night"


@pytest.fixture(scope="module", params=list(FAMILIES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return sources.exact(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Model:
    return load_base(folder)


@torch.no_grad()
def said(model: Model) -> list[Tensor]:
    """What a base makes of a prompt, of noise and of a picture."""
    side = model.resolution // model.latent_factor
    latents = randomness.normal((1, model.latent_channels, side, side + 4), 1, "latents")
    text = model.family.encode_prompts(model, [plain(PROMPT)])
    prediction = model.family.predict(
        model, latents, torch.tensor([0.7], dtype=torch.float64), conditioned(model, text)
    )
    return [text.tokens_BLD, prediction, model.family.decode_latents(model, latents)]


@pytest.mark.parametrize("kind", list(sources.SOURCES))
def test_every_source_is_the_same_base(
    loaded: Model, folder: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.pickled_says(monkeypatch)
    files = sources.SOURCES[kind](loaded.family.name, folder, tmp_path)
    assert recognise(files) == loaded.variant
    found = load_base(files, strict=True)
    assert found.notes == ()
    for one, other in zip(said(found), said(loaded), strict=True):
        assert torch.equal(one, other)
    assert set(found.pristine) == set(loaded.pristine)
    assert all(torch.equal(found.pristine[name].float(), tensor.float()) for name, tensor in loaded.pristine.items())


def test_a_key_of_no_part_is_noted_and_refused_only_where_the_user_is_strict(
    loaded: Model, folder: Path, tmp_path: Path
) -> None:
    path = sources.as_one_file(loaded.family.name, folder, tmp_path).model
    before = path.read_bytes()
    for name, noted in (("surplus.weight", True), ("model_ema.decay", False), ("betas", False), ("v_pred", False)):
        path.write_bytes(before)
        tensors, metadata = tensorfile.read(path)
        kept = {name: RawTensor(one.dtype, one.shape, bytes(one.data)) for name, one in tensors.items()}
        path.write_bytes(tensorfile.to_bytes({**kept, name: tensorfile.raw(np.zeros(0, np.float32))}, metadata))
        assert [name in note for note in load_base(path).notes] == [True] * noted
        if noted:
            with pytest.raises(ModelError, match=r"surplus\.weight"):
                load_base(path, strict=True)


def test_another_base_would_be_told_by_what_it_says(loaded: Model, folder: Path, tmp_path: Path) -> None:
    other = sources.exact(loaded.family.name, tmp_path / "other")
    path = next((other / ("unet" if (other / "unet").exists() else "transformer")).glob("*.safetensors"))
    tensors, metadata = tensorfile.read(path)
    kept = {name: RawTensor(one.dtype, one.shape, bytes(one.data)) for name, one in tensors.items()}
    name = next(name for name in kept if name.endswith("to_k.weight"))
    kept[name] = tensorfile.raw(-tensorfile.as_float32(kept[name]))
    path.write_bytes(tensorfile.to_bytes(kept, metadata))
    assert not torch.equal(said(load_base(other))[1], said(loaded)[1])
